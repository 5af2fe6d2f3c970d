package projectfile

import (
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"slipway/internal/errs"
)

// Project is a build as a file of kas or bitbake-setup describes it.
type Project struct {
	Tool     string // "kas", "bitbake-setup"
	Title    string
	Repos    []Repo // in order of their layers
	Machines []string
	Distro   string
	Targets  []string
	Conf     []Section
	Expires  string // a day, or ""
	// Left is what could not be carried over, each with its place.
	Left errs.List
}

// Repo is a repository with layers, or (no URL) a folder beside the file.
type Repo struct {
	Name, URL, Branch, Commit string
	Folder                    string   // without URL: absolute path
	Layers                    []string // below it, "." for itself; none is BitBake, or a tool
}

// Section is a part of local.conf.
type Section struct{ Name, Text string }

// Layer is one layer of the definition.
type Layer struct {
	Name, URL, Branch, Commit, Path string
	From                            string // of a folder: where it lies now; it comes to Path of the workspace
}

func (p *Project) left(at errs.At, format string, args ...any) {
	p.Left = append(p.Left, errs.E(errs.Invalid, fmt.Sprintf(format, args...), at))
}

var (
	reCommit = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	reName   = regexp.MustCompile(`[^A-Za-z0-9._+-]+`)
)

// isBitBake tells BitBake's own repository, which is a layer of a definition as the
// others are, and has none.
func (r Repo) isBitBake() bool {
	base := strings.TrimSuffix(path.Base(r.URL), ".git")
	return len(r.Layers) == 0 && (r.Name == "bitbake" || base == "bitbake")
}

// LayerList gives the layers in order, each with a name of its own.
func (p Project) LayerList() []Layer {
	var out []Layer
	taken := map[string]bool{}
	add := func(l Layer, wanted ...string) {
		for n := 2; ; n++ {
			for _, w := range wanted {
				w = strings.Trim(reName.ReplaceAllString(w, "-"), "-.+_")
				if w != "" && !taken[w] {
					l.Name, taken[w] = w, true
					if l.URL == "" {
						l.Path = "layers/" + w
					}
					out = append(out, l)
					return
				}
			}
			wanted = []string{fmt.Sprintf("%s-%d", wanted[0], n)}
		}
	}
	for _, r := range p.Repos {
		l := Layer{URL: r.URL, Branch: r.Branch, Commit: r.Commit}
		if r.isBitBake() {
			add(l, "bitbake", r.Name)
			continue
		}
		for _, sub := range r.Layers {
			l.Path, l.From = sub, ""
			if r.URL == "" {
				l.From = filepath.Join(r.Folder, filepath.FromSlash(sub))
			}
			switch {
			case sub == ".":
				l.Path = ""
				add(l, r.Name)
			case path.Base(sub) == "meta":
				add(l, r.Name, r.Name+"-meta")
			default:
				add(l, path.Base(sub), r.Name+"-"+path.Base(sub))
			}
		}
	}
	return out
}

// series are the names of Yocto's releases that have branches of that name.
var series = []string{"kirkstone", "langdale", "mickledore", "nanbield", "scarthgap", "styhead", "walnascar", "whinlatter", "wrynose"}

// Release guesses Yocto's release by the branches; "" is not known.
func (p Project) Release() string {
	for _, r := range p.Repos {
		for _, s := range series {
			if r.Branch == s || strings.HasPrefix(r.Branch, s+"-") || strings.HasPrefix(r.Branch, s+"/") {
				return s
			}
		}
	}
	return ""
}

// Definition writes slipway.yaml for a distribution that is published at base from now
// on. It is a beginning: who maintains it looks at title, dates and address.
//
// release is Yocto's; "" takes the one that a branch is named after.
func (p Project) Definition(distribution, release, base, from string, now time.Time) string {
	var b strings.Builder
	q := func(s string) string { j, _ := json.Marshal(s); return string(j) } // a string marshals always; YAML reads JSON's
	day := func(t time.Time) string { return t.UTC().Format(time.DateOnly) }
	ends := day(now.AddDate(5, 0, 0))
	if t, err := time.Parse(time.DateOnly, p.Expires); err == nil && t.After(now) {
		ends = p.Expires
	}
	fmt.Fprintf(&b, "# Made by slipway init --from %s, of %s. Look at title, dates and base_url: devices read them.\n", from, p.Tool)
	fmt.Fprintf(&b, "schema: 1\ndistribution: %s\n", distribution)
	if p.Title != "" {
		fmt.Fprintf(&b, "title: %s\n", q(p.Title))
	}
	fmt.Fprintf(&b, "series: {name: \"1\", released: %s, security_support_ends: %s, ends: %s}\n", day(now), ends, ends)
	if release == "" {
		release = p.Release()
	}
	fmt.Fprintf(&b, "builder: {kind: bitbake, release: %s}\n", release)
	b.WriteString("layers:\n")
	for _, l := range p.LayerList() {
		fmt.Fprintf(&b, "  - {name: %s", l.Name)
		for _, kv := range [][2]string{{"url", l.URL}, {"branch", l.Branch}, {"commit", l.Commit}, {"path", l.Path}} {
			if kv[1] != "" {
				fmt.Fprintf(&b, ", %s: %s", kv[0], q(kv[1]))
			}
		}
		b.WriteString("}\n")
	}
	b.WriteString("conf: |\n")
	if p.Distro != "" {
		fmt.Fprintf(&b, "  DISTRO = \"%s\"\n", p.Distro)
	} else {
		b.WriteString("  # DISTRO: none was named\n")
	}
	for _, s := range p.Conf {
		fmt.Fprintf(&b, "\n  # %s\n", s.Name)
		for line := range strings.Lines(strings.TrimRight(s.Text, "\n") + "\n") {
			if strings.TrimSpace(line) == "" {
				b.WriteString("\n")
			} else {
				b.WriteString("  " + line)
			}
		}
	}
	images, targets := p.images()
	b.WriteString("boards:\n")
	for _, m := range p.Machines {
		fmt.Fprintf(&b, "  - {name: %s, support: experimental", m)
		if len(images) > 0 {
			fmt.Fprintf(&b, ", images: [%s]", strings.Join(images, ", "))
		}
		b.WriteString("}\n")
	}
	fmt.Fprintf(&b, "targets: [%s]\n", strings.Join(targets, ", "))
	fmt.Fprintf(&b, "feeds: {format: rpm, base_url: %s}\n", q(base))
	return b.String()
}

// images parts the targets: what is called an image is one, of each board.
func (p Project) images() (images, others []string) {
	for _, t := range p.Targets {
		if strings.Contains(t, "image") && !strings.Contains(t, ":") && !slices.Contains(images, t) {
			images = append(images, t)
		} else if !slices.Contains(others, t) {
			others = append(others, t)
		}
	}
	return images, others
}
