package flow

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"slipway/internal/errs"
)

// NewMemory lends the journal of these tests to flowtest.
func NewMemory() Journal { return &memory{} }

// memory is a Journal.
type memory struct {
	mu   sync.Mutex
	recs map[string]Record
	fail error // of the next saves
}

func (m *memory) Load(_ context.Context, run string) (Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.recs[run]
	if !ok {
		return r, errs.E(errs.NotFound, "no run "+run)
	}
	r.Steps = slices.Clone(r.Steps)
	return r, nil
}

func (m *memory) Save(_ context.Context, run string, r Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	if m.recs[run].Rev != r.Rev {
		return errs.E(errs.Conflict, "run "+run)
	}
	if m.recs == nil {
		m.recs = map[string]Record{}
	}
	r.Rev++
	m.recs[run] = r
	return nil
}

// elsewhere is an owner that cannot be looked at.
func elsewhere(command string) Owner {
	return Owner{PID: 1, BootID: "other", StartTime: "1", Command: command, Machine: "other"}
}

// steps gives steps that log their names; do replaces the work of some.
func steps(log *[]string, inputs string, do map[string]func(context.Context, Beat) error) []Step {
	var out []Step
	for i, name := range []string{"fetch", "build", "collect"} {
		out = append(out, Step{Name: name, Inputs: inputs[i : i+1], Do: func(ctx context.Context, beat Beat) error {
			*log = append(*log, name)
			if f := do[name]; f != nil {
				return f(ctx, beat)
			}
			return nil
		}})
	}
	return out
}

func TestRunResumes(t *testing.T) {
	t.Parallel()
	boom := errors.New("disk on fire")
	fail := func(err error) func(context.Context, Beat) error {
		return func(context.Context, Beat) error { return err }
	}
	type call struct {
		inputs string
		do     map[string]func(context.Context, Beat) error
		ran    string
		kind   errs.Kind
		state  State
	}
	for name, calls := range map[string][]call{
		"done once": {
			{"abc", nil, "fetch build collect", "", Done},
			{"abc", nil, "", "", Done},
		},
		"other inputs run it and all after it": {
			{"abc", nil, "fetch build collect", "", Done},
			{"axc", nil, "build collect", "", Done},
			{"abc", nil, "build collect", "", Done},
			{"xbc", nil, "fetch build collect", "", Done},
		},
		"goes on after a failure": {
			{"abc", map[string]func(context.Context, Beat) error{"build": fail(boom)}, "fetch build", errs.Internal, Failed},
			{"abc", nil, "build collect", "", Done},
		},
		"waits": {
			{"abc", map[string]func(context.Context, Beat) error{"build": fail(Wait("approval", "slipway approve"))}, "fetch build", errs.Pending, Waiting},
			{"abc", map[string]func(context.Context, Beat) error{"build": fail(Wait("approval"))}, "build", errs.Pending, Waiting},
			{"abc", nil, "build collect", "", Done},
		},
		"panics": {
			{"abc", map[string]func(context.Context, Beat) error{"collect": func(context.Context, Beat) error { panic("ouch") }}, "fetch build collect", errs.Internal, Failed},
			{"abc", nil, "collect", "", Done},
		},
	} {
		t.Run(name, func(t *testing.T) {
			j := &memory{}
			for i, c := range calls {
				var log []string
				err := Run(t.Context(), j, "build 1.1", Self("slipway build"), steps(&log, c.inputs, c.do), Options{})
				if got := strings.Join(log, " "); got != c.ran {
					t.Errorf("call %d ran %q, want %q", i, got, c.ran)
				}
				if err == nil && c.kind != "" || err != nil && errs.KindOf(err) != c.kind {
					t.Errorf("call %d: error %v, want kind %q", i, err, c.kind)
				}
				if got := j.recs["build 1.1"].State(time.Now()); got != c.state {
					t.Errorf("call %d: state %s, want %s", i, got, c.state)
				}
			}
		})
	}
}

