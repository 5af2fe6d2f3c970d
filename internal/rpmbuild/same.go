package rpmbuild

import (
	"slices"
	"strings"

	"slipway/internal/distro"
)

// readsVersion reports whether the spec's packages can depend on the release's
// version: it names the macro, or includes what might.
func (s *spec) readsVersion() bool {
	return strings.Contains(s.text, "distro_version") || strings.Contains(s.text, "%include") || strings.Contains(s.text, "%load")
}

// inputs is all that decides a task's packages but their number, by content: the
// spec and its sources, the macros, the tools, and what the packages in its
// sysroot do. Equal inputs give equal content (tested), so a task whose inputs
// are those of the base's row need not be built to be kept.
func (p *plan) inputs(t *task, needs map[string]*marker) distro.Digest {
	given := []string{}
	for _, n := range t.Needs {
		if m := needs[n.Task]; m != nil {
			for _, rec := range m.Records {
				if rec.Name == n.Package {
					given = append(given, n.Package+" "+string(rec.Content))
				}
			}
		}
	}
	return distro.DigestOf(distro.CanonicalJSON([]any{t.Stable, p.Tools, given}))
}

// same finds the tasks that need not be built: their inputs are those of the
// base's row, and no task that must be built needs their packages in its sysroot.
// It gives their markers, which keep the base's packages.
func (p *plan) same() map[string]*marker {
	same := map[string]*marker{}
	for again := true; again; {
		again = false
		for i := range p.Tasks {
			t := &p.Tasks[i]
			if same[t.Name] != nil || slices.ContainsFunc(t.After, func(n string) bool { return same[n] == nil }) {
				continue
			}
			if m := p.keptMarker(t); m != nil && p.inputs(t, same) == m.Row.Inputs {
				same[t.Name], again = m, true
			}
		}
	}
	for again := true; again; {
		again = false
		for _, t := range p.Tasks {
			if same[t.Name] != nil {
				continue
			}
			for _, n := range t.After {
				if same[n] != nil {
					delete(same, n)
					again = true
				}
			}
		}
	}
	return same
}

// keptMarker is the marker of a task whose packages are all those of the base;
// nil when the base does not have all of them.
func (p *plan) keptMarker(t *task) *marker {
	row, ok := p.baseRow(t.Key)
	if !ok || row.Inputs == "" {
		return nil
	}
	m := &marker{Row: row, Kept: true}
	contents := map[string]distro.Digest{}
	for _, rec := range p.Packages {
		if rec.SourceName == t.Key.Source && (rec.Arch == t.Target.Scope || rec.Arch == "noarch") && slices.Contains(t.Outputs, rec.Name) &&
			distro.FormatEVR(rec.Epoch, rec.Version, "") == t.Key.Version {
			rec.Kept = true
			m.Records = append(m.Records, rec)
			contents[rec.Name] = rec.Content
		}
	}
	if len(m.Records) != len(t.Outputs) || distro.TaskContent(contents) != row.Content {
		return nil
	}
	return m
}
