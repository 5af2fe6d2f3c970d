package debian

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// mirror is a small Debian archive in a folder, for amd64 and arm64.
type mirror struct {
	t    *testing.T
	dir  string
	opt  Options
	blob map[distro.Digest][]byte
}

func newMirror(t *testing.T) *mirror {
	t.Helper()
	t.Parallel()
	for tool, pkg := range map[string]string{"apt-get": "apt", "apt-cache": "apt", "dpkg-deb": "dpkg"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is not installed: apt-get install %s", tool, pkg)
		}
	}
	m := &mirror{t: t, dir: t.TempDir(), blob: map[distro.Digest][]byte{}}
	m.opt = Options{Arches: []string{"x86_64", "aarch64"}, Cache: filepath.Join(t.TempDir(), "cache")}
	m.source("copy:" + m.dir)
	return m
}

// source makes apt ask another address.
func (m *mirror) source(url string) {
	list := filepath.Join(m.t.TempDir(), "sources.list")
	if err := os.WriteFile(list, []byte("deb [trusted=yes] "+url+" ./\n"), 0o644); err != nil {
		m.t.Fatal(err)
	}
	m.opt.conf = "Dir::Etc::sourcelist \"" + list + "\";\nDir::Etc::sourceparts \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n"
}

// add puts a package into the archive; more are lines of its control file.
func (m *mirror) add(name, version, arch string, more ...string) string {
	m.t.Helper()
	dir := m.t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "DEBIAN"), 0o755); err != nil {
		m.t.Fatal(err)
	}
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: A <a@example.org>\nDescription: x\n", name, version, arch)
	for _, l := range more {
		control += l + "\n"
	}
	file := deb{Name: name, Version: version, Arch: arch}.file()
	if err := os.WriteFile(filepath.Join(dir, "DEBIAN/control"), []byte(control), 0o644); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "payload"), bytes.Repeat([]byte(name+version+arch), 2000), 0o644); err != nil {
		m.t.Fatal(err)
	}
	if out, err := exec.Command("dpkg-deb", "-Znone", "--root-owner-group", "-b", dir, filepath.Join(m.dir, file)).CombinedOutput(); err != nil {
		m.t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(m.dir, file))
	if err != nil {
		m.t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(m.dir, "Packages"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintf(f, "%sFilename: ./%s\nSize: %d\nSHA256: %x\n\n", control, file, len(data), sha256.Sum256(data))
	return filepath.Join(m.dir, file)
}

func (m *mirror) put(r io.Reader) (distro.Digest, int64, error) {
	data, err := io.ReadAll(r)
	d := distro.DigestOf(data)
	m.blob[d] = data
	return d, int64(len(data)), err
}

func (m *mirror) resolve(wanted ...Wanted) ([]distro.SourcePin, []Missing, error) {
	return ResolveFor(m.t.Context(), wanted, m.opt, m.put)
}

// pinned gives "name origin" of each pin.
func pinned(pins []distro.SourcePin) string {
	var all []string
	for _, p := range pins {
		all = append(all, p.Name+" "+p.Origin)
	}
	return strings.Join(all, "\n")
}

func (m *mirror) must(want string, wanted ...Wanted) []distro.SourcePin {
	m.t.Helper()
	pins, missing, err := m.resolve(wanted...)
	if err != nil || len(missing) > 0 {
		m.t.Fatalf("%v %v", err, missing)
	}
	if got := pinned(pins); got != strings.TrimSpace(want) {
		m.t.Fatalf("got\n%s", got)
	}
	return pins
}

func TestDownloads(t *testing.T) {
	m := newMirror(t)
	amd := m.add("dropbear-bin", "2022.83-1+deb12u3", "amd64")
	m.add("dropbear-bin", "1:2022.82-1", "arm64")
	m.add("dropbear-bin", "1:2022.83-1", "arm64")
	m.add("certs", "2023", "all")
	wanted := []Wanted{{Spec: "dropbear", Name: "dropbear-{arch}.deb", Deb: "dropbear-bin"}, {Spec: "certs", Name: "certs.deb", Deb: "certs"}}
	const want = `
dropbear-amd64.deb deb:dropbear-bin_2022.83-1+deb12u3_amd64
dropbear-arm64.deb deb:dropbear-bin_2022.83-1_arm64
certs.deb deb:certs_2023_all`
	pins := m.must(want, wanted...)
	data, err := os.ReadFile(amd)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.blob[pins[0].Digest], data) || pins[0].Size != int64(len(data)) || pins[0].Version != "2022.83-1+deb12u3" || pins[1].Version != "1:2022.83-1" {
		t.Errorf("%+v", pins)
	}

	// The mirror is gone: lists and downloads are there. A damaged one is not used.
	if err := os.RemoveAll(m.dir); err != nil {
		t.Fatal(err)
	}
	if again := m.must(want, wanted...); !slices.Equal(again, pins) {
		t.Errorf("%+v", again)
	}
	cached := filepath.Join(m.opt.Cache, "debs", pins[1].Digest.Hex())
	if err := os.Truncate(cached, 100); err != nil {
		t.Fatal(err)
	}
	again, missing, err := m.resolve(wanted...)
	if err != nil || len(missing) != 1 || missing[0].Arch != "aarch64" || pinned(again) != "dropbear-amd64.deb deb:dropbear-bin_2022.83-1+deb12u3_amd64\ncerts.deb deb:certs_2023_all" {
		t.Fatalf("%v %v\n%s", err, missing, pinned(again))
	}
	if e := missing[0].Err; !errs.Is(e, errs.Unavailable) || !strings.Contains(e.Error(), "the Debian package dropbear-bin 1:2022.83-1 for arm64 (aarch64) cannot be downloaded") {
		t.Error(e)
	}
	if rests, _ := filepath.Glob(filepath.Join(m.opt.Cache, "debs", ".part-*")); len(rests) > 0 {
		t.Errorf("left behind: %v", rests)
	}
}

