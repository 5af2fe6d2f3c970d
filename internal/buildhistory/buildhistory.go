// Package buildhistory reads what OE-Core's class buildhistory writes: of each recipe
// and each package its versions, dependencies, files and scripts, of each image what is
// installed in it and how large it is.
//
//	h := buildhistory.New()
//	err := h.Add("packages/core2-64-poky-linux/hello/hello/latest", f)
//
// Files may come in any order. Those that tell nothing of this are passed by. The
// format: OE-Core's meta/classes/buildhistory.bbclass (wrynose; read, not copied).
// Bytes that are no UTF-8 are kept as \xNN.
package buildhistory

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"slipway/internal/errs"
)

// Key names a recipe, a package or an image.
type Key struct {
	Arch string // "core2-64-poky-linux", "qemux86-64/glibc" of an image
	Name string
}

// String gives "core2-64-poky-linux/hello".
func (k Key) String() string { return k.Arch + "/" + k.Name }

// Recipe is what packages/ARCH/RECIPE/latest says.
type Recipe struct {
	Epoch, Version, Release string // PE, PV, PR
	Layer, License, Config  string // Config is PACKAGECONFIG
	Depends, Packages       []string
	Sources                 []string // SRC_URI
}

// Package is what packages/ARCH/RECIPE/PACKAGE/ says.
type Package struct {
	Recipe                  string
	Name                    string              // in the feed, after Debian renaming; that of the folder when absent
	Epoch, Version, Release string              // PKGE, PKGV, PKGR, else PE, PV, PR
	Relations               map[string][]string // "RDEPENDS" -> "libc6 (>= 2.36)", in the file's order
	Size                    int64               // installed, in bytes
	Files                   []File
	Scripts                 map[string]string // "preinst", "postinst", "prerm", "postrm"
}

// File is a line of files-in-package.txt or files-in-image.txt.
type File struct {
	Mode        string // "-rwxr-xr-x", "-rwsr-xr-x"
	User, Group string
	Size        int64
	Path        string // absolute
	Link        string // of a symbolic link
}

// Image is what images/MACHINE/LIBC/IMAGE/ says.
type Image struct {
	Info     map[string]string // image-info.txt
	Size     int64             // IMAGESIZE, in KiB
	Packages []string          // names of what is installed, sorted
	Files    []File
}

// History is one build's.
type History struct {
	Recipes  map[Key]*Recipe
	Packages map[Key]*Package // by the folder's name
	Images   map[Key]*Image
}

// New gives an empty one.
func New() *History {
	return &History{Recipes: map[Key]*Recipe{}, Packages: map[Key]*Package{}, Images: map[Key]*Image{}}
}

// Wanted reports whether Add reads a file of that name, relative to the buildhistory
// folder.
func Wanted(name string) bool {
	p := strings.Split(name, "/")
	base := p[len(p)-1]
	switch {
	case p[0] == "packages" && len(p) == 4:
		return base == "latest"
	case p[0] == "packages" && len(p) == 5:
		return base == "latest" || base == "files-in-package.txt" || strings.HasPrefix(base, "latest.pkg_")
	case p[0] == "images" && len(p) == 5:
		return base == "image-info.txt" || base == "installed-package-names.txt" || base == "files-in-image.txt"
	}
	return false
}

// Add reads one file. Errors are Invalid with name and line, Unavailable when r fails.
func (h *History) Add(name string, r io.Reader) error {
	if !Wanted(name) {
		return nil
	}
	p := strings.Split(name, "/")
	base := p[len(p)-1]
	if p[0] == "images" {
		im := entry(h.Images, Key{p[1] + "/" + p[2], p[3]})
		return im.read(name, base, r)
	}
	if len(p) == 4 {
		return entry(h.Recipes, Key{p[1], p[2]}).read(name, r)
	}
	pkg := entry(h.Packages, Key{p[1], p[3]})
	pkg.Recipe = p[2]
	if pkg.Name == "" {
		pkg.Name = p[3]
	}
	return pkg.read(name, base, r)
}

func entry[V any](m map[Key]*V, k Key) *V {
	if m[k] == nil {
		m[k] = new(V)
	}
	return m[k]
}

func (x *Recipe) read(name string, r io.Reader) error {
	return fields(name, r, func(key, value string) error {
		switch key {
		case "PE":
			x.Epoch = value
		case "PV":
			x.Version = value
		case "PR":
			x.Release = value
		case "LAYER":
			x.Layer = value
		case "LICENSE":
			x.License = value
		case "CONFIG":
			x.Config = value
		case "DEPENDS":
			x.Depends = strings.Fields(value)
		case "PACKAGES":
			x.Packages = strings.Fields(value)
		case "SRC_URI":
			x.Sources = strings.Fields(value)
		}
		return nil
	})
}

