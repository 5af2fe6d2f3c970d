package qemu

import (
	"fmt"
	"io"
	"strings"

	"slipway/internal/errs"
)

// Kernel is what a boot loader hands to the processor.
type Kernel struct {
	Name      string // of the kernel's file, for messages
	Image     []byte
	Initramfs []byte // may be empty
	Cmdline   string
}

// Files reads files of an image's root file system, by absolute path.
type Files interface {
	ReadFile(name string) ([]byte, error)
}

// BootConf is the file of an image that names what it boots: lines
// "kernel=PATH", "initramfs=PATH" (may be missing), "cmdline=TEXT"; empty lines
// and those that begin with # are ignored. The kernel package's scriptlets write
// it.
const BootConf = "/boot/slipway-boot.conf"

// KernelFrom gives an [Options.Kernel] that reads what the image itself names in
// [BootConf]. What open gives is closed when it is an io.Closer.
func KernelFrom(open func(disk string) (Files, error)) func(disk string) (Kernel, error) {
	return func(disk string) (Kernel, error) {
		files, err := open(disk)
		if err != nil {
			return Kernel{}, err
		}
		if c, ok := files.(io.Closer); ok {
			defer func() { _ = c.Close() }()
		}
		return ReadKernel(files)
	}
}

// ReadKernel reads the kernel that the image names.
func ReadKernel(files Files) (Kernel, error) {
	conf, err := files.ReadFile(BootConf)
	if err != nil {
		return Kernel{}, errs.E(errs.Failed, "the image does not say what it boots", err,
			errs.Hint("it needs a kernel package: its scriptlets write "+BootConf))
	}
	k, initramfs, err := parseBootConf(string(conf))
	if err != nil {
		return Kernel{}, err
	}
	if k.Image, err = files.ReadFile(k.Name); err != nil {
		return Kernel{}, errs.E(errs.Failed, BootConf+" names a kernel that cannot be read", err)
	}
	if initramfs != "" {
		if k.Initramfs, err = files.ReadFile(initramfs); err != nil {
			return Kernel{}, errs.E(errs.Failed, BootConf+" names an initramfs that cannot be read", err)
		}
	}
	return k, nil
}

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
