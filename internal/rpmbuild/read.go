package rpmbuild

import (
	"context"
	"slices"
	"sync"

	"slipway/internal/errs"
)

// reader reads specs for all that they are built for.
type reader struct {
	b        *Builder
	sb       *sandbox
	machines []target
	families []target
	work     string
	feed     string
	vars     map[string]string
}

// all gives one reading per task, or every finding of every spec.
func (r *reader) all(ctx context.Context, specs []*spec) ([]*spec, error) {
	found := make([]errs.List, len(specs))
	read := make([][]*spec, len(specs))
	var wg sync.WaitGroup
	free := make(chan struct{}, r.b.opt.Jobs)
	for i, s := range specs {
		wg.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			if s.readsFeedConfig() {
				if err := hashTree(s, r.feed); err != nil {
					found[i] = errs.List{err}
					return
				}
			}
			read[i], found[i] = r.one(ctx, s)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, errs.E(errs.Interrupted, "reading the specs was stopped", context.Cause(ctx))
	}
	return slices.Concat(read...), slices.Concat(found...).Err()
}

// one reads a spec for the first architecture, which tells whether it is noarch,
// and then for the others; a machine spec for each board, one of SoC families for each.
func (r *reader) one(ctx context.Context, s *spec) ([]*spec, errs.List) {
	if usesMachine.MatchString(s.code()) {
		return r.each(ctx, s, r.machines)
	}
	if usesSoC.MatchString(s.code()) {
		return r.each(ctx, s, r.families)
	}
	var generic []target
	for _, a := range r.b.opt.Arches {
		generic = append(generic, target{Scope: a, Arch: a})
	}
	first, bad := r.parse(ctx, s, generic[0])
	if len(bad) > 0 || !first.isNoarch() {
		if len(bad) > 0 {
			return nil, bad
		}
		rest, bad := r.each(ctx, s, generic[1:])
		if !first.excluded() {
			rest = append([]*spec{first}, rest...)
		}
		if len(bad) == 0 {
			bad = pure(rest)
		}
		return rest, bad
	}
	first.target = noarch
	if m := usesArch.FindStringSubmatch(s.code()); m != nil {
		return nil, errs.List{errs.E(errs.Invalid, "%{slipway_"+m[1]+"} in a noarch spec: its packages would differ between architectures", s.find(usesArch.String()), errs.Hint("take BuildArch: noarch out"))}
	}
	return []*spec{first}, nil
}

func (r *reader) each(ctx context.Context, s *spec, targets []target) ([]*spec, errs.List) {
	var all []*spec
	for _, t := range targets {
		c, bad := r.parse(ctx, s, t)
		if len(bad) > 0 {
			return nil, bad
		}
		if !c.excluded() {
			all = append(all, c)
		}
	}
	return all, pure(all)
}

// parse reads a copy of the spec for one target.
func (r *reader) parse(ctx context.Context, s *spec, t target) (*spec, errs.List) {
	c := *s
	c.target = t
	bad := r.b.parse(ctx, r.sb, &c, r.work, r.vars)
	if len(bad) == 0 {
		if err := c.clock(); err != nil {
			bad = append(bad, err)
		}
	}
	for _, p := range c.binaries {
		if len(bad) > 0 || p.arch == t.Scope || p.arch == "noarch" && !t.special() {
			continue
		}
		hint := errs.Hint("BuildArch: noarch, BuildArch: %{slipway_machine_arch}, or none for packages of each architecture")
		if t.Board != "" {
			hint = "a spec that uses the machine's macros has BuildArch: %{slipway_machine_arch}"
		} else if t.SoC != "" {
			hint = "a spec that uses the SoC family's macros has BuildArch: %{slipway_soc_arch}"
		}
		bad = append(bad, errs.E(errs.Invalid, "package "+p.name+" has the architecture "+p.arch+", not "+t.Scope, c.find(`(?i)^buildarch`), hint))
	}
	return &c, bad
}

// pure refuses noarch packages of a spec that is built more than once: each
// build would make the same file, with other bytes.
func pure(all []*spec) errs.List {
	if len(all) < 2 {
		return nil
	}
	var bad errs.List
	for _, p := range all[0].binaries {
		if p.arch == "noarch" {
			bad = append(bad, errs.E(errs.Invalid, "package "+p.name+" is noarch, but its spec is built for "+all[0].target.Scope+" and "+all[1].target.Scope, all[0].find(`(?i)^buildarch`),
				errs.Hint("make it in a spec of its own, or give it the architecture of the others")))
		}
	}
	return bad
}

// unbuilt names the specs that no task builds.
func unbuilt(specs []*spec, tasks []task) []string {
	var notes []string
	for _, s := range specs {
		if !slices.ContainsFunc(tasks, func(t task) bool { return t.Key.Source == s.name }) {
			why := "its ExclusiveArch or ExcludeArch leaves out all that is built for"
			if usesMachine.MatchString(s.code()) {
				why = "it is of a machine, and there is no board for it"
			} else if usesSoC.MatchString(s.code()) {
				why = "it is of an SoC family, and no board has one"
			}
			notes = append(notes, "spec "+s.name+" is not built: "+why)
		}
	}
	return notes
}