func TestRecordTellsAttemptsErrorAndStack(t *testing.T) {
	t.Parallel()
	j := &memory{}
	var log []string
	do := map[string]func(context.Context, Beat) error{"build": func(context.Context, Beat) error { panic("ouch") }}
	for range 2 {
		err := Run(t.Context(), j, "r", Self(""), steps(&log, "abc", do), Options{})
		if err == nil || !strings.HasPrefix(err.Error(), "build: panic: ouch") || strings.Contains(err.Error(), "goroutine") {
			t.Fatalf("error %v", err)
		}
	}
	s := j.recs["r"].Steps[1]
	if s.Attempts != 2 || s.Status != Failed || !strings.Contains(s.Error, "flow_test.go") || len(j.recs["r"].Steps) != 2 {
		t.Errorf("record %+v", s)
	}
}

func TestOnStepTellsSkippedBegunAndEnded(t *testing.T) {
	t.Parallel()
	j := &memory{}
	var log, seen []string
	on := func(e StepEvent) {
		s := e.Step.Name + " " + string(e.Step.Status)
		if e.Skipped {
			s += " skipped"
		}
		seen = append(seen, s)
	}
	for _, inputs := range []string{"abc", "abx"} {
		if err := Run(t.Context(), j, "r", Self(""), steps(&log, inputs, nil), Options{OnStep: on}); err != nil {
			t.Fatal(err)
		}
	}
	want := "fetch started,fetch done,build started,build done,collect started,collect done," +
		"fetch done skipped,build done skipped,collect started,collect done"
	if got := strings.Join(seen, ","); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestInterruptedRunIsLostAndResumes(t *testing.T) {
	t.Parallel()
	j := &memory{}
	ctx, cancel := context.WithCancel(t.Context())
	var log []string
	do := map[string]func(context.Context, Beat) error{"build": func(ctx context.Context, _ Beat) error {
		cancel()
		return ctx.Err()
	}}
	err := Run(ctx, j, "r", Self(""), steps(&log, "abc", do), Options{})
	if !errs.Is(err, errs.Interrupted) || j.recs["r"].State(time.Now()) != Lost {
		t.Fatalf("%v, state %s", err, j.recs["r"].State(time.Now()))
	}
	log = nil
	if err := Run(t.Context(), j, "r", Self(""), steps(&log, "abc", nil), Options{}); err != nil || strings.Join(log, " ") != "build collect" {
		t.Fatalf("%v, ran %s", err, log)
	}
}

func TestStopBetweenStepsStartsNoOther(t *testing.T) {
	t.Parallel()
	j := &memory{}
	ctx, cancel := context.WithCancel(t.Context())
	var log []string
	do := map[string]func(context.Context, Beat) error{"build": func(context.Context, Beat) error { cancel(); return nil }}
	err := Run(ctx, j, "r", Self(""), steps(&log, "abc", do), Options{})
	if !errs.Is(err, errs.Interrupted) || strings.Join(log, " ") != "fetch build" || j.recs["r"].State(time.Now()) != Lost {
		t.Fatalf("%v, ran %s", err, log)
	}
}

func TestOwnerAtWorkLocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		var log []string
		release := make(chan struct{})
		first := make(chan error)
		go func() {
			do := map[string]func(context.Context, Beat) error{"build": func(_ context.Context, beat Beat) error {
				beat("3 of 7")
				<-release
				return nil
			}}
			first <- Run(t.Context(), j, "r", elsewhere("slipway build"), steps(&log, "abc", do), Options{})
		}()
		// Ten leases: only the heartbeats keep the owner alive.
		time.Sleep(10*Lease + time.Second)
		rec, _ := j.Load(t.Context(), "r")
		if rec.State(time.Now()) != Running || rec.Note != "3 of 7" {
			t.Errorf("state %s, note %q", rec.State(time.Now()), rec.Note)
		}
		err := Run(t.Context(), j, "r", elsewhere("second"), steps(new([]string), "abc", nil), Options{})
		if !errs.Is(err, errs.Locked) || !strings.Contains(err.Error(), "slipway build (process 1)") {
			t.Errorf("second run: %v", err)
		}
		close(release)
		if err := <-first; err != nil {
			t.Error(err)
		}
		if got := strings.Join(log, " "); got != "fetch build collect" {
			t.Errorf("ran %s", got)
		}
	})
}

func TestLeaseRunsOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		rec := Record{Owner: elsewhere("gone"), Heartbeat: time.Now(), Steps: []StepRecord{
			{Name: "fetch", Inputs: "a", Status: Done, Attempts: 1}, {Name: "build", Inputs: "b", Status: Started, Attempts: 1}}}
		if err := j.Save(t.Context(), "r", rec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(Lease)
		if got := rec.State(time.Now()); got != Running {
			t.Errorf("at the end of the lease: %s", got)
		}
		time.Sleep(time.Nanosecond)
		if got := rec.State(time.Now()); got != Lost {
			t.Errorf("after the lease: %s", got)
		}
		var log []string
		if err := Run(t.Context(), j, "r", elsewhere("next"), steps(&log, "abc", nil), Options{}); err != nil || strings.Join(log, " ") != "build collect" {
			t.Errorf("%v, ran %s", err, log)
		}
		if got := j.recs["r"].Steps[1].Attempts; got != 2 {
			t.Errorf("%d attempts", got)
		}
	})
}

func TestTakenOverRunStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		var log []string
		do := map[string]func(context.Context, Beat) error{"build": func(ctx context.Context, _ Beat) error {
			rec, _ := j.Load(ctx, "r")
			rec.Owner = elsewhere("thief")
			if err := j.Save(ctx, "r", rec); err != nil {
				t.Error(err)
			}
			<-ctx.Done()
			return nil
		}}
		err := Run(t.Context(), j, "r", elsewhere("victim"), steps(&log, "abc", do), Options{})
		if !errs.Is(err, errs.Locked) || !strings.Contains(err.Error(), "thief") || strings.Join(log, " ") != "fetch build" {
			t.Errorf("%v, ran %s", err, log)
		}
		if got := j.recs["r"].Owner.Command; got != "thief" {
			t.Errorf("the journal is %s's", got)
		}
	})
}

func TestUnsavedHeartbeatsStopTheRunAfterALease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &memory{}
		var log []string
		full := errs.E(errs.Unavailable, "disk full")
		do := map[string]func(context.Context, Beat) error{"fetch": func(ctx context.Context, _ Beat) error {
			j.mu.Lock()
			j.fail = full
			j.mu.Unlock()
			<-ctx.Done()
			return ctx.Err()
		}}
		begin := time.Now()
		err := Run(t.Context(), j, "r", elsewhere("x"), steps(&log, "abc", do), Options{})
		if !errs.Is(err, errs.Unavailable) || time.Since(begin) <= Lease {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
}

func TestAlive(t *testing.T) {
	t.Parallel()
	self := Self("me")
	now := time.Now()
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	with := func(change func(*Owner)) Owner { o := self; change(&o); return o }
	for name, tt := range map[string]struct {
		o    Owner
		beat time.Duration // ago
		want bool
	}{
		"self, no heartbeat for long":   {self, 24 * time.Hour, true},
		"process gone":                  {with(func(o *Owner) { o.PID = gone.Process.Pid }), 0, false},
		"pid given again":               {with(func(o *Owner) { o.StartTime = "1" }), 0, false},
		"machine booted again":          {with(func(o *Owner) { o.BootID = "x"; o.Machine = Self("").Machine }), 0, Self("").Machine == ""},
		"other machine":                 {elsewhere(""), Lease, true},
		"other machine, lease over":     {elsewhere(""), Lease + 1, false},
		"other container":               {with(func(o *Owner) { o.PIDSpace = "pid:[1]"; o.PID = 1 << 30 }), Lease, true},
		"other container, lease over":   {with(func(o *Owner) { o.PIDSpace = "pid:[1]"; o.PID = 1 << 30 }), Lease + 1, false},
		"nothing known, lease decides":  {Owner{}, 0, true},
		"nothing known, the lease over": {Owner{}, Lease + 1, false},
	} {
		if got := Alive(tt.o, now.Add(-tt.beat), now); got != tt.want {
			t.Errorf("%s: alive %t", name, got)
		}
	}
	if self.PID == 0 || self.BootID == "" || self.StartTime == "" {
		t.Errorf("Self gives %+v", self)
	}
}