func TestWhatCannotBeHad(t *testing.T) {
	m := newMirror(t)
	m.add("a", "1", "amd64")
	cut := m.add("a", "1", "arm64")
	lying := m.add("b", "1", "amd64")
	if err := os.Truncate(cut, 1000); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(lying)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(lying, data, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		want    Wanted
		arches  string
		message string
	}{
		{Wanted{Name: "a-{arch}", Deb: "a"}, "aarch64", "the Debian package a 1 for arm64 (aarch64) cannot be downloaded: "},
		{Wanted{Name: "b-{arch}", Deb: "b", Arches: []string{"x86_64"}}, "x86_64", "the Debian package b 1 for amd64 (x86_64) cannot be downloaded: "},
		{Wanted{Name: "c-{arch}", Deb: "c"}, "x86_64 aarch64", "apt has no package c for amd64 (x86_64)"},
		{Wanted{Name: "c-{arch}-{n}", Deb: "a*", Newest: 2}, "x86_64 aarch64", "apt has 1 packages a* for amd64 (x86_64), 2 are wanted"},
	} {
		pins, missing, err := m.resolve(tt.want)
		var arches []string
		for _, x := range missing {
			arches = append(arches, x.Arch)
			if !errs.Is(x.Err, errs.Unavailable) {
				t.Errorf("%+v: %v", tt.want, x.Err)
			}
		}
		if err != nil || strings.Join(arches, " ") != tt.arches || !strings.Contains(missing[0].Err.Error(), tt.message) {
			t.Errorf("%+v: %v %v\n%s", tt.want, err, missing, pinned(pins))
		}
	}
	for _, w := range []Wanted{{Name: "a.deb", Deb: "a"}, {Name: "a-{arch}", Deb: "[a*"}} {
		if _, _, err := m.resolve(w); !errs.Is(err, errs.Invalid) {
			t.Errorf("%+v: %v", w, err)
		}
	}
}

func TestNoMirror(t *testing.T) {
	m := newMirror(t)
	m.opt.Arches = []string{"x86_64"}
	m.source("http://127.0.0.1:1/debian")
	pins, missing, err := m.resolve(Wanted{Name: "a-{arch}", Deb: "a"})
	if err != nil || len(pins) != 0 || len(missing) != 1 || !strings.Contains(missing[0].Err.Error(), "apt has no package lists for amd64 (x86_64)") || !strings.Contains(missing[0].Err.Error(), "127.0.0.1") {
		t.Fatalf("%v %v %v", pins, missing, err)
	}
	m.opt.Arches = []string{"amd64"}
	if _, _, err := m.resolve(Wanted{Name: "a-{arch}", Deb: "a"}); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
}

func TestOldListsAreReadAnew(t *testing.T) {
	m := newMirror(t)
	m.opt.Arches = []string{"x86_64"}
	old := m.add("a", "1", "amd64")
	wanted := Wanted{Name: "a-{arch}", Deb: "a"}
	m.must("a-amd64 deb:a_1_amd64", wanted)
	// The mirror has moved on: what the lists name is gone, and so is our copy.
	if err := errors.Join(os.Remove(old), os.RemoveAll(filepath.Join(m.opt.Cache, "debs"))); err != nil {
		t.Fatal(err)
	}
	m.add("a", "2", "amd64")
	m.must("a-amd64 deb:a_2_amd64", wanted)
	m.add("a", "3", "amd64")
	m.must("a-amd64 deb:a_2_amd64", wanted)
	past := time.Now().Add(-2 * listsAge)
	if err := os.Chtimes(filepath.Join(m.opt.Cache, "apt/amd64/updated"), past, past); err != nil {
		t.Fatal(err)
	}
	m.must("a-amd64 deb:a_3_amd64", wanted)
}

