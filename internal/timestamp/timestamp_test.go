package timestamp

import (
	"errors"
	"strings"
	"testing"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

var day0 = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

func digest(s string) distro.Digest { return distro.DigestOf([]byte(s)) }

func pointer(serial int, issued time.Time) Timestamp {
	return New(Timestamp{Distribution: "halyard", Series: "1", Serial: serial, Release: distro.NewVersion("1", serial), At: issued,
		Snapshot: digest("snapshot"), History: digest("at"), Ends: "2031-12-01"}, issued, Life)
}

func TestEncodeAndParse(t *testing.T) {
	t.Parallel()
	want := pointer(3, day0.Add(999*time.Millisecond).In(time.FixedZone("x", 3600)))
	got, err := Parse(want.Encode())
	if err != nil || got != want {
		t.Fatalf("%+v, %v, want %+v", got, err, want)
	}
	if got.Issued != day0 || got.Expires.Sub(got.Issued) != Life {
		t.Errorf("issued %s, expires %s", got.Issued, got.Expires)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good := string(pointer(3, day0).Encode())
	for _, x := range []struct{ name, old, new, want string }{
		{"no JSON", "{", "<", "cannot be read"},
		{"newer schema", `"schema": 1`, `"schema": 2`, "this program knows 1"},
		{"no serial", `"serial": 3`, `"serial": 0`, "what is current"},
		{"negative serial", `"serial": 3`, `"serial": -3`, "what is current"},
		{"huge serial", `"serial": 3`, `"serial": 99999999999999999999`, "cannot be read"},
		{"no digest", "sha256:", "md5:", "no digest"},
		{"expires before", `"expires": "2026-12-31`, `"expires": "2026-11-30`, "no time in which it is good"},
	} {
		text := strings.Replace(good, x.old, x.new, 1)
		if text == good {
			t.Fatalf("%s: nothing replaced in %s", x.name, good)
		}
		if _, err := Parse([]byte(text)); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", x.name, err, x.want)
		}
	}
	if _, err := Parse(make([]byte, MaxSize+1)); !errs.Is(err, errs.Invalid) {
		t.Errorf("too large: %v", err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	seen := Seen{}.After(pointer(3, day0))
	forked := pointer(3, day0)
	forked.Snapshot = digest("another")
	for _, x := range []struct {
		name   string
		p      Timestamp
		change func(*Expected)
		want   Reason // "" is good
	}{
		{"the same again", pointer(3, day0), nil, ""},
		{"refreshed", pointer(3, day0.Add(time.Hour)), nil, ""},
		{"a mirror that is one refresh behind", pointer(3, day0.Add(-24*time.Hour)), nil, ""},
		{"a new serial", pointer(4, day0.Add(time.Hour)), nil, ""},
		{"first contact", pointer(2, day0), func(e *Expected) { e.Seen = Seen{} }, ""},
		{"an old serial", pointer(2, day0), nil, Replayed},
		{"an old serial that has expired, too", pointer(2, day0.Add(-40*24*time.Hour)), nil, Replayed},
		{"another history of the serial", forked, nil, Replayed},
		{"expired", pointer(3, day0), func(e *Expected) { e.Now = day0.Add(Life + time.Hour) }, Frozen},
		{"just expired: clocks differ", pointer(3, day0), func(e *Expected) { e.Now = day0.Add(Life + time.Minute) }, ""},
		{"clock before the pointer", pointer(4, day0.Add(48*time.Hour)), func(e *Expected) { e.Now = day0.Add(24 * time.Hour) }, Clock},
		{"clock before what was seen", pointer(3, day0.Add(-48*time.Hour)), func(e *Expected) { e.Now = day0.Add(-24 * time.Hour) }, Clock},
		{"clock before the system was made", pointer(3, day0), func(e *Expected) { e.NotBefore = day0.Add(72 * time.Hour) }, Clock},
		{"1970", pointer(3, day0), func(e *Expected) { e.Now = time.Unix(0, 0) }, Clock},
		{"another distribution", pointer(3, day0), func(e *Expected) { e.Distribution = "other" }, Foreign},
		{"another series", pointer(3, day0), func(e *Expected) { e.Series = "2" }, Foreign},
	} {
		e := Expected{Distribution: "halyard", Series: "1", Seen: seen, Now: day0.Add(2 * time.Hour), NotBefore: day0.Add(-time.Hour)}
		if x.change != nil {
			x.change(&e)
		}
		err := x.p.Check(e)
		var r *Refusal
		errors.As(err, &r)
		switch {
		case x.want == "" && err != nil:
			t.Errorf("%s: %v", x.name, err)
		case x.want != "" && (r == nil || r.Reason != x.want || !errs.Is(err, errs.Denied) || len(errs.Hints(err)) == 0):
			t.Errorf("%s: %v, want %s", x.name, err, x.want)
		}
	}
}

// What is seen never goes back, whatever order pointers come in.
func TestSeenOnlyRises(t *testing.T) {
	t.Parallel()
	s := Seen{}.After(pointer(3, day0)).After(pointer(4, day0.Add(-time.Hour)))
	if s.Serial != 4 || s.Issued != day0 {
		t.Errorf("%+v", s)
	}
}

func TestAt(t *testing.T) {
	t.Parallel()
	a, err := ParseAt([]byte(`{"schema":1,"series":"1","entries":[
{"at":"2026-01-01T00:00:00Z","serial":1,"release":"1.1"},
{"at":"2026-02-01T00:00:00Z","serial":2,"release":"1.2"},
{"at":"2026-02-10T00:00:00Z","serial":3,"release":"1.2"},
{"at":"2026-03-01T00:00:00Z","serial":5,"release":"1.3"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := a.Serial("1.2"); n != 3 || err != nil {
		t.Errorf("1.2: %d, %v", n, err)
	}
	if _, err := a.Serial("1.9"); !errs.Is(err, errs.NotFound) || !strings.Contains(errs.Hints(err)[0], "1.1 (2026-01-01), 1.2 (2026-02-01), 1.3") {
		t.Errorf("1.9: %v %v", err, errs.Hints(err))
	}
	for date, want := range map[string]int{"2025-12-31": 0, "2026-01-01": 1, "2026-02-05": 2, "2026-02-28": 3, "2030-01-01": 5} {
		at, _ := time.Parse(time.DateOnly, date)
		if n, err := a.On(at); n != want || (err != nil) != (want == 0) {
			t.Errorf("%s: %d, %v, want %d", date, n, err, want)
		}
	}
	if _, err := ParseAt([]byte(`{"schema":1,"entries":[{"serial":2},{"serial":2}]}`)); !errs.Is(err, errs.Invalid) {
		t.Errorf("a serial twice: %v", err)
	}
}

// Whatever bytes come, the readers give an error or something that can be written again.
func FuzzParse(f *testing.F) {
	f.Add(pointer(3, day0).Encode())
	f.Add([]byte(`{"schema":1,"series":"1","serial":1,"feeds":[{"scope":"noarch","packages":1,"repomd":"sha256:00"}]}`))
	f.Add([]byte(`{"schema":1,"series":"1","entries":[{"at":"2026-01-01T00:00:00Z","serial":1,"release":"1.1"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := Parse(b); err == nil {
			if again, err := Parse(p.Encode()); err != nil || again.Serial != p.Serial || !again.Expires.Equal(p.Expires) {
				t.Errorf("%+v became %+v, %v", p, again, err)
			}
			_ = p.Check(Expected{Distribution: p.Distribution, Series: p.Series, Now: p.Issued})
		}
		if a, err := ParseAt(b); err == nil {
			_, _ = a.On(day0)
			_, _ = a.Serial("1.1")
		}
		_, _ = ParseSnapshot(b)
	})
}
