// Package debian takes sources from Debian: the runtime of a small distribution
// (a C library, a shell, a kernel) need not be built from nothing.
//
//   - [Pack] makes a tar of the files of a package that is installed on this host.
//   - [ResolveFor] does so for all sources that a layer wants, and downloads
//     packages for any architecture with an apt state of its own: the host's apt
//     is asked where the mirrors are and whom to trust, and is left as it is.
//
// Pins say which versions they were. The bytes go into a store, because tomorrow
// the mirror will have another version. Downloads are kept by their sha256 in the
// user's cache folder as well, so the next workspace needs no network.
//
// It starts dpkg, dpkg-query, apt-get and apt-cache.
package debian

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Wanted is a source that a spec wants. It has the fields of rpmbuild.Source, so
// one converts to the other.
type Wanted struct {
	Spec string
	Name string // of the file; {arch} is Debian's name of the architecture, {n} counts from the newest, 1

	Debian string   // an installed package: a tar of its files
	Paths  []string // globs, as in [Pack]

	Deb     string   // a package to download, or a pattern of names; {arch} as above
	Closure bool     // a tar of the package and all that it depends on
	Without []string // patterns of packages that the closure stops at
	Newest  int      // how many packages that the pattern fits; 0 is 1
	Arches  []string // only for these, as rpm names them; none means all
}

// Put keeps the bytes and gives their digest and size.
type Put = func(io.Reader) (distro.Digest, int64, error)

// Options say what to take sources for.
type Options struct {
	Arches []string // as rpm names them; none means this host's
	Cache  string   // folder; "" means slipway in the user's cache folder

	conf string // more of apt's configuration, for tests
}

// Missing is an architecture that not all sources can be had for, and why: the
// boards that need it are to be left out, loudly.
type Missing struct {
	Arch string // as rpm names it
	Err  error  // errs.Unavailable, with package and architecture
}

// Resolve is [ResolveFor] for this host's architecture, which must not be missing.
func Resolve(ctx context.Context, wanted []Wanted, put Put) ([]distro.SourcePin, error) {
	pins, missing, err := ResolveFor(ctx, wanted, Options{}, put)
	if err == nil && len(missing) > 0 {
		err = missing[0].Err
	}
	return pins, err
}

// ResolveFor takes every source, hands the bytes to put and gives the pins, in
// the order of wanted. Installed packages that are not there are named all at
// once, and then nothing is put. An architecture that a package cannot be
// downloaded for has no pins at all and is in missing, once; any other trouble is
// the error.
func ResolveFor(ctx context.Context, wanted []Wanted, opt Options, put Put) (pins []distro.SourcePin, missing []Missing, err error) {
	if len(opt.Arches) == 0 {
		opt.Arches = []string{distro.HostArch()}
	}
	if err := allInstalled(ctx, wanted); err != nil {
		return nil, nil, err
	}
	had, missing, err := downloadAll(ctx, wanted, opt)
	if err != nil {
		return nil, nil, err
	}
	for i, w := range wanted {
		if w.Deb == "" {
			p, err := packInto(ctx, w, put)
			if err != nil {
				return nil, nil, err
			}
			pins = append(pins, p)
			continue
		}
		for _, f := range had[i] {
			p, err := f.put(ctx, w, put)
			if err != nil {
				return nil, nil, err
			}
			pins = append(pins, p)
		}
	}
	return pins, missing, nil
}

// allInstalled names every package that is not.
func allInstalled(ctx context.Context, wanted []Wanted) error {
	var missing []string
	seen := map[string]bool{"": true}
	for _, w := range wanted {
		if seen[w.Debian] {
			continue
		}
		seen[w.Debian] = true
		v, err := installed(ctx, w.Debian)
		if errs.Is(err, errs.Unavailable) && v == "" && !errors.Is(err, exec.ErrNotFound) {
			missing = append(missing, w.Debian)
		} else if err != nil {
			return err
		}
	}
	if len(missing) == 0 {
		return nil
	}
	sort.Strings(missing)
	list := strings.Join(missing, " ")
	return errs.E(errs.Unavailable, "sources are taken from Debian packages that are not installed: "+list, errs.Hint("apt-get install "+list))
}

func packInto(ctx context.Context, w Wanted, put Put) (distro.SourcePin, error) {
	r, wr := io.Pipe()
	version := make(chan string, 1)
	go func() {
		v, err := Pack(ctx, w.Debian, w.Paths, wr)
		version <- v
		wr.CloseWithError(err)
	}()
	digest, size, err := put(r)
	r.CloseWithError(err) // so that Pack ends when put did not read all
	v := <-version
	if err != nil {
		return distro.SourcePin{}, errs.Wrap(err, "source %s of spec %s", w.Name, w.Spec)
	}
	return distro.SourcePin{Spec: w.Spec, Name: w.Name, Version: v, Origin: "debian:" + w.Debian + "=" + v, Digest: digest, Size: size}, nil
}

