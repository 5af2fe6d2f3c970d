// Package esdk reads installers of OE-Core's extensible SDK, as populate_sdk_ext leaves
// them in deploy/sdk: a shell script, a line "MARKER:", and a tar archive, compressed by
// xz or zstd (meta/files/toolchain-shar-extract.sh). Nothing of an installer is run.
//
// [Extract] writes what `devtool sdk-update` asks an update server for, which is what
// scripts/oe-publish-sdk keeps of an unpacked installer: conf/ with sdk-conf-manifest,
// layers/, the build cache and uninative.
package esdk

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"slipway/internal/errs"
)

// Manifest is what a client asks for first: lines of a sha256 and a file below the SDK.
// It changes when any configuration of the SDK does.
const Manifest = "conf/sdk-conf-manifest"

// IsInstaller tells an extensible SDK's installer by its name (TOOLCHAINEXT_OUTPUTNAME).
func IsInstaller(name string) bool {
	return strings.Contains(path.Base(name), "-toolchain-ext-") && strings.HasSuffix(name, ".sh")
}

// folders are what an update server has of an SDK.
var folders = []string{"conf/", "layers/", "sstate-cache/", "downloads/uninative/"}

// Extract writes an installer's files for an update server into dir, which must be there,
// and gives the address that the SDK asks for updates (SDK_UPDATE_URL); "" is none. An
// installer that is cut off, or is none of an extensible SDK, is Invalid.
func Extract(ctx context.Context, r io.Reader, dir string) (url string, err error) {
	payload, err := payloadOf(r)
	if err != nil {
		return "", err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", errs.E(errs.Unavailable, "open "+dir, err)
	}
	defer root.Close()
	t := tar.NewReader(payload)
	for {
		if err := ctx.Err(); err != nil {
			return "", errs.E(errs.Interrupted, "stopped", err)
		}
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", errs.E(errs.Invalid, "the installer's archive cannot be read: it is cut off, or damaged", err)
		}
		name := path.Clean(strings.TrimPrefix(h.Name, "./"))
		if !wanted(name) || strings.HasPrefix(name, "layers/.git/") {
			continue
		}
		if !filepath.IsLocal(name) {
			return "", errs.E(errs.Denied, fmt.Sprintf("the installer has a file named %q", h.Name))
		}
		if err := write(root, name, h, t); err != nil {
			return "", err
		}
	}
	if _, err := root.Stat(Manifest); err != nil {
		return "", errs.E(errs.Invalid, "the installer has no "+Manifest+": it is none of an extensible SDK", err)
	}
	conf, err := root.ReadFile("conf/devtool.conf")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", errs.E(errs.Unavailable, "read conf/devtool.conf", err)
	}
	return updateServer(string(conf)), nil
}

func wanted(name string) bool {
	for _, f := range folders {
		if strings.HasPrefix(name, f) {
			return true
		}
	}
	return false
}

// payloadOf gives the archive of an installer, decompressed.
func payloadOf(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	const most = 16 << 20 // of the script
	for read := 0; ; {
		line, err := b.ReadSlice('\n')
		read += len(line)
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil || read > most {
			return nil, errs.E(errs.Invalid, "it is no installer of an SDK: it has no line MARKER:")
		}
		if string(line) == "MARKER:\n" {
			break
		}
	}
	magic, err := b.Peek(6)
	if err != nil {
		return nil, errs.E(errs.Invalid, "the installer ends before its archive")
	}
	switch {
	case string(magic) == "\xfd7zXZ\x00":
		x, err := xz.NewReader(b)
		if err != nil {
			return nil, errs.E(errs.Invalid, "the installer's archive cannot be read", err)
		}
		return x, nil
	case string(magic[:4]) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, errs.E(errs.Invalid, "the installer's archive cannot be read", err)
		}
		return z.IOReadCloser(), nil
	}
	return nil, errs.E(errs.Invalid, "the installer's archive is neither tar.xz nor tar.zst", errs.Hint(`SDK_ARCHIVE_TYPE = "tar.xz"`))
}

func write(root *os.Root, name string, h *tar.Header, r io.Reader) error {
	bad := func(err error) error { return errs.E(errs.Unavailable, "write "+name, err) }
	if h.Typeflag != tar.TypeDir {
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return bad(err)
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(name, 0o755); err != nil {
			return bad(err)
		}
	case tar.TypeReg:
		mode := fs.FileMode(0o644)
		if h.Mode&0o111 != 0 {
			mode = 0o755
		}
		f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
		if err != nil {
			return bad(err)
		}
		_, err = io.Copy(f, r)
		if err := errors.Join(err, f.Close()); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return errs.E(errs.Invalid, "the installer's archive is cut off in "+name, err)
			}
			return bad(err)
		}
	case tar.TypeSymlink:
		if path.IsAbs(h.Linkname) || !filepath.IsLocal(path.Join(path.Dir(name), h.Linkname)) {
			return errs.E(errs.Denied, fmt.Sprintf("the installer's link %s leads out of the SDK, to %s", name, h.Linkname))
		}
		if err := root.Symlink(h.Linkname, name); err != nil {
			return bad(err)
		}
	case tar.TypeLink:
		target := path.Clean(strings.TrimPrefix(h.Linkname, "./"))
		if err := root.Link(target, name); err != nil {
			return bad(err)
		}
	}
	return nil
}

// updateServer reads "updateserver" of section SDK of conf/devtool.conf.
func updateServer(conf string) string {
	section := ""
	for line := range strings.Lines(conf) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if ok && section == "SDK" && strings.TrimSpace(key) == "updateserver" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
