package qemu

import (
	"fmt"
	"strings"

	"slipway/internal/errs"
	"slipway/internal/imagefs"
)

// Kernel is what a boot loader hands to the processor.
type Kernel struct {
	Name      string // of the kernel's file, for messages
	Image     []byte
	Initramfs []byte // may be empty
	Cmdline   string
}

// Files reads files by names as in io/fs: no slash in front.
type Files interface {
	ReadFile(name string) ([]byte, error)
}

// BootConf is the file of an image that names what it boots: lines
// "kernel=PATH", "initramfs=PATH" (may be missing), "cmdline=TEXT"; empty lines
// and those that begin with # are ignored. The kernel package's scriptlets write
// it.
const BootConf = "/boot/slipway-boot.conf"

// ImageKernel reads the kernel that a disk image names: what [Options].Kernel is
// by default.
func ImageKernel(disk string) (Kernel, error) {
	img, err := imagefs.Open(disk)
	if err != nil && strings.Contains(err.Error(), "is truncated") {
		return Kernel{}, errs.E(errs.KindOf(err), "the image is not whole", err,
			errs.Hint("a download was cut short: get it again; the .json beside a published image has its sha256"))
	}
	if err != nil {
		return Kernel{}, err
	}
	defer func() { _ = img.Close() }()
	return ReadKernel(img)
}

// ReadKernel reads the kernel that the image names.
func ReadKernel(files Files) (Kernel, error) {
	conf, err := files.ReadFile(inside(BootConf))
	if err != nil {
		return Kernel{}, errs.E(errs.Failed, "the image does not say what it boots", err,
			errs.Hint("it needs a kernel package: its scriptlets write "+BootConf))
	}
	k, initramfs, err := parseBootConf(string(conf))
	if err != nil {
		return Kernel{}, err
	}
	if k.Image, err = files.ReadFile(inside(k.Name)); err != nil {
		return Kernel{}, errs.E(errs.Failed, BootConf+" names a kernel that cannot be read", err)
	}
	if initramfs != "" {
		if k.Initramfs, err = files.ReadFile(inside(initramfs)); err != nil {
			return Kernel{}, errs.E(errs.Failed, BootConf+" names an initramfs that cannot be read", err)
		}
	}
	return k, nil
}

func inside(path string) string { return strings.TrimLeft(path, "/") }

func parseBootConf(text string) (k Kernel, initramfs string, err error) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		switch key {
		case "kernel":
			k.Name = value
		case "initramfs":
			initramfs = value
		case "cmdline":
			k.Cmdline = value
		default:
			return k, "", errs.E(errs.Invalid, fmt.Sprintf("%q is neither kernel=, initramfs= nor cmdline=", line), errs.At{File: BootConf, Line: n})
		}
	}
	if k.Name == "" {
		return k, "", errs.E(errs.Invalid, "no kernel= is named", errs.At{File: BootConf})
	}
	return k, initramfs, nil
}
