package rpmbuild

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// target is what one task builds for.
type target struct {
	Scope string `json:"scope"`           // of its packages: "noarch", an architecture, an SoC family, a machine
	Arch  string `json:"arch"`            // that the compiler makes
	Board string `json:"board,omitempty"` // of a machine package
	SoC   string `json:"soc,omitempty"`   // family of a family's package, or of the board, as the definition names it
}

// special reports whether the packages are of no architecture that rpm knows: of a
// machine or of an SoC family.
func (t target) special() bool { return t.Board != "" || t.SoC != "" }

// neutral is the architecture that rpm is told for noarch packages: always the
// same one, so that they have the same bytes whatever the series is built for.
const neutral = "x86_64"

var noarch = target{Scope: "noarch", Arch: neutral}

// cpu is the architecture as rpm calls it.
func (t target) cpu() string {
	if t.special() {
		return t.Scope
	}
	return t.Arch
}

// vars are the macros that differ between targets. A noarch spec has none.
func (t target) vars() map[string]string {
	if t.Scope == noarch.Scope {
		return nil
	}
	a, _ := distro.LookupArch(t.Arch)
	m := map[string]string{"slipway_cc": "gcc", "slipway_deb_arch": a.Debian, "slipway_deb_triplet": a.Triplet}
	if t.Arch != distro.HostArch() {
		m["slipway_cc"] = crossTool(a, "gcc")
		m["__strip"], m["__objdump"] = crossTool(a, "strip"), crossTool(a, "objdump")
	}
	if t.Board != "" {
		m["slipway_machine"], m["slipway_machine_arch"] = t.Board, t.Scope
	}
	if t.SoC != "" {
		m["slipway_soc_family"], m["slipway_soc_arch"] = t.SoC, distro.RPMArch(t.SoC)
	}
	return m
}

func crossTool(a distro.Arch, tool string) string {
	if a.Name == "i686" { // Debian's folders say i386, its compilers i686
		return "i686-linux-gnu-" + tool
	}
	return a.Triplet + "-" + tool
}

// usesMachine, usesSoC and usesArch find macros that only such targets define.
var (
	usesMachine = regexp.MustCompile(`%\{?[?!]*slipway_machine(_arch)?\b`)
	usesSoC     = regexp.MustCompile(`%\{?[?!]*slipway_soc_(arch|family)\b`)
	usesArch    = regexp.MustCompile(`%\{?[?!]*slipway_(cc|deb_arch|deb_triplet)\b`)
	commentLine = regexp.MustCompile(`(?m)^\s*#.*$`)
)

// code is the spec without its comments.
func (s *spec) code() string { return commentLine.ReplaceAllString(s.text, "") }

// excluded reports whether ExclusiveArch or ExcludeArch leaves a target out.
func (s *spec) excluded() bool {
	return len(s.exclusive) > 0 && !slices.Contains(s.exclusive, s.target.Scope) || slices.Contains(s.exclude, s.target.Scope)
}

// targets checks architectures and boards and gives what the specs of machines and of
// SoC families are built for.
func targets(arches []string, boards []distro.Board) (all, families []target, err error) {
	var bad errs.List
	for i, a := range arches {
		switch _, ok := distro.LookupArch(a); {
		case !ok:
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("there is no architecture %q", a), errs.Hint("known: "+strings.Join(distro.ArchNames(), ", "))))
		case slices.Contains(arches[:i], a):
			bad = append(bad, errs.Ef(errs.Invalid, "architecture %s is there twice", a))
		}
	}
	for _, b := range boards {
		t := target{Scope: b.MachineArch, Arch: b.Arch, Board: b.Name, SoC: b.SoCFamily}
		if t.Scope == "" {
			t.Scope = distro.MachineArch(b.Name)
		}
		_, arch := distro.LookupArch(t.Scope)
		i := slices.IndexFunc(all, func(o target) bool { return o.Scope == t.Scope })
		switch {
		case !slices.Contains(arches, t.Arch):
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("board %s has the architecture %q, which is not built", b.Name, t.Arch),
				errs.Hintf("builder: {kind: rpmbuild, arches: [%s]}", strings.Join(append(slices.Clone(arches), t.Arch), ", "))))
		case !machineArch.MatchString(t.Scope) || arch || t.Scope == "noarch" || t.Scope == "src":
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("board %s has the machine architecture %q, which is no name for one", b.Name, t.Scope),
				errs.Hint("machine_arch: letters, digits and _, and no architecture of generic packages")))
		case i >= 0:
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("the boards %s and %s have one machine architecture, %s", all[i].Board, b.Name, t.Scope), errs.Hint("give one of them another machine_arch")))
		}
		all = append(all, t)
	}
	for _, t := range all {
		if t.SoC == "" {
			continue
		}
		f := target{Scope: distro.RPMArch(t.SoC), Arch: t.Arch, SoC: t.SoC}
		_, arch := distro.LookupArch(f.Scope)
		i := slices.IndexFunc(families, func(o target) bool { return o.Scope == f.Scope })
		j := slices.IndexFunc(all, func(o target) bool { return o.Scope == f.Scope })
		switch {
		case !machineArch.MatchString(f.Scope) || arch || f.Scope == "noarch" || f.Scope == "src":
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("board %s has the SoC family %q, which is no name for one", t.Board, t.SoC),
				errs.Hint("soc_family: letters, digits, - and _, and no architecture of generic packages")))
		case j >= 0:
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("board %s has the SoC family %s, and the machine architecture of board %s is the same", t.Board, t.SoC, all[j].Board),
				errs.Hint("each has its own feed: give the board another machine_arch")))
		case i >= 0 && families[i].Arch != t.Arch:
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("the SoC family %s has boards of %s and of %s (%s): its packages are of one", t.SoC, families[i].Arch, t.Arch, t.Board),
				errs.Hint("give them families of their own: "+t.SoC+"-"+t.Arch)))
		case i < 0:
			families = append(families, f)
		}
	}
	return all, families, bad.Err()
}

