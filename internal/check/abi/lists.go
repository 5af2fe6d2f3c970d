package abi

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/rpm"
)

// kindOfName is something that others build against or call by its name. name gives it
// for a file; "" is none.
type kindOfName struct {
	id, one, many string
	name          func(path string) string
}

var pythonFolder = regexp.MustCompile(`^/usr/lib(?:64)?/python3(?:\.\d+)?/(?:site-packages|dist-packages)/(.+)$`)

var kindsOfNames = []kindOfName{
	{"headers", "header", "headers", func(p string) string {
		if name, ok := strings.CutPrefix(p, "/usr/include/"); ok {
			return name
		}
		return ""
	}},
	{"pkgconfig", "pkg-config name", "pkg-config names", func(p string) string {
		name, ok := strings.CutSuffix(path.Base(p), ".pc")
		if ok && path.Base(path.Dir(p)) == "pkgconfig" {
			return name
		}
		return ""
	}},
	// A module keeps its name when Python's folder gets another one.
	{"python", "Python module", "Python modules", func(p string) string {
		m := pythonFolder.FindStringSubmatch(p)
		if m == nil || strings.Contains(m[1], "-info/") || strings.Contains(m[1], "__pycache__/") {
			return ""
		}
		name := m[1]
		switch dir, base := path.Split(name); {
		case strings.HasSuffix(base, ".py"):
			name = dir + strings.TrimSuffix(base, ".py")
		case strings.HasSuffix(base, ".so"): // _knot.cpython-312-x86_64-linux-gnu.so
			base, _, _ = strings.Cut(base, ".")
			name = dir + base
		default:
			return ""
		}
		name = strings.TrimSuffix(strings.TrimSuffix(name, "/__init__"), "__init__")
		return strings.ReplaceAll(name, "/", ".")
	}},
	// /bin and /usr/bin are one folder on many devices.
	{"commands", "command", "commands", func(p string) string {
		switch path.Dir(p) {
		case "/bin", "/usr/bin", "/sbin", "/usr/sbin":
			return path.Base(p)
		}
		return ""
	}},
}

// lists compares the names that both versions of a package list.
func (c *comparison) lists(ctx context.Context) error {
	for _, k := range kindsOfNames {
		old := k.names(c.old.header)
		if len(old) == 0 {
			continue
		}
		c.res.Asked++
		now := k.names(c.now.header)
		var lost []string
		for name := range old {
			if _, ok := now[name]; !ok {
				lost = append(lost, name)
			}
		}
		if len(lost) == 0 {
			continue
		}
		lost, err := c.run.feed.nowhere(ctx, k, lost)
		if err != nil || len(lost) == 0 {
			if err != nil {
				return err
			}
			continue
		}
		older := c.last != nil
		if older {
			before := k.names(c.last.header)
			older = !slices.ContainsFunc(lost, func(n string) bool { _, had := before[n]; return had })
		}
		word := k.many
		if len(lost) == 1 {
			word = k.one
		}
		f := distro.Finding{Level: distro.Warn, Evidence: check.Few(lost, 40),
			Text: fmt.Sprintf("%d %s of %s in no package of the candidate: %s", len(lost), word, c.since()+is(len(lost)), strings.Join(check.Few(lost, 5), ", ")),
			Cure: "bring it back, or say in the notes of the release what takes its place"}
		var paths []string
		for _, name := range lost {
			paths = append(paths, old[name])
		}
		who, err := c.requiring(ctx, paths)
		if err != nil {
			return err
		}
		if len(who) > 0 {
			f.Level, f.Text = distro.Block, f.Text+"; "+breaks(len(who))
			f.Evidence = append(f.Evidence, check.Few(who, 20)...)
		}
		c.add(f, k.id, older)
	}
	return nil
}

func is(n int) string {
	if n == 1 {
		return " is"
	}
	return " are"
}

// names gives the names of a kind that a package has, with the path of each.
func (k kindOfName) names(h *rpm.Package) map[string]string {
	out := map[string]string{}
	for _, f := range h.Files {
		if f.IsDir() {
			continue
		}
		if name := k.name(f.Path); name != "" {
			out[name] = f.Path
		}
	}
	return out
}

// nowhere gives the names that no package of the candidate has, sorted.
func (f *feed) nowhere(ctx context.Context, k kindOfName, names []string) ([]string, error) {
	if err := f.load(ctx); err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for p := range f.files {
		if name := k.name(p); name != "" {
			there[name] = true
		}
	}
	names = slices.DeleteFunc(names, func(n string) bool { return there[n] })
	slices.Sort(names)
	return names, nil
}

// requiring gives the published packages that require one of the paths and that
// nothing replaces.
func (c *comparison) requiring(ctx context.Context, paths []string) ([]string, error) {
	var out []string
	for _, p := range check.Binary(slices.Concat(c.run.bed.History, c.run.bed.Base)) {
		if p.Name == c.now.record.Name || c.run.feed.replaces(p) != "" {
			continue
		}
		h, err := c.run.bed.Read(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, d := range h.Requires {
			if slices.Contains(paths, d.Name) {
				out = append(out, fmt.Sprintf("%s requires %s", p.NEVRA(), d.Name))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
