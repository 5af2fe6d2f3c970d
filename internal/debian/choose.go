package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// resolve finds the packages of one source. Answers are kept as long as the
// lists are, since apt takes seconds for a closure.
func (a *apt) resolve(ctx context.Context, w Wanted) ([]file, error) {
	var choices []choice
	answer := filepath.Join(a.dir, "answers", a.question(w))
	data, err := os.ReadFile(answer)
	if err != nil || json.Unmarshal(data, &choices) != nil || len(choices) == 0 {
		if choices, err = a.choose(ctx, w); err != nil {
			return nil, err
		}
		// A torn file is no JSON, so it is asked again.
		if err := os.WriteFile(answer, distro.CanonicalJSON(choices), 0o644); err != nil {
			return nil, errs.E(errs.Unavailable, "keep what apt said", err)
		}
	}
	var files []file
	for n, c := range choices {
		name := strings.NewReplacer("{arch}", a.arch.Debian, "{n}", fmt.Sprint(n+1)).Replace(w.Name)
		files = append(files, file{name: name, arch: a.arch.Debian, debs: a.debs, choice: c})
	}
	return files, nil
}

// question names all that decides an answer beside the lists.
func (a *apt) question(w Wanted) string {
	settings := []string{}
	_ = filepath.WalkDir("/etc/apt", func(name string, e fs.DirEntry, err error) error {
		if err == nil {
			if info, err := e.Info(); err == nil {
				settings = append(settings, fmt.Sprint(name, info.Size(), info.ModTime().UnixNano()))
			}
		}
		return nil
	})
	return distro.DigestOf(distro.CanonicalJSON([]any{w.Deb, w.Closure, w.Without, w.Newest, settings})).Hex()
}

// choose asks apt.
func (a *apt) choose(ctx context.Context, w Wanted) ([]choice, error) {
	pattern := strings.ReplaceAll(w.Deb, "{arch}", a.arch.Debian)
	names := []string{pattern}
	if strings.ContainsAny(pattern, "*?[") {
		prefix := pattern[:strings.IndexAny(pattern, "*?[")]
		out, _, _, err := a.run(ctx, a.dir, "apt.conf", "apt-cache", "pkgnames", prefix)
		if err != nil {
			return nil, err
		}
		names = nil
		for _, n := range strings.Fields(out) {
			if ok, err := path.Match(pattern, n); err != nil {
				return nil, errs.E(errs.Invalid, fmt.Sprintf("%q is no pattern of packages", w.Deb), err)
			} else if ok {
				names = append(names, n)
			}
		}
	}
	found, err := a.show(ctx, names)
	if err != nil {
		return nil, err
	}
	count := max(w.Newest, 1)
	if len(found) < count {
		msg := fmt.Sprintf("apt has no package %s for %s", pattern, a)
		if len(found) > 0 {
			msg = fmt.Sprintf("apt has %d packages %s for %s, %d are wanted", len(found), pattern, a, count)
		}
		return nil, errs.E(errs.Unavailable, msg+a.said(), errs.Hintf("apt-cache search --names-only '^%s'", w.Deb))
	}
	if len(found) > 1 {
		if err := newestFirst(ctx, found); err != nil {
			return nil, err
		}
	}
	var choices []choice
	for _, d := range found[:count] {
		c := choice{Head: d}
		if w.Closure {
			if c.Closure, err = a.closure(ctx, d.Name, w.Without); err != nil {
				return nil, err
			}
		}
		choices = append(choices, c)
	}
	return choices, nil
}

// show gives the version of each package that apt would install. Names that are
// only mentioned by other packages are left out.
func (a *apt) show(ctx context.Context, names []string) ([]deb, error) {
	if len(names) == 0 {
		return nil, nil
	}
	out, _, _, err := a.run(ctx, a.dir, "apt.conf", append([]string{"apt-cache", "show", "--no-all-versions"}, names...)...)
	if err != nil {
		return nil, err
	}
	var all []deb
	for _, stanza := range strings.Split(out, "\n\n") {
		var d deb
		for l := range strings.Lines(stanza) {
			key, value, _ := strings.Cut(strings.TrimSpace(l), ": ")
			switch key {
			case "Package":
				d.Name = value
			case "Version":
				d.Version = value
			case "Architecture":
				d.Arch = value
			case "SHA256":
				d.SHA256 = value
			}
		}
		if d.Name == "" || d.Version == "" || !slices.Contains(names, d.Name) {
			continue // of a package that provides the name
		}
		if !isSHA256(d.SHA256) {
			return nil, errs.E(errs.Denied, "apt gives no sha256 of the package "+d.Name+" for "+a.String(), errs.Hint("the mirror in /etc/apt/sources.list* is no proper one"))
		}
		all = append(all, d)
	}
	return all, nil
}

