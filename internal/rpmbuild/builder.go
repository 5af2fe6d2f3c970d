package rpmbuild

import (
	"context"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Numbers gives the next number of a key: one that was never given before, also
// not to a build that failed or was rejected, and is burned, durably, when Next
// returns. The first number of a key is 1.
type Numbers interface {
	Next(ctx context.Context, build distro.BuildID, key distro.NumberKey) (int, error)
}

// Options say how to build; none of them changes a package.
type Options struct {
	Jobs    int    // tasks at a time; 0 means one per processor
	Sandbox string // "auto" (the default): bwrap if it works; "bwrap"; "none"
	// Hide are folders that no build may be able to read: where keys lie. With
	// bwrap they are not there; without it a readable one refuses the build.
	Hide    []string
	Numbers Numbers
	// Arches are those of generic packages, as rpm names them; none means x86_64.
	Arches []string
	Tools  Tools
}

// Tools are the programs to start, as names on PATH or absolute paths. "" means
// the name of the field in small letters.
type Tools struct{ Rpmbuild, Rpmspec, Bwrap string }

// Builder builds layers of spec files. It has no state but that in the folder
// of a build: two may work at once in two folders.
type Builder struct{ opt Options }

// New gives a builder. Nothing is started or checked before Prepare.
func New(opt Options) *Builder {
	if opt.Jobs < 1 {
		opt.Jobs = runtime.NumCPU()
	}
	if opt.Sandbox == "" {
		opt.Sandbox = "auto"
	}
	if len(opt.Arches) == 0 {
		opt.Arches = []string{"x86_64"}
	}
	for _, t := range []struct {
		tool *string
		name string
	}{{&opt.Tools.Rpmbuild, "rpmbuild"}, {&opt.Tools.Rpmspec, "rpmspec"}, {&opt.Tools.Bwrap, "bwrap"}} {
		if *t.tool == "" {
			*t.tool = t.name
		}
	}
	return &Builder{opt}
}

// debianPackages names the Debian package of a tool whose name is another one.
var debianPackages = map[string]string{"rpmbuild": "rpm", "rpmspec": "rpm", "bwrap": "bubblewrap",
	"cc": "gcc", "ld": "binutils", "strip": "binutils", "ar": "binutils", "c++": "g++", "pkg-config": "pkgconf"}

func missingTool(tool, neededBy string) error {
	tool = filepath.Base(tool)
	pkg := tool
	if p := debianPackages[tool]; p != "" {
		pkg = p
	} else if p := debianOf(tool); p != "" {
		pkg = p
	}
	return errs.E(errs.Unavailable, "the program "+tool+", needed by "+neededBy+", is not installed", errs.Hint("apt-get install "+pkg))
}

// Pin gives the kind of the builder and the versions of the programs that
// decide the bytes of packages: part of a revision. A compiler that is not
// installed is left out (a spec that needs it says so in its BuildRequires).
func (b *Builder) Pin(ctx context.Context) (distro.BuilderPin, error) {
	pin := distro.BuilderPin{Kind: "rpmbuild", Tools: map[string]string{}}
	type program struct {
		name string
		must bool
		argv []string
	}
	programs := []program{{"rpm", true, []string{b.opt.Tools.Rpmbuild, "--version"}}}
	for _, arch := range b.opt.Arches {
		a, ok := distro.LookupArch(arch)
		gcc, ld, suffix := "gcc", "ld", ""
		if ok && arch != distro.HostArch() {
			gcc, ld, suffix = crossTool(a, "gcc"), crossTool(a, "ld"), "-"+arch
		}
		programs = append(programs, program{"gcc" + suffix, false, []string{gcc, "-dumpfullversion"}}, program{"binutils" + suffix, false, []string{ld, "--version"}})
	}
	for _, t := range programs {
		path, err := exec.LookPath(t.argv[0])
		if err != nil {
			if t.must {
				return pin, missingTool(t.argv[0], "the builder")
			}
			continue
		}
		out, err := exec.CommandContext(ctx, path, t.argv[1:]...).Output()
		if err != nil {
			return pin, errs.E(errs.Unavailable, "ask "+strings.Join(t.argv, " ")+" for its version", err)
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		pin.Tools[t.name] = strings.TrimPrefix(line, "RPM version ")
	}
	return pin, nil
}