func (x *Package) read(name, base string, r io.Reader) error {
	switch {
	case base == "files-in-package.txt":
		var err error
		x.Files, err = files(name, r)
		return err
	case strings.HasPrefix(base, "latest.pkg_"):
		data, err := io.ReadAll(io.LimitReader(r, maxScript))
		if err != nil {
			return errs.E(errs.Unavailable, "read "+name, err)
		}
		if x.Scripts == nil {
			x.Scripts = map[string]string{}
		}
		x.Scripts[strings.TrimPrefix(base, "latest.pkg_")] = text(string(data))
		return nil
	}
	own := map[string]string{}
	err := fields(name, r, func(key, value string) error {
		switch key {
		case "PKG":
			x.Name = value
		case "PE", "PV", "PR", "PKGE", "PKGV", "PKGR":
			own[key] = value
		case "PKGSIZE":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 0 {
				return fmt.Errorf("PKGSIZE is %q and no number of bytes", value)
			}
			x.Size = n
		case "RPROVIDES", "RDEPENDS", "RRECOMMENDS", "RSUGGESTS", "RREPLACES", "RCONFLICTS":
			if x.Relations == nil {
				x.Relations = map[string][]string{}
			}
			x.Relations[key] = relations(value)
		}
		return nil
	})
	or := func(a, b string) string {
		if v, ok := own[a]; ok {
			return v
		}
		return own[b]
	}
	x.Epoch, x.Version, x.Release = or("PKGE", "PE"), or("PKGV", "PV"), or("PKGR", "PR")
	return err
}

func (x *Image) read(name, base string, r io.Reader) error {
	switch base {
	case "files-in-image.txt":
		var err error
		x.Files, err = files(name, r)
		return err
	case "installed-package-names.txt":
		x.Packages = []string{}
		err := lines(name, r, func(line string) error {
			if line != "" {
				x.Packages = append(x.Packages, line)
			}
			return nil
		})
		slices.Sort(x.Packages)
		return err
	}
	x.Info = map[string]string{}
	return fields(name, r, func(key, value string) error {
		x.Info[key] = value
		if key != "IMAGESIZE" {
			return nil
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("IMAGESIZE is %q and no number of KiB", value)
		}
		x.Size = n
		return nil
	})
}

// relations splits "a (>= 1.0) b c (= 2)" into its parts.
func relations(s string) []string {
	out := []string{}
	for _, w := range strings.Fields(s) {
		if len(out) > 0 && (strings.HasPrefix(w, "(") || strings.Contains(out[len(out)-1], "(") && !strings.HasSuffix(out[len(out)-1], ")")) {
			out[len(out)-1] += " " + w
			continue
		}
		out = append(out, w)
	}
	return out
}

// What a line, a script may have at most: more is no such file.
const (
	maxLine   = 16 << 20
	maxScript = 16 << 20
)

// fields reads lines "KEY = value".
func fields(name string, r io.Reader, do func(key, value string) error) error {
	return lines(name, r, func(line string) error {
		if line == "" {
			return nil
		}
		key, value, ok := strings.Cut(line, " =")
		if !ok || strings.ContainsAny(key, " \t") {
			return errors.New(`not of the form "KEY = value"`)
		}
		return do(key, strings.TrimSpace(value))
	})
}

// files reads lines "-rwxr-xr-x root       root            14376 ./usr/bin/hello".
func files(name string, r io.Reader) ([]File, error) {
	out := []File{}
	err := lines(name, r, func(line string) error {
		if line == "" {
			return nil
		}
		var w [4]string
		rest := line
		for i := range w {
			var ok bool
			rest = strings.TrimLeft(rest, " ")
			if w[i], rest, ok = strings.Cut(rest, " "); !ok {
				return errors.New("not of the form \"mode user group size path\"")
			}
		}
		size, err := strconv.ParseInt(w[3], 10, 64)
		if err != nil || len(w[0]) != 10 {
			return errors.New("not of the form \"mode user group size path\"")
		}
		f := File{Mode: w[0], User: w[1], Group: w[2], Size: size, Path: strings.TrimLeft(rest, " ")}
		if w[0][0] == 'l' {
			f.Path, f.Link, _ = strings.Cut(f.Path, " -> ")
		}
		f.Path = path.Join("/", f.Path)
		out = append(out, f)
		return nil
	})
	return out, err
}

func lines(name string, r io.Reader, do func(line string) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 64<<10), maxLine)
	for n := 1; s.Scan(); n++ {
		if err := do(text(strings.TrimRight(s.Text(), "\r"))); err != nil {
			return errs.E(errs.Invalid, fmt.Sprintf("%s:%d: %v", name, n, err))
		}
	}
	if err := s.Err(); errors.Is(err, bufio.ErrTooLong) {
		return errs.E(errs.Invalid, fmt.Sprintf("%s: a line of more than %d bytes", name, maxLine))
	} else if err != nil {
		return errs.E(errs.Unavailable, "read "+name, err)
	}
	return nil
}

// text keeps bytes that are no UTF-8 apart.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[i])
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}