func isSHA256(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// newestFirst sorts by Debian's order of versions, then by name.
func newestFirst(ctx context.Context, all []deb) error {
	var failed error
	sort.Slice(all, func(i, j int) bool {
		if all[i].Version == all[j].Version {
			return all[i].Name > all[j].Name
		}
		err := exec.CommandContext(ctx, "dpkg", "--compare-versions", all[i].Version, "gt", all[j].Version).Run()
		if _, exit := err.(*exec.ExitError); err != nil && !exit {
			failed = errs.E(errs.Unavailable, "compare versions by dpkg", err)
		}
		return err == nil
	})
	return failed
}

// closure gives a package and all that it depends on, sorted by name. What fits
// without counts as installed: neither it nor what only it needs is there.
func (a *apt) closure(ctx context.Context, name string, without []string) ([]deb, error) {
	all, err := a.wouldInstall(ctx, name, "status")
	if err != nil || len(without) == 0 {
		return all, err
	}
	var status strings.Builder
	stops := map[string]bool{}
	used := make([]bool, len(without))
	for _, d := range all {
		for i, g := range without {
			ok, err := path.Match(g, d.Name)
			if err != nil {
				return nil, errs.E(errs.Invalid, fmt.Sprintf("%q is no pattern of packages", g), err)
			}
			if ok && d.Name != name {
				used[i], stops[d.Name] = true, true
				fmt.Fprintf(&status, "Package: %s\nStatus: install ok installed\nPriority: optional\nArchitecture: %s\nMulti-Arch: foreign\nMaintainer: x\nVersion: %s\nDescription: x\n\n", d.Name, d.Arch, d.Version)
				break
			}
		}
	}
	// A dependency may go with a newer Debian; a name that apt never heard of is a mistake.
	for i, g := range without {
		if used[i] || strings.ContainsAny(g, "*?[") {
			continue
		}
		known, err := a.show(ctx, []string{g})
		if err == nil && len(known) == 0 {
			err = errs.E(errs.Invalid, fmt.Sprintf("without names %s, which apt does not have for %s", g, a), errs.Hint("take it out"))
		}
		if err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(a.dir, "status-without"), []byte(status.String()), 0o644); err != nil {
		return nil, errs.E(errs.Unavailable, "configure apt", err)
	}
	// apt takes some of what seems to be there anew: it is not the mirror's package by its sum.
	all, err = a.wouldInstall(ctx, name, "status-without")
	return slices.DeleteFunc(all, func(d deb) bool { return stops[d.Name] }), err
}

func (a *apt) wouldInstall(ctx context.Context, name, status string) ([]deb, error) {
	out, said, ok, err := a.run(ctx, a.dir, "apt.conf", "apt-get", "install", "--print-uris", "-y", "--no-install-recommends", "-o", "Dir::State::status="+filepath.Join(a.dir, status), name)
	if err != nil {
		return nil, err
	}
	if !ok {
		why := complaints(said)
		if _, unmet, found := strings.Cut(out, "unmet dependencies:\n"); found {
			why = strings.Join(strings.Fields(unmet), " ")
		}
		return nil, errs.E(errs.Unavailable, fmt.Sprintf("apt cannot resolve the dependencies of %s for %s: %s", name, a, why))
	}
	// 'uri' name_version_arch.deb size and a sum, of a weak kind; that of security updates is missing.
	var names []string
	for l := range strings.Lines(out) {
		f := strings.Fields(l)
		if len(f) >= 3 && strings.HasPrefix(f[0], "'") {
			n, _, _ := strings.Cut(f[1], "_")
			names = append(names, n)
		}
	}
	all, err := a.show(ctx, names)
	if err == nil && len(all) != len(names) {
		err = errs.Ef(errs.Unavailable, "apt gives no version of some of the %d dependencies of %s for %s", len(names), name, a)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all, err
}
