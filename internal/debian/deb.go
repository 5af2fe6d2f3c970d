package debian

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// deb is one package as apt's lists name it.
type deb struct {
	Name, Version, Arch, SHA256 string
}

// file is the name that Debian gives it; a colon in the version is left out.
func (d deb) file() string {
	_, v, ok := strings.Cut(d.Version, ":")
	if !ok {
		v = d.Version
	}
	return d.Name + "_" + v + "_" + d.Arch + ".deb"
}

// file is one source, a package, or the tar of a closure.
type file struct {
	name string // of the source
	arch string // Debian's name of the architecture that it was asked for
	debs string // folder of the downloads, by sha256
	choice
}

// choice is what apt's lists say to a question.
type choice struct {
	Head    deb   // the package that was asked for
	Closure []deb // sorted by name; nil for the package itself
}

// downloadAll gives the files of each wanted source, by its index. Architectures
// that lack one are left out.
func downloadAll(ctx context.Context, wanted []Wanted, opt Options) (map[int][]file, []Missing, error) {
	had := map[int][]file{}
	var missing []Missing
	var common []int // sources that are the same for all architectures
	for i, w := range wanted {
		if w.Deb != "" && !strings.Contains(w.Name, "{arch}") {
			common = append(common, i)
		}
	}
	for _, name := range opt.Arches {
		arch, ok := distro.LookupArch(name)
		if !ok {
			return nil, nil, errs.E(errs.Invalid, fmt.Sprintf("there is no architecture %q", name), errs.Hint("known: "+strings.Join(distro.ArchNames(), ", ")))
		}
		var want []int
		for i, w := range wanted {
			own := w.Deb != "" && strings.Contains(w.Name, "{arch}")
			if (own || slices.Contains(common, i)) && (len(w.Arches) == 0 || slices.Contains(w.Arches, name)) {
				want = append(want, i)
			}
		}
		if len(want) == 0 {
			continue
		}
		got, err := download(ctx, wanted, want, arch, opt)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case errs.Is(err, errs.Unavailable):
			missing = append(missing, Missing{name, err})
			continue
		case err != nil:
			return nil, nil, err
		}
		for i, files := range got {
			if slices.Contains(common, i) && len(opt.Arches) > 1 {
				if a := files[0].Head.Arch; a != "all" {
					return nil, nil, errs.E(errs.Invalid, fmt.Sprintf("source %s of spec %s is a Debian package of %s: it differs between architectures", wanted[i].Name, wanted[i].Spec, a),
						errs.Hintf("- {name: \"%s\", deb: %s}", strings.TrimSuffix(wanted[i].Name, ".deb")+"-{arch}.deb", wanted[i].Deb))
				}
			}
			had[i] = append(had[i], files...)
		}
		common = nil
	}
	return had, missing, nil
}

// download gets some of the wanted sources for one architecture. When the lists
// are old and something is not there, they are read anew, once.
func download(ctx context.Context, wanted []Wanted, want []int, arch distro.Arch, opt Options) (map[int][]file, error) {
	a, err := openAPT(ctx, arch, opt)
	if err != nil {
		return nil, err
	}
	defer a.close()
	if err := a.lists(ctx); err != nil {
		return nil, err
	}
	for {
		got, err := a.sources(ctx, wanted, want)
		if err == nil || a.fresh || !errs.Is(err, errs.Unavailable) {
			return got, err
		}
		if uerr := a.update(ctx); uerr != nil {
			return nil, errs.Wrap(err, "%v", uerr)
		}
	}
}

func (a *apt) sources(ctx context.Context, wanted []Wanted, want []int) (map[int][]file, error) {
	got := map[int][]file{}
	var all []deb
	var bad errs.List
	for _, i := range want {
		files, err := a.resolve(ctx, wanted[i])
		if err != nil && (ctx.Err() != nil || !errs.Is(err, errs.Unavailable)) {
			return nil, err
		}
		if err != nil {
			bad = append(bad, err)
		}
		got[i] = files
		for _, f := range files {
			if f.Closure == nil {
				all = append(all, f.Head)
			}
			all = append(all, f.Closure...)
		}
	}
	if err := bad.Err(); err != nil {
		return nil, err
	}
	return got, a.fetch(ctx, all)
}
