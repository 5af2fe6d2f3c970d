package debian

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

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
