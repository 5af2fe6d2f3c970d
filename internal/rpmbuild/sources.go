package rpmbuild

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Source is a source of a spec that lies in no layer, as specs/<name>/sources.yaml
// asks for it.
type Source struct {
	Spec   string   `json:"spec" yaml:"-"`
	Name   string   `json:"name" yaml:"name"`               // file name, as in the spec's Source tag; {arch} is Debian's name of the architecture, {n} a number
	Debian string   `json:"debian,omitempty" yaml:"debian"` // an installed Debian package: a tar of its files
	Paths  []string `json:"paths,omitempty" yaml:"paths"`

	Deb     string   `json:"deb,omitempty" yaml:"deb"`         // a Debian package to download; * in it stands for any text
	Closure bool     `json:"closure,omitempty" yaml:"closure"` // a tar of it and of all that it depends on
	Without []string `json:"without,omitempty" yaml:"without"` // packages that the closure stops at
	Newest  int      `json:"newest,omitempty" yaml:"newest"`   // how many that deb fits, the newest as {n} 1
	Arches  []string `json:"arches,omitempty" yaml:"arches"`   // only for these architectures, as rpm names them
}

// makes reports whether the source gives a file of that name.
func (s Source) makes(name string) bool {
	ok, _ := path.Match(strings.NewReplacer("{arch}", "*", "{n}", "[0-9]").Replace(s.Name), name)
	return ok
}

// ReadSources gives what all specs of a layer want, by spec and name. All
// findings of all files come at once.
func ReadSources(layerDir string) ([]Source, error) {
	files, err := filepath.Glob(filepath.Join(layerDir, "specs", "*", "sources.yaml"))
	if err != nil {
		return nil, errs.Wrap(err, "sources of a layer")
	}
	var all []Source
	var bad errs.List
	for _, file := range files {
		spec := filepath.Base(filepath.Dir(file))
		data, err := os.ReadFile(file)
		if err != nil {
			bad = append(bad, errs.E(errs.Unavailable, "read a sources.yaml", err))
			continue
		}
		list, err := parseSources(spec, data)
		if err != nil {
			bad = append(bad, err)
		}
		all = append(all, list...)
	}
	sort.Slice(all, func(i, j int) bool {
		return all[i].Spec < all[j].Spec || all[i].Spec == all[j].Spec && all[i].Name < all[j].Name
	})
	return all, bad.Err()
}

func parseSources(spec string, data []byte) ([]Source, error) {
	at := errs.At{File: "specs/" + spec + "/sources.yaml"}
	const form = errs.Hint("- {name: \"busybox-{arch}.deb\", deb: busybox-static}")
	var list []Source
	if err := yaml.Load(data, &list, yaml.WithKnownFields()); err != nil {
		var le *yaml.LoadErrors
		if errors.As(err, &le) && len(le.Errors) > 0 {
			first := le.Errors[0]
			at.Line, at.Col = first.Mark.Line, first.Mark.Column
			if m := unknownKey.FindStringSubmatch(first.Message); m != nil {
				return nil, errs.E(errs.Invalid, fmt.Sprintf("unknown key %q", m[1]), at, nearKey(m[1]), form)
			}
			err = errors.New(first.Message)
		}
		return nil, errs.E(errs.Invalid, "this is no list of sources", at, err, form)
	}
	var bad errs.List
	seen := map[string]bool{}
	for i := range list {
		s := &list[i]
		s.Spec = spec
		switch {
		case s.Name == "" || s.Name != filepath.Base(s.Name) || strings.HasPrefix(s.Name, "."):
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("source %d has the name %q, which is no plain file name", i+1, s.Name), at, form))
		case s.Debian == "" && s.Deb == "":
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("source %s does not say where it comes from", s.Name), at, form))
		case s.wrong() != "":
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("source %s %s", s.Name, s.wrong()), at, form))
		case seen[s.Name]:
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("source %s is there twice", s.Name), at))
		}
		seen[s.Name] = true
	}
	return list, bad.Err()
}

var (
	debName     = regexp.MustCompile(`^[a-z0-9{][a-z0-9+.*?{}-]*$`)
	placeholder = regexp.MustCompile(`\{[^}\n]*\}?|\}`)
)

