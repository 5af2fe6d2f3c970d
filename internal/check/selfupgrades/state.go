package selfupgrades

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/errs"
)

// loaded lists the kernel's modules that are loaded, sorted.
func (d *device) loaded(ctx context.Context) ([]string, error) {
	out, err := d.sh(ctx, "cut -d ' ' -f 1 /proc/modules 2>/dev/null | sort")
	return strings.Fields(out.Stdout), err
}

// kernel asks whether the upgraded device runs the candidate's kernel, and whether each
// module that it had loaded, of the older feed, has come with it: kernel and modules are
// one locked set.
func (d *device) kernel(ctx context.Context, newest map[string]distro.PackageRecord) error {
	d.asked++
	out, err := d.sh(ctx, `/usr/bin/rpm -qf --qf '%{NAME}\n' "/usr/lib/modules/$(uname -r)" 2>/dev/null || /usr/bin/rpm -qf --qf '%{NAME}\n' "/lib/modules/$(uname -r)"`)
	if err != nil && !errs.Is(err, errs.Failed) {
		return err
	}
	var owners []string
	for l := range strings.Lines(out.Stdout) {
		if l = strings.TrimSpace(l); err == nil && l != "" && !strings.Contains(l, " ") {
			owners = append(owners, l)
		}
	}
	running := d.kernels[len(d.kernels)-1]
	switch {
	case len(owners) == 0:
		d.note("no package owns the modules of %s: nobody knows whether that is the candidate's kernel", running)
	case !slices.ContainsFunc(owners, func(n string) bool { _, ok := newest[n]; return ok }):
		d.find("up:kernel", "the package that names the kernel must name the new one when it is upgraded: %post of kernel-set in the example", "after the upgrade the device runs kernel %s, of %s, which the candidate does not bring", running, strings.Join(owners, " and "))
	case running == d.kernels[0] && d.newerKernel(owners, newest):
		d.find("up:kernel", "the package that names the kernel must name the new one when it is upgraded: %post of kernel-set in the example", "after the upgrade and a reboot the device still runs kernel %s, though the candidate brings a newer one", running)
	}
	if err := d.shell.Upload(ctx, moduleList, 0o600, []byte(strings.Join(d.modules, "\n")+"\n")); err != nil {
		return err
	}
	d.asked += len(d.modules)
	out, err = d.sh(ctx, `while read -r m; do [ -z "$m" ] || [ -d "/sys/module/$m" ] || tr - _ < "/lib/modules/$(uname -r)/modules.builtin" | grep -q "/$m\\.ko" || modprobe "$m" || echo "lost $m"; done < `+moduleList)
	if err != nil {
		return err
	}
	for l := range strings.Lines(out.Stdout) {
		if m, ok := strings.CutPrefix(strings.TrimSpace(l), "lost "); ok {
			d.find("up:module:"+m, "kernel and modules are one locked set: the package that brings the kernel requires its modules", "module %s, which the device had loaded from its older feed, cannot be loaded into kernel %s", m, running)
		}
	}
	return nil
}

const moduleList = "/run/slipway-modules"

// newerKernel reports whether the candidate has a kernel's package beside those that own
// the running one: one that the device's release did not have.
func (d *device) newerKernel(owners []string, newest map[string]distro.PackageRecord) bool {
	for _, o := range owners {
		was := slices.IndexFunc(d.packages, func(p distro.PackageRecord) bool { return p.Name == o })
		if now, ok := newest[o]; ok && was >= 0 && now.CompareEVR(d.packages[was]) > 0 {
			return true // the same name, a newer version
		}
	}
	stem := func(name string) string { s, _, _ := strings.Cut(name, strings.TrimSpace(d.kernels[0])); return s }
	for n := range newest { // the version is in the name: kernel-modules-6.1.0-56
		for _, o := range owners {
			if s := stem(o); s != o && strings.HasPrefix(n, s) && distro.CompareEVR(0, strings.TrimPrefix(n, s), "", 0, d.kernels[0], "") > 0 && !slices.ContainsFunc(d.packages, func(p distro.PackageRecord) bool { return p.Name == n }) {
				return true
			}
		}
	}
	return false
}

// line is what an administrator adds; only to files that have such lines already.
const line = "# edited by the administrator of this device"

const editList = "/run/slipway-edit"

