package distro

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"slipway/internal/errs"
)

// ScopeKind says what the packages of a scope are for.
type ScopeKind string

// The kinds.
const (
	ScopeNoarch  ScopeKind = "noarch"
	ScopeArch    ScopeKind = "arch" // any machine of an architecture
	ScopeSoC     ScopeKind = "soc-family"
	ScopeMachine ScopeKind = "machine"
)

// Scope is what a feed is for.
type Scope struct {
	Name   string    // of the feed's folder: "core2_64", "qemux86_64-dbg"
	Kind   ScopeKind // of its packages
	Arch   string    // the packages' architecture, as rpm names it: "core2_64"
	Family string    // of an architecture: "x86_64"; "" for the others
	Part   string    // "dbg", "src" or "dev" for a feed of such packages alone
}

// Parts are what may go to feeds of its own.
var Parts = []string{"dbg", "src", "dev"}

// RPMArch gives rpm's name of one of Yocto's architectures: without dashes, and
// "noarch" for "all".
func RPMArch(yocto string) string {
	if yocto == "all" || yocto == "any" {
		return "noarch"
	}
	return strings.ReplaceAll(yocto, "-", "_")
}

// ScopeOf says for what packages of an architecture are, by the boards: a
// machine's, an SoC family's, or by its name an architecture's. What is none of
// these is NotFound. A machine's name that is an architecture's, too ("x86_64"), is Invalid.
func ScopeOf(arch string, boards []Board) (Scope, error) {
	arch = RPMArch(arch)
	s := Scope{Name: arch, Arch: arch, Kind: ScopeArch}
	if arch == "noarch" {
		s.Kind = ScopeNoarch
		return s, nil
	}
	s.Family, _ = ArchFamily(arch)
	for _, b := range boards {
		switch {
		case b.machineArch() == arch:
			s.Kind = ScopeMachine
		case b.SoCFamily != "" && RPMArch(b.SoCFamily) == arch && s.Kind == ScopeArch:
			s.Kind = ScopeSoC
		}
	}
	switch {
	case s.Kind != ScopeArch && s.Family != "" && slices.ContainsFunc(boards, func(b Board) bool { return RPMArch(b.Arch) == arch }):
		return s, errs.E(errs.Invalid, fmt.Sprintf("%s is an architecture and the %s of a board", arch, s.Kind), errs.Hint("give the board a machine_arch of its own"))
	case s.Kind != ScopeArch:
		s.Family = ""
	case s.Family == "" && !slices.ContainsFunc(boards, func(b Board) bool { return slices.Contains(b.archs(), arch) }):
		return s, errs.E(errs.NotFound, fmt.Sprintf("%q is no architecture that is known, no SoC family and no machine of the boards", arch),
			errs.Hint("name the board whose packages these are in slipway.yaml, with its soc_family"))
	}
	return s, nil
}

// OwnArchs gives the architectures of the device's own packages, the most special
// first: the machine's and, where it has one, its SoC family's.
func (b Board) OwnArchs() []string {
	out := []string{b.machineArch()}
	if soc := RPMArch(b.SoCFamily); soc != "" && soc != out[0] {
		out = append(out, soc)
	}
	return out
}

func (b Board) machineArch() string {
	if b.MachineArch != "" {
		return b.MachineArch
	}
	return MachineArch(b.Name)
}

