package rpmbuild

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
)

// provider is one package that offers a name.
type provider struct {
	spec *spec
	pkg  *binary
	evr  string
}

// resolve makes the tasks, in order of their names, and finds what each needs.
func resolve(specs []*spec, vars map[string]string) ([]task, error) {
	r := &resolver{by: map[string][]provider{}, made: map[string]*spec{}, told: map[string]bool{}}
	for _, s := range specs {
		r.offer(s)
	}
	var tasks []task
	for _, s := range specs {
		t := task{Name: s.task(), Layer: s.layer, Target: s.target, Key: s.key(), Epoch: s.changed, Vars: merge(vars, s.target.vars()), Macros: sourceMacros(s.target, s.pins),
			Feed: s.readsFeedConfig(), Needs: r.needs(s), After: []string{}}
		for _, p := range s.binaries {
			t.Outputs = append(t.Outputs, p.name)
		}
		sort.Strings(t.Outputs)
		for _, n := range t.Needs {
			if k := len(t.After); k == 0 || t.After[k-1] != n.Task {
				t.After = append(t.After, n.Task)
			}
		}
		t.Input = distro.DigestOf(distro.CanonicalJSON([]any{s.sums, s.feedSums, macros(top, t.Vars, t.Macros), rpmrc(t.Target), t.Target, t.Epoch}))
		stable := t.Vars
		if !s.readsVersion() {
			stable = merge(t.Vars, map[string]string{"distro_version": ""})
		}
		t.Stable = distro.DigestOf(distro.CanonicalJSON([]any{s.sums, s.feedSums, macros(top, stable, t.Macros), rpmrc(t.Target), t.Target, t.Epoch}))
		tasks = append(tasks, t)
	}
	sort.Slice(tasks, func(i, j int) bool { return tasks[i].Name < tasks[j].Name })
	r.bad = append(r.bad, stripTools(tasks)...)
	if len(r.bad) == 0 {
		r.cycles(tasks)
	}
	return tasks, r.bad.Err()
}

type resolver struct {
	by   map[string][]provider
	made map[string]*spec // by name of the package
	told map[string]bool
	bad  errs.List
}

// find notes a finding; what is wrong for each architecture is told once.
func (r *resolver) find(err error) {
	if s := err.Error(); !r.told[s] {
		r.told[s] = true
		r.bad = append(r.bad, err)
	}
}

// sees reports whether packages of other can be in the sysroot of s: those of
// its own architecture, those of its own machine and SoC family, and noarch.
func (s *spec) sees(other *spec) bool {
	switch o := other.target; {
	case o.Scope == noarch.Scope, o.Scope == s.target.Scope:
		return true
	default:
		return s.target.special() && (o.Scope == s.target.Arch || o.Board == "" && o.SoC != "" && o.SoC == s.target.SoC)
	}
}

func (r *resolver) visible(s *spec, name string) []provider {
	var some []provider
	for _, p := range r.by[name] {
		if s.sees(p.spec) {
			some = append(some, p)
		}
	}
	return some
}

func (r *resolver) offer(s *spec) {
	for i := range s.binaries {
		p := &s.binaries[i]
		if other := r.made[p.name]; other != nil && other.name != s.name {
			r.find(errs.E(errs.Invalid, fmt.Sprintf("package %s is made by two specs: %s and %s", p.name, other.name, s.name), s.at(0),
				errs.Hint("give one of them another name")))
			continue
		}
		r.made[p.name] = s
		r.by[p.name] = append(r.by[p.name], provider{s, p, distro.FormatEVR(p.epoch, p.version, p.release)})
		for _, v := range p.provides {
			if v.name != p.name {
				r.by[v.name] = append(r.by[v.name], provider{s, p, v.evr})
			}
		}
	}
}

var hostTool = regexp.MustCompile(`^host\(([A-Za-z0-9_.+-]+)\)$`)