// edit adds a line to every file that is marked config(noreplace) and knows
// comments that begin with "#".
func (d *device) edit(ctx context.Context) error {
	out, err := d.shell.Run(ctx, `/usr/bin/rpm -qa --qf '[%{FILEFLAGS} %{FILENAMES}\n]'`)
	if err != nil {
		return err
	}
	if err := d.shell.Upload(ctx, editList, 0o600, []byte(strings.Join(noReplace(out.Stdout), "\n")+"\n")); err != nil {
		return err
	}
	out, err = d.sh(ctx, `while read -r f; do if [ -f "$f" ] && grep -q '^#' "$f"; then echo '`+line+`' >> "$f" && echo "$f"; fi; done < `+editList)
	d.edited = strings.Split(strings.TrimSpace(out.Stdout), "\n")
	return err
}

// noReplace picks the configuration files that an upgrade must keep from lines
// "FLAGS PATH", sorted.
func noReplace(text string) []string {
	const config, noReplace, ghost = 1 << 0, 1 << 4, 1 << 6 // rpmfiles.h
	var all []string
	for l := range strings.Lines(text) {
		word, path, _ := strings.Cut(strings.TrimRight(l, "\n"), " ")
		flags, err := strconv.Atoi(word)
		if err == nil && flags&(config|noReplace) == config|noReplace && flags&ghost == 0 {
			all = append(all, path)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// whole asks what must hold after each way: the edits are kept, and rpm -V finds
// nothing else in the packages; none means all of them.
func (d *device) whole(ctx context.Context, way string, packages ...string) error {
	if err := d.shell.Upload(ctx, editList, 0o600, []byte(strings.Join(d.edited, "\n")+"\n")); err != nil {
		return err
	}
	// What no package owns any more may lie beside, as .rpmsave.
	out, err := d.sh(ctx, `while read -r f; do grep -qsF '`+line+`' "$f" "$f.rpmsave" || echo "lost $f"; done < `+editList)
	if err != nil {
		return err
	}
	d.asked += len(d.edited)
	for l := range strings.Lines(out.Stdout) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(l), "lost "); ok {
			d.find(way+":"+path, "mark the file %config(noreplace), in both versions of the package", "the device's edits in %s are lost", path).Object = path
		}
	}
	lines, err := d.verify(ctx, packages)
	if err != nil {
		return err
	}
	d.asked++
	for _, v := range lines {
		object := v.Path
		if object == "" {
			object = v.Problem
		}
		d.find(way+":verify:"+object, "", "rpm -V on the device: %s", v.String()).Object = object
	}
	return nil
}

// verify gives what rpm -V says but for configuration and ghosts, which are the
// device's own business.
func (d *device) verify(ctx context.Context, packages []string) ([]dnf.Verify, error) {
	command := "/usr/bin/rpm -Va"
	if len(packages) > 0 {
		command = "/usr/bin/rpm -V " + strings.Join(packages, " ")
	}
	out, err := d.sh(ctx, command)
	if err != nil && !errs.Is(err, errs.Failed) {
		return nil, err
	}
	return slices.DeleteFunc(dnf.ParseVerify(out.Stdout), func(v dnf.Verify) bool {
		return v.Problem == "" && !v.Missing && (v.Attr == "c" || v.Attr == "g")
	}), nil
}

// unsigned reads dnf.conf and .repo files, one after the other, and names the
// feeds that are on and do not check both signatures.
func unsigned(text string) []string {
	type feed struct {
		id                    string
		off, packages, header bool
	}
	main := feed{}
	var all []feed
	at := &main
	for l := range strings.Lines(text) {
		l = strings.TrimSpace(l)
		if strings.HasPrefix(l, "[") && strings.HasSuffix(l, "]") {
			at = &main
			if id := strings.Trim(l, "[]"); id != "main" {
				all = append(all, feed{id: id, packages: main.packages, header: main.header})
				at = &all[len(all)-1]
			}
			continue
		}
		key, value, _ := strings.Cut(l, "=")
		on := slices.Contains([]string{"1", "yes", "true", "on"}, strings.ToLower(strings.TrimSpace(value)))
		switch strings.TrimSpace(key) {
		case "enabled":
			at.off = !on
		case "gpgcheck":
			at.packages = on
		case "repo_gpgcheck":
			at.header = on
		}
	}
	var out []string
	for _, f := range all {
		if !f.off && !(f.packages && f.header) {
			out = append(out, f.id)
		}
	}
	return out
}
