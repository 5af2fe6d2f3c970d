package qemu

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"sort"

	"slipway/internal/errs"
)

// Rig is a kind of machine.
type Rig struct {
	Name    string // as a board's `boot: {rig: ...}` says it
	Arch    string // of the kernel, as uname -m says it
	Console string // the serial console, for console= of the command line

	program string // path of qemu
	debian  string
	machine string
	cpu     string
	append  string   // to the image's command line, when emulated
	kvm     []string // machine and cpu under KVM

	lab *lab // a real board; then nothing above but the name counts
}

// Emulated page tables are slow to change, and kernels change them at every system call on
// processors that Meltdown concerns: so the x86-64 one is not Intel's, and the
// arm64 one gets no seed for KASLR, which makes Linux do the same. Nehalem is
// what x86-64-v2 asks for. Linux counts the ticks of its timer when it starts, and
// panics when a busy machine gives it none for a moment: no_timer_check. Where a
// kernel that moves itself happens to land, this machine's memory is touched anew:
// nokaslr, half a second of a boot.
var rigs = map[string]Rig{
	"qemu-x86_64": {Arch: "x86_64", Console: "ttyS0", program: "qemu-system-x86_64", debian: "qemu-system-x86",
		machine: "q35", cpu: "Nehalem,vendor=AuthenticAMD", append: "no_timer_check nokaslr", kvm: []string{"q35", "host"}},
	"qemu-aarch64": {Arch: "aarch64", Console: "ttyAMA0", program: "qemu-system-aarch64", debian: "qemu-system-arm",
		machine: "virt,dtb-randomness=off", cpu: "cortex-a57", kvm: []string{"virt,gic-version=host", "host"}},
}

// Rigs names all rigs, sorted.
func Rigs() []string {
	names := make([]string, 0, len(rigs))
	for n := range rigs {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// Find gives a rig by name. The error is errs.NotFound for an unknown one, and
// errs.Unavailable, with the Debian package, when its QEMU is not installed.
func Find(name string) (*Rig, error) {
	r, ok := rigs[name]
	if !ok {
		hint := errs.Hintf("the rigs are %v", Rigs())
		if n := errs.Near(name, Rigs()); n != "" {
			hint = errs.Hintf("did you mean %q?", n)
		}
		return nil, errs.E(errs.NotFound, fmt.Sprintf("rig %q", name), hint)
	}
	r.Name = name
	path, err := exec.LookPath(r.program)
	if err != nil {
		return nil, errs.E(errs.Unavailable, fmt.Sprintf("%s is not installed: rig %s needs it", r.program, name), errs.Hint("apt-get install --no-install-recommends "+r.debian))
	}
	r.program = path
	return &r, nil
}

// RigOf names the rig that runs a kernel, by the magic of its first bytes: a
// bzImage is for x86-64, an Image, packed by gzip or not, for arm64. "" is neither.
// Source: Documentation/x86/boot.rst and Documentation/arm64/booting.rst of Linux.
func RigOf(kernel []byte) string {
	if z, err := gzip.NewReader(bytes.NewReader(kernel)); err == nil {
		head := make([]byte, 0x40)
		n, _ := io.ReadFull(z, head)
		kernel = head[:n]
	}
	at := func(offset int, magic string) bool {
		return len(kernel) > offset && bytes.HasPrefix(kernel[offset:], []byte(magic))
	}
	switch {
	case at(0x202, "HdrS"):
		return "qemu-x86_64"
	case at(0x38, "ARM\x64"):
		return "qemu-aarch64"
	}
	return ""
}

// native tells whether the rig's programs are this machine's.
func (r *Rig) native() bool {
	return map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH] == r.Arch
}