// archs gives the architectures of generic packages that run on the board, as rpm
// names them, the best last.
func (b Board) archs() []string {
	out := []string{}
	for _, a := range append(strings.Fields(b.Compatible), b.Arch) {
		if a = RPMArch(a); a != "noarch" && a != "" && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// Scopes gives the scopes that a board's device follows, the most special last, as
// BitBake's PACKAGE_ARCHS does: noarch, its architectures, its SoC family, itself.
func (b Board) Scopes() []string {
	out := append([]string{"noarch"}, b.archs()...)
	for _, s := range []string{RPMArch(b.SoCFamily), b.machineArch()} {
		if s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// RPMPlatform gives the text of a device's /etc/rpm/platform: the packages that rpm
// takes there, the most special first. dnf's own question is answered by its
// variables arch and basearch, which are those of the first line's beginning.
func (b Board) RPMPlatform() string {
	scopes := b.Scopes()
	slices.Reverse(scopes)
	var out strings.Builder
	for i, s := range scopes {
		ending := "-.*-linux.*"
		if i == 0 {
			ending = "-pkg-linux"
		}
		out.WriteString(s + ending + "\n")
	}
	return out.String()
}

// PartOf gives the part that a package is of, "dbg", "src" or "dev", by its name, as
// rpmbuild and BitBake make such packages; "" is what devices have.
func PartOf(name string) string {
	for ending, part := range map[string]string{"-dbg": "dbg", "-debuginfo": "dbg", "-src": "src", "-debugsource": "src", "-dev": "dev", "-devel": "dev", "-staticdev": "dev"} {
		if strings.HasSuffix(name, ending) {
			return part
		}
	}
	return ""
}

// SplitScope gives the scope of a package's feed: its architecture's, or one of its
// part's own where the parts that are kept apart say so.
func SplitScope(arch, name string, separate []string) string {
	if part := PartOf(name); part != "" && slices.Contains(separate, part) {
		return RPMArch(arch) + "-" + part
	}
	return RPMArch(arch)
}

// ScopePart takes a scope's name apart: "core2_64-dbg" is "core2_64" and "dbg".
func ScopePart(scope string) (arch, part string) {
	if arch, part, ok := strings.Cut(scope, "-"); ok && slices.Contains(Parts, part) {
		return arch, part
	}
	return scope, ""
}

// families are forms of the names of Yocto's tunes, as rpm names them; the first
// that matches says whose processor runs them, by the name that GNU's triplets and
// BitBake's TUNE_ARCH have. The golden testdata/tunes.txt holds all of OE-Core's.
var families = []struct {
	form   *regexp.Regexp
	family string
}{
	{tune(`(x86_64|core2_64|corei7_64|x86_64_v[1-4])(_x32)?`), "x86_64"},
	{tune(`x86|i[3-6]86|i586_nlp_32|(core2|corei7)_32|c3|atom`), "i586"},
	{tune(`aarch64_be|thunderx_be`), "aarch64_be"},
	// Cortex-A32 and the 32-bit tunes of ARMv8 say so by Thumb ("t2") or a floating point unit.
	{tune(`(cortexa32|armv8r|cortexr52|cortexr82)(_?[a-z0-9].*)?|armv8m.*|armv8_1m.*`), "arm"},
	{tune(`arm(v8|v9).*(t2|hf|neon).*`), "arm"},
	{tune(`aarch64|armv[89](_[0-9])?a(_.*)?|armv[89]_[0-9]a(_.*)?|cortexa(3[45]|5[357]|510|6[05].*|7[1-8].*|710|715)(_.*)?|cortexx[0-9]c?(_.*)?|neoverse.*|thunderx|octeontx2.*`), "aarch64"},
	{tune(`(armv[4-7][a-z0-9]*b|armeb)(_.*)?|(cortex|arm|xscale|strongarm|iwmmxt|ep)[a-z0-9]*b(_.*)?`), "armeb"},
	{tune(`(arm|cortex|xscale|strongarm|iwmmxt|ep93)[a-z0-9]*(_.*)?`), "arm"},
	{tune(`riscv32[a-z]*(_.*)?`), "riscv32"},
	{tune(`riscv64[a-z]*(_.*)?`), "riscv64"},
	{tune(`(ppc64|powerpc64)[a-z0-9]*le`), "powerpc64le"},
	{tune(`(ppc64|powerpc64)[a-z0-9]*`), "powerpc64"},
	{tune(`(ppc|powerpc)[a-z0-9]*le(_nf)?`), "powerpcle"},
	{tune(`(ppc|powerpc)[a-z0-9]*(_nf)?`), "powerpc"},
	{tune(`mipsisa32r6el(_.*)?`), "mipsisa32r6el"},
	{tune(`mipsisa32r6(_.*)?`), "mipsisa32r6"},
	{tune(`mipsisa64r6el(_.*)?`), "mipsisa64r6el"},
	{tune(`mipsisa64r6(_.*)?`), "mipsisa64r6"},
	{tune(`mips64(r[0-9])?el(_nf)?_o32`), "mipsel"},
	{tune(`mips64(r[0-9])?(_nf)?_o32`), "mips"},
	{tune(`mips64(r[0-9])?el(_.*)?`), "mips64el"},
	{tune(`mips64(r[0-9])?(_.*)?|octeon[0-9]_.*`), "mips64"},
	{tune(`mips(32)?(r[0-9])?el(_.*)?`), "mipsel"},
	{tune(`mips(32)?(r[0-9])?(_.*)?`), "mips"},
	{tune(`sh4a?eb`), "sh4eb"},
	{tune(`sh4a?`), "sh4"},
	{tune(`sh3eb`), "sh3eb"},
	{tune(`sh3`), "sh3"},
	{tune(`loongarch64`), "loongarch64"},
	{tune(`microblazeel.*`), "microblazeel"},
	{tune(`microblaze.*`), "microblaze"},
	{tune(`m68k|mcf[a-z0-9]*`), "m68k"},
	{tune(`s390x`), "s390x"},
}

func tune(form string) *regexp.Regexp { return regexp.MustCompile(`^(` + form + `)$`) }

// ArchFamily gives whose processor runs packages of an architecture, "x86_64" for
// "core2_64" and for Yocto's "core2-64"; false when its name is of no form that is known.
func ArchFamily(arch string) (string, bool) {
	arch = RPMArch(arch)
	for _, f := range families {
		if f.form.MatchString(arch) {
			return f.family, true
		}
	}
	return "", false
}
