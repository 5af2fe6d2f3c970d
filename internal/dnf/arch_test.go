package dnf_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/dnf"
	"slipway/internal/dnf/dnftest"
)

// buildFor builds a package of another architecture, with a file that names it.
func buildFor(t *testing.T, arch, spec string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "x.spec")
	text := "Summary: x\nLicense: MIT\n" + spec
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("rpmbuild", "-bb", "--target", arch, "--buildroot", dir+"/root", "--define", "_topdir "+dir, "--define", "_rpmdir "+dir, "--define", "debug_package %{nil}", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, arch, "*.rpm"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v %v\n%s", found, err, out)
	}
	return found[0]
}

func foreignSpec(name, more string) string {
	return "Name: " + name + "\nVersion: 1\nRelease: 1\n%description\nx\n%install\nmkdir -p %{buildroot}/etc\necho %{_target_cpu} > %{buildroot}/etc/" + name + "\n" + more + "\n%files\n/etc/" + name + "\n"
}

func TestForeignArchitectures(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	tool, key := dnftest.Find(t), dnftest.NewKey(t, "feed")
	// What any of them could name: a machine, its architecture, another machine, this machine, noarch.
	lua := "%post -p <lua>\nlocal f = io.open(\"/etc/boot\", \"w\") f:write(\"set\") f:close()"
	shell := "%post\ntouch /etc/shell"
	rpms := []string{
		buildFor(t, "qemuarm64", strings.Replace(foreignSpec("kernel", lua), "%description", "Requires: libx\n%description", 1)),
		buildFor(t, "qemux86_64", foreignSpec("kernel", lua)),
		buildFor(t, "aarch64", foreignSpec("libx", "")), buildFor(t, "x86_64", foreignSpec("libx", "")),
		buildFor(t, "aarch64", strings.Replace(foreignSpec("service", shell), "%description", "Provides: /bin/sh\n%description", 1)),
		dnftest.Build(t, base)[0],
	}
	key.Sign(t, rpms...)
	feed, _ := key.Feed(t, rpms...)
	root := func(arch, machine string) *dnf.Root {
		r, err := tool.NewRoot(ctx, filepath.Join(t.TempDir(), "r"), dnf.Options{Repos: []dnf.Repo{feed}, Arch: arch, MachineArch: machine})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Remove() })
		return r
	}
	exists := func(r *dnf.Root, name string) bool {
		_, err := os.Stat(filepath.Join(r.Path(), name))
		return err == nil
	}

	arm := root("aarch64", "qemuarm64")
	res, err := arm.Install(ctx, "kernel", "base")
	if err != nil || names(res.Installed) != "base-1-1.noarch kernel-1-1.qemuarm64 libx-1-1.aarch64" || len(res.NotRun) != 0 {
		t.Fatalf("%v %s %q\n%s", err, names(res.Installed), res.NotRun, res.Output)
	}
	if !exists(arm, "etc/boot") {
		t.Error("rpm's own Lua did not run")
	}
	if v, err := arm.VerifyAll(ctx); err != nil || len(v) != 0 {
		t.Errorf("%v %v", v, err)
	}
	res, err = arm.Install(ctx, "service")
	if err != nil || names(res.Installed) != "service-1-1.aarch64" || strings.Join(res.NotRun, ", ") != "service: %post by /bin/sh" || len(res.Scriptlets) != 0 {
		t.Fatalf("%v %s %q %q", err, names(res.Installed), res.NotRun, res.Scriptlets)
	}

	pc := root("", "qemux86_64")
	if res, err = pc.Install(ctx, "kernel", "libx"); err != nil || names(res.Installed) != "kernel-1-1.qemux86_64 libx-1-1.x86_64" || len(res.NotRun) != 0 || !exists(pc, "etc/boot") {
		t.Fatalf("%v %s %q", err, names(res.Installed), res.NotRun)
	}
	// A device does not take another board's kernel.
	plain := root("aarch64", "")
	if _, err := plain.Install(ctx, "kernel"); err == nil || !strings.Contains(err.Error(), "kernel") {
		t.Errorf("a machine package without its machine: %v", err)
	}
	if _, err := arm.Install(ctx, "kernel-1-1.qemux86_64"); err == nil {
		t.Error("a package of another machine was installed")
	}
}