func TestNewest(t *testing.T) {
	m := newMirror(t)
	for _, arch := range []string{"amd64", "arm64"} {
		for abi, version := range map[string]string{"6.1.0-9-cloud": "6.1.9-1", "6.1.0-47-cloud": "6.1.170-3", "6.1.0-50-cloud": "6.1.180-1", "6.12.1-cloud": "6.12.1-1"} {
			m.add("linux-image-"+abi+"-"+arch, version, arch)
		}
		m.add("linux-image-6.1.0-50-cloud-"+arch+"-dbg", "6.1.180-1", arch)
	}
	m.must(`
linux-1-amd64.deb deb:linux-image-6.1.0-50-cloud-amd64_6.1.180-1_amd64
linux-2-amd64.deb deb:linux-image-6.1.0-47-cloud-amd64_6.1.170-3_amd64
linux-1-arm64.deb deb:linux-image-6.1.0-50-cloud-arm64_6.1.180-1_arm64
linux-2-arm64.deb deb:linux-image-6.1.0-47-cloud-arm64_6.1.170-3_arm64`,
		Wanted{Name: "linux-{n}-{arch}.deb", Deb: "linux-image-6.1.*-cloud-{arch}", Newest: 2})
}

func TestClosure(t *testing.T) {
	m := newMirror(t)
	m.opt.Arches = []string{"aarch64"}
	m.add("dnf", "4.14", "all", "Depends: python3, libdnf (>= 1)", "Recommends: docs")
	m.add("python3", "3.11", "arm64", "Depends: libc6, libssl | libother")
	m.add("libdnf", "1:1.2", "arm64", "Depends: libc6")
	m.add("libc6", "2.36", "arm64", "Depends: gcc-base")
	m.add("gcc-base", "12", "all")
	m.add("libssl", "3", "arm64")
	m.add("docs", "1", "all")
	want := func(without []string, names string) {
		t.Helper()
		pins := m.must("dnf-arm64.tar debs:dnf_4.14_arm64", Wanted{Name: "dnf-{arch}.tar", Deb: "dnf", Closure: true, Without: without})
		var got []string
		tr := tar.NewReader(bytes.NewReader(m.blob[pins[0].Digest]))
		for {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || h.ModTime.Unix() != 0 || h.Mode != 0o644 || h.Uname != "" {
				t.Fatalf("%+v %v", h, err)
			}
			got = append(got, h.Name)
		}
		if strings.Join(got, " ") != names {
			t.Errorf("%s", got)
		}
	}
	want(nil, "dnf_4.14_all.deb gcc-base_12_all.deb libc6_2.36_arm64.deb libdnf_1.2_arm64.deb libssl_3_arm64.deb python3_3.11_arm64.deb")
	want([]string{"libc*", "libssl", "docs"}, "dnf_4.14_all.deb libdnf_1.2_arm64.deb python3_3.11_arm64.deb")
	if _, _, err := m.resolve(Wanted{Name: "x-{arch}", Deb: "dnf", Closure: true, Without: []string{"libssh"}}); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "without names libssh, which apt does not have for arm64") {
		t.Error(err)
	}
	m.add("broken", "1", "arm64", "Depends: nothing")
	if err := os.Remove(filepath.Join(m.opt.Cache, "apt/arm64/updated")); err != nil {
		t.Fatal(err)
	}
	_, missing, err := m.resolve(Wanted{Name: "x-{arch}", Deb: "broken", Closure: true})
	if err != nil || len(missing) != 1 || !strings.Contains(missing[0].Err.Error(), "apt cannot resolve the dependencies of broken for arm64 (aarch64): ") || !strings.Contains(missing[0].Err.Error(), "nothing") {
		t.Errorf("%v %v", err, missing)
	}
}

// Put decides: a store that lies or fails is told apart from a mirror that does.
func TestStoreFails(t *testing.T) {
	m := newMirror(t)
	m.opt.Arches = []string{"x86_64"}
	m.add("a", "1", "amd64")
	full := errs.E(errs.Unavailable, "the store is full")
	for _, w := range []Wanted{{Name: "a-{arch}", Deb: "a"}, {Name: "a-{arch}", Deb: "a", Closure: true}} {
		_, missing, err := ResolveFor(t.Context(), []Wanted{w}, m.opt, func(io.Reader) (distro.Digest, int64, error) { return "", 0, full })
		if !errors.Is(err, full) || len(missing) > 0 {
			t.Errorf("%v %v", err, missing)
		}
	}
}