// wrong says what does not go together in a source.
func (s Source) wrong() string {
	holes := placeholder.FindAllString(s.Name+"\n"+s.Deb, -1)
	for _, h := range holes {
		if h != "{arch}" && h != "{n}" {
			return "has " + h + " in it; {arch} and {n} are known"
		}
	}
	for _, a := range s.Arches {
		if _, ok := distro.LookupArch(a); !ok {
			return "is for the architecture " + a + "; known are " + strings.Join(distro.ArchNames(), ", ")
		}
	}
	switch {
	case s.Debian != "" && s.Deb != "":
		return "comes from debian (installed here) and from deb (downloaded): choose one"
	case s.Debian != "" && (s.Closure || len(s.Without) > 0 || s.Newest != 0 || len(s.Arches) > 0 || len(holes) > 0):
		return "is taken from an installed package: closure, without, newest, arches, {arch} and {n} are for deb"
	case s.Debian != "":
		return ""
	case !debName.MatchString(s.Deb) || strings.Contains(s.Deb, "{n}"):
		return fmt.Sprintf("has the deb %q, which is no name of a Debian package", s.Deb)
	case len(s.Paths) > 0:
		return "has paths, which are for debian: a deb is taken whole"
	case len(s.Without) > 0 && !s.Closure:
		return "has without, which is for closure: true"
	case s.Newest < 0 || s.Newest > 9:
		return "has newest, which is from 1 to 9"
	case s.Newest > 1 && !strings.Contains(s.Name, "{n}"):
		return "has newest, so its name needs {n}"
	case s.Newest > 1 && !strings.ContainsAny(s.Deb, "*?"):
		return "has newest, so its deb needs a *"
	}
	return ""
}

// unknownKey is how the decoder says it, with a Go type in it.
var unknownKey = regexp.MustCompile(`^field (.*) not found in type`)

func nearKey(key string) errs.Hint {
	if near := errs.Near(key, []string{"name", "debian", "paths", "deb", "closure", "without", "newest", "arches"}); near != "" {
		return errs.Hintf("did you mean %q?", near)
	}
	return ""
}

// lockFile is sources.lock: docs/format/sources-lock.md.
type lockFile struct {
	Schema  int                `json:"schema"` // 1
	Sources []distro.SourcePin `json:"sources"`
}

// ReadLock reads a workspace's sources.lock. No file is no pins.
func ReadLock(path string) ([]distro.SourcePin, error) {
	var l lockFile
	err := readJSON(path, &l)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && l.Schema != 1 {
		err = errs.Ef(errs.Invalid, "%s has schema %d, this program knows 1", filepath.Base(path), l.Schema)
	}
	for _, s := range l.Sources {
		if err == nil {
			_, err = distro.ParseDigest(string(s.Digest))
		}
	}
	return l.Sources, errs.Wrap(err, "the pinned sources")
}

// WriteLock writes sources.lock, sorted by spec and name, durably.
func WriteLock(path string, pins []distro.SourcePin) error {
	pins = append([]distro.SourcePin{}, pins...)
	sort.Slice(pins, func(i, j int) bool {
		return pins[i].Spec < pins[j].Spec || pins[i].Spec == pins[j].Spec && pins[i].Name < pins[j].Name
	})
	return writeJSON(path, lockFile{Schema: 1, Sources: pins})
}

// upstream makes an rpm version of a Debian one: no epoch, no Debian revision,
// and "." for what rpm does not allow.
func upstream(v string) string {
	if _, after, ok := strings.Cut(v, ":"); ok {
		v = after
	}
	if i := strings.LastIndexByte(v, '-'); i > 0 {
		v = v[:i]
	}
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("._+~^", r) {
			return r
		}
		return '.'
	}, v)
}

// stage copies a folder of plain files, with modes 0644 and 0755 and mtime 0,
// and gives the digest of each file with its mode.
func stage(from, to string) (map[string]string, error) {
	sums := map[string]string{}
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		if !e.Type().IsRegular() {
			return errs.E(errs.Invalid, rel+" is no plain file", errs.Hint("a spec's folder holds plain files and folders"))
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		d, err := copyFile(path, filepath.Join(to, rel), mode)
		sums[rel] = fmt.Sprintf("%o %s", mode, d)
		return err
	})
	return sums, err
}

func copyFile(from, to string, mode fs.FileMode) (distro.Digest, error) {
	in, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), in)
	if err == nil {
		err = out.Chmod(mode) // the umask may have taken bits
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chtimes(to, time.Unix(0, 0), time.Unix(0, 0))
	}
	return distro.DigestFromSum(h.Sum(nil)), err
}
