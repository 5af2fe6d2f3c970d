package security

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
	"slipway/internal/rpmdb"
)

// packages judges the rpm database, and what the image's maker says of it.
func (x *examiner) packages(t *tree, m *Manifest) {
	x.ask("rpmdb", "missing-file", "manifest", "os-release", "debug-package", "debugger")
	x.version(t, m)
	x.debuggers(t)
	db, ok := x.database(t)
	if !ok {
		return
	}
	for _, p := range db.Packages {
		if developers(p.Name) {
			x.find("debug-package", p.Name, at{t: t}, "", "%s is a package for developers", p.NEVRA())
		}
		x.filesOf(t, p)
	}
	if m == nil {
		return
	}
	x.compare(t, m, db)
}

// database reads rpm's, wherever it is.
func (x *examiner) database(t *tree) (*rpmdb.Database, bool) {
	for _, d := range rpmdb.Folders {
		f := t.get(d + "/" + rpmdb.File)
		if f == nil || !f.Mode.IsRegular() {
			for name, kind := range rpmdb.Others {
				if t.get(d+"/"+name) != nil {
					x.note("the rpm database is " + kind + ", which is not read: packages are not judged")
					return nil, false
				}
			}
			continue
		}
		if f.big {
			x.find("rpmdb", f.Path, f.where(t, 0), "", "the rpm database has %d bytes, and was not read", f.Size)
			return nil, false
		}
		var wal []byte
		if w := t.get(d + "/" + rpmdb.WAL); w != nil {
			wal = w.text
		}
		db, err := rpmdb.Read(f.text, wal)
		if err != nil {
			x.find("rpmdb", f.Path, f.where(t, 0), "", "the rpm database cannot be read: %v", err)
			return nil, false
		}
		return db, true
	}
	x.note("no rpm database: packages are not judged")
	return nil, false
}

