package dnf

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// arches is the device's architectures as dnf's variable arch takes them, the
// best first; noarch needs no naming. "" leaves dnf to look at this machine.
func (o Options) arches() string {
	arch := o.Arch
	if arch == "noarch" {
		arch = ""
	}
	if o.MachineArch == "" {
		return arch
	}
	if arch == "" {
		arch = distro.HostArch()
	}
	return o.MachineArch + ":" + arch
}

// rpmrc lets rpm itself see the device's packages as its own.
func (o Options) rpmrc() string {
	return fmt.Sprintf("arch_compat: %s: %s noarch\n", distro.HostArch(), strings.ReplaceAll(o.arches(), ":", " "))
}

// canRun reports whether programs of the device run here: they are this
// machine's, or the kernel starts an emulator for them that a changed root does
// not hide (flag F).
func (o Options) canRun() bool {
	arch := o.Arch
	if family, ok := distro.ArchFamily(arch); ok {
		arch = family // core2_64 is a tune of x86_64
	}
	if arch == "" || arch == "noarch" || arch == distro.HostArch() {
		return true
	}
	data, err := os.ReadFile("/proc/sys/fs/binfmt_misc/qemu-" + arch)
	if err != nil || !bytes.HasPrefix(data, []byte("enabled")) {
		return false
	}
	_, flags, _ := strings.Cut(string(data), "flags: ")
	flags, _, _ = strings.Cut(flags, "\n")
	return strings.Contains(flags, "F")
}

// scriptletTags are rpm's tags of the interpreters, with the names of the
// sections that they stand for.
var scriptletTags = [][2]string{{"PRETRANSPROG", "%pretrans"}, {"PREINPROG", "%pre"}, {"POSTINPROG", "%post"}, {"PREUNPROG", "%preun"},
	{"POSTUNPROG", "%postun"}, {"POSTTRANSPROG", "%posttrans"}, {"TRIGGERSCRIPTPROG", "%trigger"}}

func scriptletFormat() string {
	f := "%{NAME}"
	for _, t := range scriptletTags {
		f += `\t[%{` + t[0] + `} ]`
	}
	return f + `\n`
}

// foreignScriptlets gives the scriptlets, of packages that a transaction brings
// or that are there already, that a program of the device would have to run:
// "logline: %pre by /bin/sh". rpm runs Lua itself, whatever the architecture is.
func (r *Root) foreignScriptlets(ctx context.Context, args []string) ([]string, error) {
	dir, err := os.MkdirTemp(filepath.Join(r.Dir, "tmp"), "fetch-")
	if err != nil {
		return nil, errs.E(errs.Unavailable, "a folder for packages", err)
	}
	defer os.RemoveAll(dir)
	if _, err := r.dnf(ctx, append([]string{args[0], "--downloadonly", "--destdir=" + dir}, args[1:]...)...); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.rpm"))
	if err != nil {
		return nil, err
	}
	out, err := r.rpm(ctx, "-qa", "--qf", scriptletFormat())
	if err == nil && len(files) > 0 {
		var more string
		more, err = r.rpm(ctx, append([]string{"-qp", "--nosignature", "--qf", scriptletFormat()}, files...)...)
		out += more
	}
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var all []string
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		for i, t := range scriptletTags {
			if i+1 >= len(f) {
				break
			}
			prog := strings.TrimSpace(strings.ReplaceAll(f[i+1], "(none)", ""))
			if prog == "" || strings.Trim(strings.ReplaceAll(prog, "<lua>", ""), " ") == "" {
				continue
			}
			if s := f[0] + ": " + t[1] + " by " + strings.Fields(prog)[0]; !seen[s] {
				seen[s] = true
				all = append(all, s)
			}
		}
	}
	sort.Strings(all)
	return all, nil
}
