package debian

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

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
	used := make([]bool, len(without))
	for _, d := range all {
		for i, g := range without {
			ok, err := path.Match(g, d.Name)
			if err != nil {
				return nil, errs.E(errs.Invalid, fmt.Sprintf("%q is no pattern of packages", g), err)
			}
			if ok && d.Name != name {
				used[i] = true
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
	return a.wouldInstall(ctx, name, "status-without")
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

// fetch downloads what the cache lacks. A file is there whole or not at all: it
// gets its name, the sha256, when its bytes have it.
func (a *apt) fetch(ctx context.Context, all []deb) error {
	var lacking []deb
	for _, d := range all {
		path := filepath.Join(a.debs, d.SHA256)
		if sum, err := sumFile(path); (err != nil || sum != d.SHA256) && !slices.Contains(lacking, d) {
			lacking = append(lacking, d)
			if err := os.RemoveAll(path); err != nil {
				return errs.E(errs.Unavailable, "drop a damaged download", err)
			}
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	tmp, err := os.MkdirTemp(a.debs, ".part-")
	if err != nil {
		return errs.E(errs.Unavailable, "a folder for downloads", err)
	}
	defer os.RemoveAll(tmp)
	argv := []string{"apt-get", "download"}
	for _, d := range lacking {
		argv = append(argv, d.Name+"="+d.Version)
	}
	_, said, _, err := a.run(ctx, tmp, "apt.conf", argv...)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return errs.E(errs.Unavailable, "read the downloads", err)
	}
	for _, e := range entries {
		from := filepath.Join(tmp, e.Name())
		if sum, err := sumFile(from); err == nil && slices.ContainsFunc(lacking, func(d deb) bool { return d.SHA256 == sum }) {
			if err := keep(from, filepath.Join(a.debs, sum)); err != nil {
				return errs.E(errs.Unavailable, "keep the download "+e.Name(), err)
			}
		}
	}
	var names []string
	for _, d := range lacking {
		if _, err := os.Stat(filepath.Join(a.debs, d.SHA256)); err != nil {
			names = append(names, d.Name+" "+d.Version)
		}
	}
	if len(names) == 0 {
		return nil
	}
	if why := complaints(said); why != "" {
		said = why
	} else {
		said = "its bytes are not those of the package list"
	}
	more := ""
	if len(names) > 3 {
		more = fmt.Sprintf(" and %d more", len(names)-3)
	}
	return errs.E(errs.Unavailable, fmt.Sprintf("the Debian package %s%s for %s cannot be downloaded: %s", strings.Join(names[:min(3, len(names))], ", "), more, a, said),
		errs.Hint("is there a network? what was downloaded before is kept, so the same command goes on"))
}

func keep(from, to string) error {
	f, err := os.OpenFile(from, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(from, to)
	}
	return err
}

func sumFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// put hands the bytes over and gives the pin.
func (f file) put(ctx context.Context, w Wanted, put Put) (distro.SourcePin, error) {
	pin := distro.SourcePin{Spec: w.Spec, Name: f.name, Version: f.Head.Version, Origin: "deb:" + strings.TrimSuffix(f.Head.file(), ".deb")}
	var digest distro.Digest
	var size int64
	var err error
	if f.Closure == nil {
		digest, size, err = f.putFile(put)
		if err == nil && digest.Hex() != f.Head.SHA256 {
			err = errs.Ef(errs.Denied, "the bytes of %s changed in the cache", f.Head.file())
		}
	} else {
		head := f.Head
		head.Arch = f.arch // also when the package itself is for all
		pin.Origin = "debs:" + strings.TrimSuffix(head.file(), ".deb")
		r, wr := io.Pipe()
		go func() { wr.CloseWithError(f.tar(ctx, wr)) }()
		digest, size, err = put(r)
		r.CloseWithError(err)
	}
	pin.Digest, pin.Size = digest, size
	return pin, errs.Wrap(err, "source %s of spec %s", f.name, w.Spec)
}

func (f file) putFile(put Put) (distro.Digest, int64, error) {
	in, err := os.Open(filepath.Join(f.debs, f.Head.SHA256))
	if err != nil {
		return "", 0, err
	}
	defer in.Close()
	return put(in)
}

// tar writes the packages of a closure: by name, mtime 0, mode 0644.
func (f file) tar(ctx context.Context, w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, d := range f.Closure {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := addDeb(tw, d, filepath.Join(f.debs, d.SHA256)); err != nil {
			return errs.Wrap(err, "%s", d.file())
		}
	}
	return tw.Close()
}

func addDeb(tw *tar.Writer, d deb, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Name: d.file(), Typeflag: tar.TypeReg, Size: info.Size(), ModTime: time.Unix(0, 0), Mode: 0o644, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(tw, h), in); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != d.SHA256 {
		return errs.Ef(errs.Denied, "the bytes changed in the cache")
	}
	return nil
}