// Pack writes a tar of the files of an installed package and gives its version.
// paths are globs (path.Match) over absolute paths; "/a/**" takes all below /a;
// none takes all. A glob that matches nothing is an error, as a source would
// silently be short. The tar is the same wherever the files are: sorted, owned
// by root, mtime 0, modes 0644 or 0755, symbolic links as they are. Documentation
// that dpkg lists but a slim host left out (path-exclude) is left out.
func Pack(ctx context.Context, pkg string, paths []string, w io.Writer) (version string, err error) {
	if version, err = installed(ctx, pkg); err != nil {
		return "", err
	}
	out, err := query(ctx, "--listfiles", pkg)
	if err != nil {
		return "", err
	}
	files, err := choose(pkg, strings.Split(strings.TrimSpace(out), "\n"), paths)
	if err != nil {
		return "", err
	}
	tw := tar.NewWriter(w)
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if err := add(tw, f); err != nil {
			if errors.Is(err, fs.ErrNotExist) && len(paths) == 0 {
				continue
			}
			return "", errs.E(errs.Unavailable, "pack "+f+" of the Debian package "+pkg, err, errs.Hint("apt-get install --reinstall "+pkg))
		}
	}
	return version, tw.Close()
}

// installed gives the version of a package that is installed and whole.
func installed(ctx context.Context, pkg string) (string, error) {
	if pkg == "" || strings.HasPrefix(pkg, "-") {
		return "", errs.Ef(errs.Invalid, "%q is no Debian package", pkg)
	}
	out, err := query(ctx, "--show", "--showformat=${db:Status-Status} ${Version}\n", pkg)
	if errors.Is(err, exec.ErrNotFound) || ctx.Err() != nil {
		return "", err
	}
	status, version, _ := strings.Cut(strings.TrimSpace(out), " ")
	if err != nil || status != "installed" {
		return "", errs.E(errs.Unavailable, "the Debian package "+pkg+" is not installed", errs.Hint("apt-get install "+pkg))
	}
	return version, nil
}

func query(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "dpkg-query", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errs.E(errs.Unavailable, "there is no dpkg-query: sources of Debian packages need a Debian host", err)
	}
	if err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", errs.E(errs.Unavailable, "dpkg-query "+strings.Join(args, " ")+": "+strings.TrimSpace(stderr.String()), err)
	}
	return stdout.String(), nil
}

// choose gives the listed files that some glob takes, sorted, each once.
func choose(pkg string, listed, globs []string) ([]string, error) {
	used := make([]bool, len(globs))
	var files []string
	for _, f := range listed {
		if !strings.HasPrefix(f, "/") || f == "/." {
			continue // a diversion's remark, or the root
		}
		take := len(globs) == 0
		for i, g := range globs {
			ok, err := match(g, f)
			if err != nil {
				return nil, errs.E(errs.Invalid, fmt.Sprintf("%q is no pattern of paths", g), err)
			}
			used[i] = used[i] || ok
			take = take || ok
		}
		if take {
			files = append(files, f)
		}
	}
	var bad errs.List
	for i, g := range globs {
		if !used[i] {
			bad = append(bad, errs.E(errs.NotFound, fmt.Sprintf("the Debian package %s has no file %s", pkg, g), errs.Hint("dpkg-query --listfiles "+pkg)))
		}
	}
	sort.Strings(files)
	return files, bad.Err()
}

func match(glob, file string) (bool, error) {
	if root, ok := strings.CutSuffix(glob, "/**"); ok {
		return strings.HasPrefix(file, root+"/"), nil
	}
	return path.Match(glob, file)
}

func add(tw *tar.Writer, file string) error {
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: strings.TrimPrefix(file, "/"), ModTime: time.Unix(0, 0), Mode: 0o644, Format: tar.FormatUSTAR}
	switch {
	case info.IsDir():
		h.Typeflag, h.Mode = tar.TypeDir, 0o755
		h.Name += "/"
	case info.Mode()&fs.ModeSymlink != 0:
		h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
		if h.Linkname, err = os.Readlink(file); err != nil {
			return err
		}
	case info.Mode().IsRegular():
		h.Typeflag, h.Size = tar.TypeReg, info.Size()
		if info.Mode()&0o111 != 0 {
			h.Mode = 0o755
		}
	default:
		return fmt.Errorf("%s is neither a file, a folder nor a link", filepath.Base(file))
	}
	if err := tw.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(tw, in)
	return err
}
