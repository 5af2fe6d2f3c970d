package compose

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// OCIOptions are what a container image is beside its files.
type OCIOptions struct {
	Date   time.Time         // of the image
	Arch   string            // package architecture: x86_64 or aarch64
	Name   string            // reference name in the archive, "halyard:1.3"; "" is none
	Labels map[string]string // "org.opencontainers.image.version" and so on
}

var ociArch = map[string]ociPlatform{
	"x86_64":  {Architecture: "amd64", OS: "linux"},
	"aarch64": {Architecture: "arm64", OS: "linux", Variant: "v8"},
}

type ociPlatform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant,omitempty"`
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      distro.Digest     `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *ociPlatform      `json:"platform,omitempty"`
}

const (
	mediaIndex    = "application/vnd.oci.image.index.v1+json"
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig   = "application/vnd.oci.image.config.v1+json"
	mediaLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// OCI makes a container image of a root: a tar with an OCI image layout of one
// layer, as "skopeo copy oci-archive:FILE" reads it. Clean the root first. An
// unknown architecture is errs.Invalid.
//
// The layer is compressed by the standard library: another version of Go may
// give other compressed bytes; the digest of what they hold stays.
func OCI(ctx context.Context, root, out string, opts OCIOptions) error {
	platform, ok := ociArch[opts.Arch]
	if !ok || opts.Date.Unix() <= 0 {
		return errs.Ef(errs.Invalid, "a container image needs a date and an architecture (x86_64, aarch64), not %q", opts.Arch)
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	return replace(out, func(f *os.File) error { return writeOCI(ctx, root, f, platform, opts) })
}

func writeOCI(ctx context.Context, root string, out *os.File, platform ociPlatform, opts OCIOptions) error {
	// Its digest stands in names before it in the archive.
	layer, err := os.CreateTemp(filepath.Dir(out.Name()), filepath.Base(out.Name())+".tmp-*")
	if err != nil {
		return err
	}
	defer func() { _ = layer.Close(); _ = os.Remove(layer.Name()) }()
	packed, plain := sha256.New(), sha256.New()
	z, err := gzip.NewWriterLevel(io.MultiWriter(layer, packed), gzip.BestSpeed)
	if err != nil {
		return err
	}
	if err := writeLayer(ctx, root, io.MultiWriter(z, plain)); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	size, err := layer.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := layer.Seek(0, io.SeekStart); err != nil {
		return err
	}
	layerDesc := descriptor{MediaType: mediaLayer, Digest: distro.DigestFromSum(packed.Sum(nil)), Size: size}
	created := opts.Date.UTC().Format(time.RFC3339)
	config := distro.CanonicalJSON(map[string]any{
		"created": created, "architecture": platform.Architecture, "os": platform.OS, "variant": platform.Variant,
		"config":  map[string]any{"Env": []string{"PATH=" + searchPath}, "Cmd": []string{"/bin/sh"}, "Labels": opts.Labels},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{string(distro.DigestFromSum(plain.Sum(nil)))}},
		"history": []map[string]string{{"created": created, "created_by": "slipway"}},
	})
	configDesc := descriptor{MediaType: mediaConfig, Digest: distro.DigestOf(config), Size: int64(len(config))}
	manifest := distro.CanonicalJSON(map[string]any{"schemaVersion": 2, "mediaType": mediaManifest, "config": configDesc,
		"layers": []descriptor{layerDesc}, "annotations": annotations(opts.Labels, created)})
	manifestDesc := descriptor{MediaType: mediaManifest, Digest: distro.DigestOf(manifest), Size: int64(len(manifest)), Platform: &platform}
	if opts.Name != "" {
		manifestDesc.Annotations = map[string]string{"org.opencontainers.image.ref.name": opts.Name}
	}
	index := distro.CanonicalJSON(map[string]any{"schemaVersion": 2, "mediaType": mediaIndex, "manifests": []descriptor{manifestDesc}})

	tw := tar.NewWriter(out)
	for _, part := range []struct {
		name string
		size int64
		data io.Reader
	}{
		{"oci-layout", -1, strings.NewReader("{\"imageLayoutVersion\":\"1.0.0\"}\n")},
		{"index.json", -1, bytes.NewReader(index)},
		{"blobs/", 0, nil}, {"blobs/sha256/", 0, nil},
		{"blobs/sha256/" + manifestDesc.Digest.Hex(), -1, bytes.NewReader(manifest)},
		{"blobs/sha256/" + configDesc.Digest.Hex(), -1, bytes.NewReader(config)},
		{"blobs/sha256/" + layerDesc.Digest.Hex(), size, layer},
	} {
		h := &tar.Header{Name: part.name, Mode: 0o644, Size: part.size, ModTime: opts.Date.Truncate(time.Second), Format: tar.FormatUSTAR, Typeflag: tar.TypeReg}
		if l, ok := part.data.(interface{ Len() int }); ok {
			h.Size = int64(l.Len())
		}
		if part.data == nil {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if h.Size >= 8<<30 {
			h.Format = tar.FormatPAX
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if part.data != nil {
			if _, err := io.Copy(tw, part.data); err != nil {
				return err
			}
		}
	}
	return tw.Close()
}

func annotations(labels map[string]string, created string) map[string]string {
	a := map[string]string{"org.opencontainers.image.created": created}
	for k, v := range labels {
		if strings.HasPrefix(k, "org.opencontainers.image.") {
			a[k] = v
		}
	}
	return a
}

// writeLayer writes the files of a root as a tar, sorted by path. Names of
// owners are left out: the numbers count.
func writeLayer(ctx context.Context, root string, w io.Writer) error {
	tw := tar.NewWriter(w)
	first := map[[2]uint64]string{} // of hard links
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if path == root {
			return nil
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		h, err := tarHeader(path, name, fi)
		if err != nil || h == nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		if st.Nlink > 1 && !d.IsDir() {
			id := [2]uint64{st.Dev, st.Ino}
			if other, ok := first[id]; ok {
				h.Typeflag, h.Linkname, h.Size = tar.TypeLink, other, 0
			} else {
				first[id] = name
			}
		}
		if err := tw.WriteHeader(h); err != nil {
			return errs.Wrap(err, "%s", path)
		}
		if h.Typeflag != tar.TypeReg {
			return nil
		}
		return errs.Wrap(copyFile(ctx, tw, path), "%s", path)
	})
	if err != nil {
		return err
	}
	return tw.Close()
}

func tarHeader(path, name string, fi fs.FileInfo) (*tar.Header, error) {
	link := ""
	if fi.Mode()&fs.ModeSymlink != 0 {
		var err error
		if link, err = os.Readlink(path); err != nil {
			return nil, err
		}
	}
	if fi.Mode()&fs.ModeSocket != 0 {
		return nil, nil
	}
	h, err := tar.FileInfoHeader(fi, link)
	if err != nil {
		return nil, errs.Wrap(err, "%s", path)
	}
	h.Name, h.Uname, h.Gname, h.Format = name, "", "", tar.FormatPAX
	h.ModTime, h.AccessTime, h.ChangeTime = fi.ModTime().Truncate(time.Second), time.Time{}, time.Time{}
	if fi.IsDir() {
		h.Name += "/"
	}
	// An ordinary user's files are root's in the image, as in the name space that
	// the packages were installed in.
	if me := os.Geteuid(); me != 0 {
		if h.Uid == me {
			h.Uid = 0
		}
		if h.Gid == os.Getegid() {
			h.Gid = 0
		}
	}
	if fi.Mode().IsRegular() {
		caps := make([]byte, 64)
		n, err := syscall.Getxattr(path, "security.capability", caps)
		if err == nil && n > 0 {
			h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": string(portable(caps[:n]))}
		}
	}
	return h, nil
}

// portable turns file capabilities of a user name space (revision 3, with the
// id of its root) into the ones that hold everywhere (revision 2).
func portable(caps []byte) []byte {
	if len(caps) == 24 && caps[3] == 3 {
		caps = append([]byte(nil), caps[:20]...)
		binary.LittleEndian.PutUint32(caps, binary.LittleEndian.Uint32(caps)&0x00ffffff|2<<24)
	}
	return caps
}

// copyFile copies a file that an ordinary user may own and not be allowed to
// read: in a user name space they may.
func copyFile(ctx context.Context, w io.Writer, path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		_, err := command{args: []string{"cat", "--", path}, stdout: w, mapped: true}.run(ctx)
		return err
	} else if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	n, err := io.Copy(w, f)
	if err == nil {
		if st, serr := f.Stat(); serr == nil && st.Size() != n {
			err = fmt.Errorf("changed while it was read")
		}
	}
	return err
}