// developers reports whether a package's name is one of debug information or headers.
func developers(name string) bool {
	for _, end := range []string{"-dbg", "-dev", "-devel", "-staticdev", "-debuginfo", "-debugsource", "-src"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

// filesOf asks whether what a package brought is there, as rpm -V does; contents
// are rpm's question on the device.
func (x *examiner) filesOf(t *tree, p *rpm.Package) {
	gone, first := 0, ""
	for _, f := range p.Files {
		if f.Flags&(rpm.FileGhost|rpm.FileMissingOK|rpm.FileDoc|rpm.FileConfig|rpm.FileLicense|rpm.FileReadme) != 0 {
			continue
		}
		name := strings.TrimPrefix(f.Path, "/")
		// The folder above it may be a link, as /bin is.
		if t.files[name] != nil || t.files[path.Join(t.resolve(path.Dir(name)), path.Base(name))] != nil {
			continue
		}
		if f.IsDir() && len(t.under(name)) > 0 || f.Mode&0o170000 == 0o020000 || f.Mode&0o170000 == 0o060000 {
			continue
		}
		if gone++; first == "" {
			first = f.Path
		}
	}
	if gone > 0 {
		more := ""
		if gone > 1 {
			more = fmt.Sprintf(", and %d more", gone-1)
		}
		x.find("missing-file", p.Name, at{t: t, path: strings.TrimPrefix(first, "/")}, "", "a file of %s is not there: %s%s", p.NEVRA(), printable(first), more)
	}
}

// debuggers looks for them by name, which also serves images without a database.
func (x *examiner) debuggers(t *tree) {
	for _, n := range []string{"gdbserver", "gdb", "tcf-agent", "lldb-server", "strace", "ltrace"} {
		for _, d := range []string{"usr/bin", "usr/sbin", "bin", "sbin"} {
			if f := t.files[d+"/"+n]; f != nil && !f.Mode.IsDir() {
				x.find("debugger", n, f.where(t, 0), "", "/%s is a debugger", f.Path)
			}
		}
	}
}

// version asks whether os-release says what the maker says.
func (x *examiner) version(t *tree, m *Manifest) {
	f := t.get("etc/os-release")
	if f == nil {
		f = t.get("usr/lib/os-release")
	}
	if f == nil || !f.kept {
		x.note("no /etc/os-release: the image does not say what it is")
		return
	}
	values := map[string]string{}
	line := map[string]int{}
	lines(f.text, func(n int, s string) {
		if k, v, ok := strings.Cut(strings.TrimSpace(s), "="); ok && !strings.HasPrefix(k, "#") {
			values[k], line[k] = strings.Trim(v, `"'`), n
		}
	})
	if values["ID"] == "" || values["VERSION_ID"] == "" {
		x.find("os-release", "ID", f.where(t, 0), distro.Warn, "/%s does not name a distribution and its version (ID, VERSION_ID)", f.Path)
	}
	if m != nil && m.Version != "" && values["VERSION_ID"] != m.Version {
		x.find("os-release", "VERSION_ID", f.where(t, line["VERSION_ID"]), "", "/%s says version %q, %s says %q", f.Path, values["VERSION_ID"], m.From, m.Version)
	}
}

// compare asks whether the image holds the maker's packages, and no others.
func (x *examiner) compare(t *tree, m *Manifest, db *rpmdb.Database) {
	key := func(name, arch string) string { return name + "." + strings.ReplaceAll(arch, "-", "_") }
	have := map[string][]*rpm.Package{}
	for _, p := range db.Packages {
		have[key(p.Name, p.Arch)] = append(have[key(p.Name, p.Arch)], p)
	}
	for _, want := range m.Packages {
		k := key(want.Name, want.Arch)
		l, found := have[k], -1
		for i, p := range l {
			if want.HeaderDigest != "" && p.HeaderDigest == want.HeaderDigest || want.HeaderDigest == "" && (want.EVR != "" && p.EVR() == want.EVR || want.EVR == "" && (want.Version == "" || p.Version == want.Version)) {
				found = i
			}
		}
		switch {
		case found >= 0:
			have[k] = append(l[:found:found], l[found+1:]...)
		case len(l) > 0:
			x.find("manifest", k, at{t: t}, "", "%s is not the package that %s names (%s)", l[0].NEVRA(), m.From, strings.TrimSpace(want.EVR+want.Version+" "+want.HeaderDigest.Short()))
			have[k] = l[1:]
		default:
			x.find("manifest", k, at{t: t}, "", "%s is in %s, and not in the image", k, m.From)
		}
	}
	for _, k := range sorted(have) {
		for _, p := range have[k] {
			x.find("manifest", k, at{t: t}, "", "%s is in the image, and not in %s", p.NEVRA(), m.From)
		}
	}
}

// digest asks whether the file is the one that its manifest was written for.
func (x *examiner) digest(name string, m *Manifest) error {
	if m.Digest == "" {
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return errs.E(errs.Unavailable, "open image", err)
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return errs.E(errs.Unavailable, "read image", err)
	}
	if d := distro.DigestFromSum(sum.Sum(nil)); d != m.Digest {
		x.find("manifest", "digest", at{}, "", "the file is not the one that %s names: sha256 %s, not %s", m.From, d.Short(), m.Digest.Short())
	}
	return nil
}

const maxManifest = 64 << 20

// findManifest looks beside an image: FILE.json is ours; NAME.manifest, without
// the endings of FILE, is OpenEmbedded's. nil without one.
func findManifest(image string) (*Manifest, error) {
	if b, err := readFile(image + ".json"); err == nil {
		if m, ok := ours(b, filepath.Base(image)+".json"); ok {
			return m, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for base := image; ; {
		ext := filepath.Ext(base)
		if ext == "" || strings.Contains(ext, "/") {
			return nil, nil
		}
		base = strings.TrimSuffix(base, ext)
		b, err := readFile(base + ".manifest")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		m := &Manifest{From: filepath.Base(base) + ".manifest"}
		lines(b, func(_ int, line string) {
			if w := strings.Fields(line); len(w) == 3 {
				m.Packages = append(m.Packages, Package{Name: w[0], Arch: w[1], Version: w[2]})
			}
		})
		if len(m.Packages) == 0 {
			return nil, errs.E(errs.Failed, fmt.Sprintf("manifest %s.manifest has no line of package, architecture and version", base), errs.Hint("it is OpenEmbedded's list of packages; remove it if it is something else"))
		}
		return m, nil
	}
}

func readFile(name string) ([]byte, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxManifest {
		return nil, errs.E(errs.Failed, fmt.Sprintf("manifest %s is no file, or has more than %d bytes", name, maxManifest))
	}
	return os.ReadFile(name)
}

// ours reads the manifest that package compose writes (docs/format/images.md); any
// other JSON beside an image is none.
func ours(b []byte, from string) (*Manifest, bool) {
	var v struct {
		Schema   int           `json:"schema"`
		Version  string        `json:"version"`
		Digest   distro.Digest `json:"digest"`
		Packages []struct {
			NEVRA        string        `json:"nevra"`
			HeaderDigest distro.Digest `json:"header_digest"`
		} `json:"packages"`
	}
	if json.Unmarshal(b, &v) != nil || v.Schema != 1 || v.Digest == "" || v.Packages == nil {
		return nil, false
	}
	m := &Manifest{From: from, Version: v.Version, Digest: v.Digest}
	for _, p := range v.Packages {
		rest, arch, ok := cutLast(p.NEVRA, ".")
		rest, release, ok2 := cutLast(rest, "-")
		name, version, ok3 := cutLast(rest, "-")
		if !ok || !ok2 || !ok3 {
			return nil, false
		}
		m.Packages = append(m.Packages, Package{Name: name, EVR: version + "-" + release, Arch: arch, HeaderDigest: p.HeaderDigest})
	}
	return m, true
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// everywhere are the rules for any file system, system those for a root file system.
func (x *examiner) everywhere(t *tree) {
	x.modes(t)
	x.keyFiles(t)
	x.contents(t)
	if !t.root { // a boot partition
		x.ask("debug-shell")
		x.bootLoader(t)
	}
}

func (x *examiner) system(t *tree, m *Manifest) {
	x.accounts(t)
	x.identity(t)
	x.feeds(t)
	x.login(t)
	x.services(t)
	x.packages(t, m)
}
