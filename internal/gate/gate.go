// Package gate decides: it turns the answers of the checks, the policy of the
// series and the waivers into a verdict. It is pure, does no I/O, and gives the
// same verdict for the same input, whatever the order.
//
// It fails closed. A check that did not come to its end blocks, and so does one
// that is required and missing, or that asked nothing and does not say why. No
// waiver helps there: a waiver is an exception for one known finding. The way
// out is to repair the check, or to turn it off in the policy, which every
// verdict then shows.
package gate

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Policy is what a series wants of its checks.
type Policy struct {
	// Levels maps the id of a check to block, warn, info or off; a check that is
	// not in it has its own level. A finding of its check's own level takes the
	// policy's; any other is lowered to it at most, never raised. An unknown level
	// counts as block.
	Levels map[string]distro.Level
	// Required lists the checks that must have run, unless they are off.
	Required []string
}

// Validate tells of levels for checks that do not exist and of levels that are none.
func (p Policy) Validate(known []string) error {
	var found errs.List
	for _, id := range sortedKeys(p.Levels) {
		level := p.Levels[id]
		if !slices.Contains(known, id) {
			var hint errs.Hint
			if near := errs.Near(id, known); near != "" {
				hint = errs.Hintf("did you mean %q?", near)
			}
			found = append(found, errs.E(errs.Invalid, fmt.Sprintf("there is no check %q", id), hint))
		}
		if _, ok := rank[level]; !ok && level != distro.Off {
			found = append(found, errs.E(errs.Invalid, fmt.Sprintf("check %s: %q is no level", id, level), errs.Hint("block, warn, info or off")))
		}
	}
	return found.Err()
}

var rank = map[distro.Level]int{distro.Info: 1, distro.Warn: 2, distro.Block: 3}

// Judge gives the verdict at a time. The candidate is blocked when any reason
// decides, a board when a deciding reason names it or names no board. Adding a
// finding never makes a blocked candidate or board ready.
func Judge(policy Policy, results []distro.CheckResult, waivers []distro.Waiver, boards []string, now time.Time) distro.Verdict {
	v := distro.Verdict{Status: distro.Ready, Reasons: []distro.Reason{}}
	ran := map[string]bool{}
	for _, r := range results {
		ran[r.Spec.ID] = true
		if policy.Levels[r.Spec.ID] != distro.Off {
			v.Reasons = append(v.Reasons, reasons(policy, r, waivers, now)...)
		}
	}
	for _, id := range policy.Required {
		if !ran[id] && policy.Levels[id] != distro.Off {
			ran[id] = true
			v.Reasons = append(v.Reasons, closed(id, "missing", "the check has not run", "slipway test runs it"))
		}
	}
	for id, level := range policy.Levels {
		if level == distro.Off {
			v.Reasons = append(v.Reasons, distro.Reason{
				Finding: distro.Finding{Check: id, ID: "off", Level: distro.Info, Object: id, Text: "the check is turned off"},
				Note:    "by the policy of the series"})
		}
	}
	sortReasons(v.Reasons)
	for _, b := range boards {
		if v.Boards == nil {
			v.Boards = map[string]distro.Status{}
		}
		v.Boards[b] = distro.Ready
	}
	for _, r := range v.Reasons {
		if !r.Decides {
			continue
		}
		v.Status = distro.Blocked
		for _, b := range boards {
			if len(r.Finding.Boards) == 0 || slices.Contains(r.Finding.Boards, b) {
				v.Boards[b] = distro.Blocked
			}
		}
	}
	return v
}

// closed is the reason for a check that gave no answer.
func closed(check, id, text, cure string) distro.Reason {
	return distro.Reason{Decides: true, Note: "a question without an answer blocks, and cannot be waived",
		Finding: distro.Finding{Check: check, ID: id, Level: distro.Block, Object: check, Text: text, Cure: cure}}
}

func reasons(policy Policy, r distro.CheckResult, waivers []distro.Waiver, now time.Time) []distro.Reason {
	var all []distro.Reason
	off := fmt.Sprintf("repair the check; turning it off in the policy (gate: checks: %s: off) is shown in every verdict", r.Spec.ID)
	if r.Error != "" {
		all = append(all, closed(r.Spec.ID, "error", "the check did not come to its end: "+r.Error, off))
	} else if r.Asked <= 0 && r.Note == "" {
		all = append(all, closed(r.Spec.ID, "nothing-asked", "the check asked nothing and does not say why", off))
	}
	for _, f := range r.Findings {
		f.Check = r.Spec.ID
		level := effective(policy, r.Spec, f.Level)
		reason := distro.Reason{Decides: level == distro.Block}
		if level != f.Level {
			reason.Note = fmt.Sprintf("%s by the policy, %s by the check", level, f.Level)
		}
		f.Level = level
		reason.Finding = f
		if reason.Decides {
			waive(&reason, waivers, now)
		}
		all = append(all, reason)
	}
	return all
}

func effective(policy Policy, spec distro.CheckSpec, level distro.Level) distro.Level {
	if rank[level] == 0 {
		level = distro.Block
	}
	want, ok := policy.Levels[spec.ID]
	if !ok {
		return level
	}
	if rank[want] == 0 {
		want = distro.Block
	}
	if level == spec.Level || rank[level] > rank[want] {
		return want
	}
	return level
}

// waive applies the waiver that holds longest; when none holds, the reason tells
// of the one that came nearest.
func waive(reason *distro.Reason, waivers []distro.Waiver, now time.Time) {
	var best *distro.Waiver
	var notes []string
	for i := range waivers {
		w := waivers[i]
		if w.Finding != reason.Finding.Key() {
			continue
		}
		switch {
		case strings.TrimSpace(w.By) == "" || strings.TrimSpace(w.Because) == "":
			notes = append(notes, "a waiver without a name or a reason does not count")
		case w.At.After(now):
			notes = append(notes, fmt.Sprintf("the waiver by %s begins on %s", w.By, day(w.At)))
		case !now.Before(w.Expires):
			notes = append(notes, fmt.Sprintf("the waiver by %s expired on %s", w.By, day(w.Expires)))
		case best == nil || w.Expires.After(best.Expires) || w.Expires.Equal(best.Expires) && w.By+"\x00"+w.Because < best.By+"\x00"+best.Because:
			best = &w
		}
	}
	if best != nil {
		reason.Decides, reason.Waived = false, best
		notes = []string{fmt.Sprintf("waived by %s until %s: %s", best.By, day(best.Expires), best.Because)}
	}
	sort.Strings(notes)
	if reason.Note != "" {
		notes = append([]string{reason.Note}, notes...)
	}
	reason.Note = strings.Join(notes, "; ")
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// sortReasons: blocking first, then by level, check and id. The canonical form
// settles what is equal in all of these, so that the order of input never shows.
func sortReasons(all []distro.Reason) {
	type keyed struct {
		reason distro.Reason
		key    string
	}
	list := make([]keyed, len(all))
	for i, r := range all {
		decides := 1
		if r.Decides {
			decides = 0
		}
		list[i] = keyed{r, fmt.Sprintf("%d%d%s\x00%s\x00%s", decides, 9-rank[r.Finding.Level], r.Finding.Check, r.Finding.ID, distro.CanonicalJSON(r))}
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].key < list[j].key })
	for i := range list {
		all[i] = list[i].reason
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