var machineArch = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_]*$`)

// CrossTools says what this machine lacks to compile and strip for an
// architecture: nil when nothing, else errs.Unavailable with the packages to
// install. Prepare asks for strip alone, and for the compiler where a spec does.
func CrossTools(arch string) error {
	a, ok := distro.LookupArch(arch)
	if !ok {
		return errs.E(errs.Invalid, fmt.Sprintf("there is no architecture %q", arch), errs.Hint("known: "+strings.Join(distro.ArchNames(), ", ")))
	}
	tools := []string{"gcc", "strip", "objdump"}
	if arch != distro.HostArch() {
		for i := range tools {
			tools[i] = crossTool(a, tools[i])
		}
	}
	for _, t := range tools {
		if !onBuildPath(t) {
			return missingTool(t, "packages for "+arch)
		}
	}
	return nil
}

// stripTools reports a missing strip of each foreign architecture, once.
func stripTools(tasks []task) errs.List {
	var bad errs.List
	seen := map[string]bool{}
	for _, t := range tasks {
		strip := t.Vars["__strip"]
		if strip == "" || seen[strip] {
			continue
		}
		seen[strip] = true
		if !onBuildPath(strip) {
			bad = append(bad, missingTool(strip, "packages for "+t.Target.Arch))
		}
	}
	return bad
}

// debianOf names the Debian package of a cross tool, "aarch64-linux-gnu-gcc".
func debianOf(tool string) string {
	for _, a := range distro.Arches {
		for _, t := range []string{"gcc", "strip", "objdump", "ld", "ar"} {
			if tool != crossTool(a, t) {
				continue
			}
			triplet := strings.ReplaceAll(strings.TrimSuffix(tool, "-"+t), "_", "-")
			if t == "gcc" {
				return "gcc-" + triplet + " libc6-dev-" + a.Debian + "-cross"
			}
			return "binutils-" + triplet
		}
	}
	return ""
}

// sourceMacros gives %{slipway_source_version} and %{slipway_source_package}:
// alone they speak of the first source of sources.yaml that a target uses,
// with a file name of that source. They are functions in rpm's Lua.
func sourceMacros(t target, pins []distro.SourcePin) string {
	var versions, packages strings.Builder
	a, _ := distro.LookupArch(t.Arch)
	first := true
	for _, p := range pins {
		version, pkg := lua(upstream(p.Version)), lua(originPackage(p.Origin))
		if d := originArch(p.Origin); first && (d == "" || d == "all" || d == a.Debian && t.Scope != noarch.Scope) {
			fmt.Fprintf(&versions, `[""]=%s,`, version)
			fmt.Fprintf(&packages, `[""]=%s,`, pkg)
			first = false
		}
		fmt.Fprintf(&versions, `[%s]=%s,`, lua(p.Name), version)
		fmt.Fprintf(&packages, `[%s]=%s,`, lua(p.Name), pkg)
	}
	if len(pins) == 0 {
		return ""
	}
	const f = "%%slipway_source_%s() %%{lua:local v={%s} print(v[arg[1] or \"\"] or rpm.expand(\"%%{error:sources.yaml pins no source \"..(arg[1] or \"for this architecture\")..\"}\"))}\n"
	return fmt.Sprintf(f, "version", versions.String()) + fmt.Sprintf(f, "package", packages.String())
}

// lua quotes a text so that neither Lua nor rpm sees anything in it.
func lua(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("._+~^-", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\%03d`, c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// An origin is "debian:<package>=<version>", "deb:<package>_<version>_<arch>" or
// "debs:<package>_<version>_<arch>": docs/format/sources-lock.md.
func originPackage(origin string) string {
	_, name, _ := strings.Cut(origin, ":")
	if i := strings.IndexAny(name, "=_"); i >= 0 {
		name = name[:i]
	}
	return name
}

func originArch(origin string) string {
	if !strings.HasPrefix(origin, "deb:") && !strings.HasPrefix(origin, "debs:") {
		return ""
	}
	return origin[strings.LastIndexByte(origin, '_')+1:]
}
