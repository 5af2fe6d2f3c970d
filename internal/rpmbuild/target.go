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
	Scope string `json:"scope"`           // of its packages: "noarch", an architecture, a machine
	Arch  string `json:"arch"`            // that the compiler makes
	Board string `json:"board,omitempty"` // of a machine package
}

// neutral is the architecture that rpm is told for noarch packages: always the
// same one, so that they have the same bytes whatever the series is built for.
const neutral = "x86_64"

var noarch = target{Scope: "noarch", Arch: neutral}

// cpu is the architecture as rpm calls it.
func (t target) cpu() string {
	if t.Board != "" {
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
	return m
}

func crossTool(a distro.Arch, tool string) string {
	if a.Name == "i686" { // Debian's folders say i386, its compilers i686
		return "i686-linux-gnu-" + tool
	}
	return a.Triplet + "-" + tool
}

// usesMachine and usesArch find macros that only such targets define.
var (
	usesMachine = regexp.MustCompile(`%\{?[?!]*slipway_machine(_arch)?\b`)
	usesArch    = regexp.MustCompile(`%\{?[?!]*slipway_(cc|deb_arch|deb_triplet)\b`)
	commentLine = regexp.MustCompile(`(?m)^\s*#.*$`)
)

// code is the spec without its comments.
func (s *spec) code() string { return commentLine.ReplaceAllString(s.text, "") }

// excluded reports whether ExclusiveArch or ExcludeArch leaves a target out.
func (s *spec) excluded() bool {
	return len(s.exclusive) > 0 && !slices.Contains(s.exclusive, s.target.Scope) || slices.Contains(s.exclude, s.target.Scope)
}

// targets checks architectures and boards and gives what machine specs are
// built for.
func targets(arches []string, boards []distro.Board) ([]target, error) {
	var bad errs.List
	for i, a := range arches {
		switch _, ok := distro.LookupArch(a); {
		case !ok:
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("there is no architecture %q", a), errs.Hint("known: "+strings.Join(distro.ArchNames(), ", "))))
		case slices.Contains(arches[:i], a):
			bad = append(bad, errs.Ef(errs.Invalid, "architecture %s is there twice", a))
		}
	}
	var all []target
	for _, b := range boards {
		t := target{Scope: b.MachineArch, Arch: b.Arch, Board: b.Name}
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
	return all, bad.Err()
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
