package distro

import (
	"runtime"
	"strings"
)

// Arch is a package architecture and what others call it.
type Arch struct {
	Name    string // rpm's: "aarch64"
	Debian  string // "arm64"
	Triplet string // GNU's, as in names of compilers and of Debian's library folders: "aarch64-linux-gnu"
}

// Arches are the architectures that Slipway knows.
var Arches = []Arch{
	{"x86_64", "amd64", "x86_64-linux-gnu"},
	{"aarch64", "arm64", "aarch64-linux-gnu"},
	{"armv7hl", "armhf", "arm-linux-gnueabihf"},
	{"i686", "i386", "i386-linux-gnu"},
	{"ppc64le", "ppc64el", "powerpc64le-linux-gnu"},
	{"riscv64", "riscv64", "riscv64-linux-gnu"},
	{"s390x", "s390x", "s390x-linux-gnu"},
}

// LookupArch finds an architecture by rpm's name.
func LookupArch(name string) (Arch, bool) {
	for _, a := range Arches {
		if a.Name == name {
			return a, true
		}
	}
	return Arch{}, false
}

// ArchNames gives rpm's names of all, for hints.
func ArchNames() []string {
	names := make([]string, len(Arches))
	for i, a := range Arches {
		names[i] = a.Name
	}
	return names
}

// HostArch gives rpm's name of the architecture that this program runs on.
func HostArch() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return runtime.GOARCH
}

// Board is a machine as a builder sees it.
type Board struct {
	Name string `json:"name"` // "qemux86-64"
	Arch string `json:"arch"` // of the generic packages that run on it: "x86_64"
	// MachineArch is the scope of its machine packages; "" means [MachineArch] of the name.
	MachineArch string `json:"machine_arch"`
	SoCFamily   string `json:"soc_family,omitempty"` // scope between the two: "imx8"
	// Compatible are further architectures whose generic packages run on it, the best
	// last, as Yocto names them in the tune's PACKAGE_EXTRA_ARCHS.
	Compatible string `json:"compatible,omitempty"` // words
}

// MachineArch gives the default scope of a board's machine packages: its name,
// as rpm allows no dash in an architecture.
func MachineArch(board string) string { return strings.ReplaceAll(board, "-", "_") }