// needs gives all packages in the sysroot of a spec: what it asks for, and what
// those require in turn, as far as a layer makes it.
func (r *resolver) needs(s *spec) []need {
	got := map[need]bool{}
	var add func(p provider)
	add = func(p provider) {
		n := need{p.spec.task(), p.pkg.name}
		if got[n] || p.spec == s {
			return
		}
		got[n] = true
		for _, q := range p.pkg.requires {
			if ps := r.visible(s, q.name); len(ps) > 0 {
				add(ps[0])
			}
		}
	}
	for _, q := range s.buildRequires {
		at := s.find(`(?i)^buildrequires:.*` + regexp.QuoteMeta(q.name))
		if m := hostTool.FindStringSubmatch(q.name); m != nil {
			if !onBuildPath(m[1]) {
				r.find(missingTool(m[1], "spec "+s.name))
			}
			continue
		}
		ps := r.visible(s, q.name)
		if len(ps) == 0 {
			r.find(r.unresolved(s, q, at))
			continue
		}
		fit := -1
		for i, p := range ps {
			if satisfies(p.evr, q) {
				fit = i
				break
			}
		}
		if fit < 0 {
			r.find(s.invalid(at, "%s needs %s, but the layers make %s", s.name, q, ps[0].evr))
			continue
		}
		add(ps[fit])
	}
	all := make([]need, 0, len(got))
	for n := range got {
		all = append(all, n)
	}
	sort.Slice(all, func(i, j int) bool {
		return all[i].Task < all[j].Task || all[i].Task == all[j].Task && all[i].Package < all[j].Package
	})
	return all
}

func (r *resolver) unresolved(s *spec, q relation, at errs.At) error {
	if ps := r.by[q.name]; len(ps) > 0 {
		var scopes []string
		for _, p := range ps {
			scopes = append(scopes, p.spec.target.Scope)
		}
		return errs.E(errs.Invalid, fmt.Sprintf("%s for %s needs %s to build, which the layers make for %s only", s.name, s.target.Scope, q, strings.Join(scopes, ", ")), at,
			errs.Hint("a sysroot holds packages of the spec's own architecture, of its own machine, and noarch"))
	}
	names := make([]string, 0, len(r.by))
	for n := range r.by {
		names = append(names, n)
	}
	sort.Strings(names)
	hint := errs.Hintf("a program of the host is asked for as host(%s)", q.name)
	if near := errs.Near(q.name, names); near != "" {
		hint = errs.Hintf("did you mean %q?", near)
	}
	return errs.E(errs.Invalid, fmt.Sprintf("%s needs %s to build, which no layer makes", s.name, q), at, hint)
}

func (q relation) String() string {
	op := ""
	for _, f := range []struct {
		bit int
		s   string
	}{{rpm.SenseLess, "<"}, {rpm.SenseGreater, ">"}, {rpm.SenseEqual, "="}} {
		if q.flags&f.bit != 0 {
			op += f.s
		}
	}
	if op == "" {
		return q.name
	}
	return q.name + " " + op + " " + q.evr
}

// satisfies compares versions only: a release is not known before it is built.
func satisfies(evr string, q relation) bool {
	if q.flags&(rpm.SenseLess|rpm.SenseGreater|rpm.SenseEqual) == 0 {
		return true
	}
	if evr == "" {
		return false
	}
	c := compareVersions(evr, q.evr)
	return c < 0 && q.flags&rpm.SenseLess != 0 || c > 0 && q.flags&rpm.SenseGreater != 0 || c == 0 && q.flags&rpm.SenseEqual != 0
}

func compareVersions(a, b string) int {
	ea, va := splitEpoch(a)
	eb, vb := splitEpoch(b)
	if c := distro.RPMVerCmp(ea, eb); c != 0 {
		return c
	}
	return distro.RPMVerCmp(va, vb)
}

func splitEpoch(evr string) (epoch, version string) {
	epoch = "0"
	if e, rest, ok := strings.Cut(evr, ":"); ok {
		epoch, evr = e, rest
	}
	version, _, _ = strings.Cut(evr, "-")
	return epoch, version
}

func onBuildPath(tool string) bool {
	for _, d := range filepath.SplitList(buildPath) {
		if _, err := exec.LookPath(filepath.Join(d, tool)); err == nil {
			return true
		}
	}
	return false
}

// cycles reports each task that waits for itself, once, with the way round.
func (r *resolver) cycles(tasks []task) {
	after := map[string][]string{}
	for _, t := range tasks {
		after[t.Name] = t.After
	}
	state := map[string]int{} // 1 on the way, 2 done
	var way []string
	var visit func(n string)
	visit = func(n string) {
		switch state[n] {
		case 2:
			return
		case 1:
			for i := range way {
				if way[i] == n {
					r.bad = append(r.bad, errs.E(errs.Invalid, "tasks wait for each other: "+strings.Join(append(way[i:], n), " needs "),
						errs.Hint("take one of these BuildRequires out")))
					return
				}
			}
		}
		state[n] = 1
		way = append(way, n)
		for _, m := range after[n] {
			visit(m)
		}
		way = way[:len(way)-1]
		state[n] = 2
	}
	for _, t := range tasks {
		visit(t.Name)
	}
}
