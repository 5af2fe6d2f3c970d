package gate

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/distro"
)

var (
	now  = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	spec = distro.CheckSpec{ID: "installs", Level: distro.Block}
)

func finding(id string, level distro.Level, boards ...string) distro.Finding {
	return distro.Finding{Check: "installs", ID: id, Level: level, Object: id, Text: "t", Boards: boards}
}

func result(f ...distro.Finding) distro.CheckResult {
	return distro.CheckResult{Spec: spec, Asked: 3, Findings: f}
}

func waiver(key string, days int) distro.Waiver {
	return distro.Waiver{Finding: key, By: "ada", Because: "known", At: now.AddDate(0, 0, -9), Expires: now.AddDate(0, 0, days)}
}

// lines gives "status board=status... | decides level key note".
func lines(v distro.Verdict, boards ...string) []string {
	head := string(v.Status)
	for _, b := range boards {
		head += " " + b + "=" + string(v.Boards[b])
	}
	out := []string{head}
	for _, r := range v.Reasons {
		mark := "-"
		if r.Decides {
			mark = "!"
		}
		out = append(out, strings.TrimRight(mark+" "+string(r.Finding.Level)+" "+r.Finding.Key()+" "+r.Note, " "))
	}
	return out
}

func TestJudge(t *testing.T) {
	t.Parallel()
	const shut = "a question without an answer blocks, and cannot be waived"
	for _, tt := range []struct {
		name    string
		policy  Policy
		results []distro.CheckResult
		waivers []distro.Waiver
		want    []string
	}{
		{"clean", Policy{Required: []string{"installs"}}, []distro.CheckResult{result()}, nil, []string{"ready a=ready b=ready"}},
		{"blocking first", Policy{}, []distro.CheckResult{result(finding("w", distro.Warn), finding("z", distro.Block), finding("i", distro.Info), finding("b", distro.Block))}, nil,
			[]string{"blocked a=blocked b=blocked", "! block installs/b", "! block installs/z", "- warn installs/w", "- info installs/i"}},
		{"one board", Policy{}, []distro.CheckResult{result(finding("x", distro.Block, "b"))}, nil, []string{"blocked a=ready b=blocked", "! block installs/x"}},
		{"waived", Policy{}, []distro.CheckResult{result(finding("x", distro.Block))}, []distro.Waiver{waiver("installs/x", 1)},
			[]string{"ready a=ready b=ready", "- block installs/x waived by ada until 2026-12-02: known"}},
		{"key must be equal", Policy{}, []distro.CheckResult{result(finding("xy", distro.Block))}, []distro.Waiver{waiver("installs/x", 1)}, []string{"blocked a=blocked b=blocked", "! block installs/xy"}},
		{"expired", Policy{}, []distro.CheckResult{result(finding("x", distro.Block))}, []distro.Waiver{waiver("installs/x", 0)},
			[]string{"blocked a=blocked b=blocked", "! block installs/x the waiver by ada expired on 2026-12-01"}},
		{"expired and renewed", Policy{}, []distro.CheckResult{result(finding("x", distro.Block))}, []distro.Waiver{waiver("installs/x", 0), waiver("installs/x", 3), waiver("installs/x", 2)},
			[]string{"ready a=ready b=ready", "- block installs/x waived by ada until 2026-12-04: known"}},
		{"nobody's waiver", Policy{}, []distro.CheckResult{result(finding("x", distro.Block))}, []distro.Waiver{{Finding: "installs/x", Because: "x", Expires: now.AddDate(1, 0, 0)}},
			[]string{"blocked a=blocked b=blocked", "! block installs/x a waiver without a name or a reason does not count"}},
		{"waiver of tomorrow", Policy{}, []distro.CheckResult{result(finding("x", distro.Block))}, []distro.Waiver{{Finding: "installs/x", By: "ada", Because: "x", At: now.AddDate(0, 0, 1), Expires: now.AddDate(1, 0, 0)}},
			[]string{"blocked a=blocked b=blocked", "! block installs/x the waiver by ada begins on 2026-12-02"}},
		{"lowered by policy", Policy{Levels: map[string]distro.Level{"installs": distro.Warn}}, []distro.CheckResult{result(finding("x", distro.Block), finding("i", distro.Info))}, nil,
			[]string{"ready a=ready b=ready", "- warn installs/x warn by the policy, block by the check", "- info installs/i"}},
		{"raised by policy", Policy{Levels: map[string]distro.Level{"soft": distro.Block}}, []distro.CheckResult{{Spec: distro.CheckSpec{ID: "soft", Level: distro.Warn}, Asked: 1, Findings: []distro.Finding{finding("x", distro.Warn), finding("i", distro.Info)}}}, nil,
			[]string{"blocked a=blocked b=blocked", "! block soft/x block by the policy, warn by the check", "- info soft/i"}},
		{"off shows", Policy{Levels: map[string]distro.Level{"installs": distro.Off}, Required: []string{"installs"}}, []distro.CheckResult{result(finding("x", distro.Block))}, nil,
			[]string{"ready a=ready b=ready", "- info installs/off by the policy of the series"}},
		{"error blocks whatever the policy and the waivers say", Policy{Levels: map[string]distro.Level{"installs": distro.Info}}, []distro.CheckResult{{Spec: spec, Error: "panic"}}, []distro.Waiver{waiver("installs/error", 9)},
			[]string{"blocked a=blocked b=blocked", "! block installs/error " + shut}},
		{"asked nothing", Policy{}, []distro.CheckResult{{Spec: spec}}, nil, []string{"blocked a=blocked b=blocked", "! block installs/nothing-asked " + shut}},
		{"asked nothing for a reason", Policy{}, []distro.CheckResult{{Spec: spec, Note: "first release"}}, nil, []string{"ready a=ready b=ready"}},
		{"missing", Policy{Required: []string{"installs", "upgrades", "upgrades"}}, []distro.CheckResult{result()}, nil, []string{"blocked a=blocked b=blocked", "! block upgrades/missing " + shut}},
		{"unknown levels block", Policy{Levels: map[string]distro.Level{"installs": "wran"}}, []distro.CheckResult{result(finding("x", "odd"))}, nil,
			[]string{"blocked a=blocked b=blocked", "! block installs/x block by the policy, odd by the check"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := lines(Judge(tt.policy, tt.results, tt.waivers, []string{"a", "b"}, now), "a", "b")
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// Laws over random input: one more finding never unblocks anything; the order of
// the input never shows.
func TestLaws(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	levels := []distro.Level{distro.Block, distro.Warn, distro.Info, "odd"}
	policies := append(levels, distro.Off)
	boards := []string{"a", "b"}
	pick := func() distro.Finding {
		f := finding(string(rune('p'+rnd.IntN(4))), levels[rnd.IntN(len(levels))])
		if n := rnd.IntN(3); n < 2 {
			f.Boards = boards[n : n+1]
		}
		return f
	}
	for range 3000 {
		var policy Policy
		if rnd.IntN(2) == 0 {
			policy.Levels = map[string]distro.Level{"installs": policies[rnd.IntN(len(policies))]}
		}
		r := result()
		r.Asked = rnd.IntN(3)
		var waivers []distro.Waiver
		for range rnd.IntN(4) {
			r.Findings = append(r.Findings, pick())
			waivers = append(waivers, waiver("installs/"+string(rune('p'+rnd.IntN(4))), rnd.IntN(3)-1))
		}
		before := Judge(policy, []distro.CheckResult{r}, waivers, boards, now)
		shuffled := r
		shuffled.Findings = append([]distro.Finding(nil), r.Findings...)
		rnd.Shuffle(len(shuffled.Findings), func(i, j int) {
			shuffled.Findings[i], shuffled.Findings[j] = shuffled.Findings[j], shuffled.Findings[i]
		})
		rnd.Shuffle(len(waivers), func(i, j int) { waivers[i], waivers[j] = waivers[j], waivers[i] })
		if d := cmp.Diff(before, Judge(policy, []distro.CheckResult{shuffled}, waivers, boards, now)); d != "" {
			t.Fatal(d)
		}
		r.Findings = append(r.Findings, pick())
		after := Judge(policy, []distro.CheckResult{r}, waivers, boards, now)
		if before.Status == distro.Blocked && after.Status != distro.Blocked {
			t.Fatalf("a finding unblocked %+v", r)
		}
		for _, b := range boards {
			if before.Boards[b] == distro.Blocked && after.Boards[b] != distro.Blocked {
				t.Fatalf("a finding unblocked board %s of %+v", b, r)
			}
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	known := []string{"installs", "upgrades"}
	if err := (Policy{Levels: map[string]distro.Level{"installs": distro.Off, "upgrades": distro.Block}}).Validate(known); err != nil {
		t.Error(err)
	}
	err := Policy{Levels: map[string]distro.Level{"install": "wran"}}.Validate(known)
	if err == nil || !strings.Contains(err.Error(), "there is no check") || !strings.Contains(err.Error(), "no level") {
		t.Error(err)
	}
}
