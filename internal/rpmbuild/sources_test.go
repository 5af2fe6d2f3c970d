package rpmbuild

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

func TestReadSources(t *testing.T) {
	b := setup(t, map[string]string{
		"z/sources.yaml": "- {name: z.tar, debian: zlib}\n",
		"a/sources.yaml": "- name: b.tar\n  debian: busybox-static\n  paths: [/bin/busybox]\n- {name: a.tar, debian: a}\n",
	})
	got, err := ReadSources(b.layer)
	want := []Source{{Spec: "a", Name: "a.tar", Debian: "a"}, {Spec: "a", Name: "b.tar", Debian: "busybox-static", Paths: []string{"/bin/busybox"}}, {Spec: "z", Name: "z.tar", Debian: "zlib"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}

	b.write(map[string]string{
		"a/sources.yaml": "- {name: a.tar, debain: a}\n",
		"b/sources.yaml": "- {name: ../a.tar, debian: a}\n- {name: b.tar}\n- {name: c, debian: c}\n- {name: c, debian: c}\n",
		"c/sources.yaml": "name: [\n",
	})
	_, err = ReadSources(b.layer)
	for _, want := range []string{`specs/a/sources.yaml:1:17: unknown key "debain"`, `"../a.tar", which is no plain file name`, "b.tar does not say", "c is there twice", "specs/c/sources.yaml"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "rpmbuild.Source") {
		t.Errorf("a Go type in a message: %v", err)
	}
}

func TestDownloadedSources(t *testing.T) {
	t.Parallel()
	list, err := parseSources("s", []byte(`
- {name: "dropbear-{arch}.deb", deb: dropbear-bin}
- {name: "linux-{n}-{arch}.deb", deb: "linux-image-6.1.*-cloud-{arch}", newest: 2}
- {name: "dnf-{arch}.tar", deb: dnf, closure: true, without: [libc6, "perl*"], arches: [x86_64]}
`))
	want := []Source{{Spec: "s", Name: "dropbear-{arch}.deb", Deb: "dropbear-bin"}, {Spec: "s", Name: "linux-{n}-{arch}.deb", Deb: "linux-image-6.1.*-cloud-{arch}", Newest: 2},
		{Spec: "s", Name: "dnf-{arch}.tar", Deb: "dnf", Closure: true, Without: []string{"libc6", "perl*"}, Arches: []string{"x86_64"}}}
	if err != nil || !reflect.DeepEqual(list, want) {
		t.Errorf("%+v %v", list, err)
	}
	if !list[1].makes("linux-2-arm64.deb") || list[1].makes("linux-a-arm64.deb") || list[0].makes("dropbear.deb") {
		t.Error("names of a source")
	}
	for text, want := range map[string]string{
		"{name: a, debian: a, deb: a}":               "comes from debian (installed here) and from deb (downloaded): choose one",
		"{name: 'a-{arch}', debian: a}":              "is taken from an installed package",
		"{name: a, debian: a, closure: true}":        "is taken from an installed package",
		"{name: 'a-{arhc}', deb: a}":                 "has {arhc} in it; {arch} and {n} are known",
		"{name: 'a-{arch', deb: a}":                  "has {arch in it; {arch} and {n} are known",
		"{name: a, deb: '--help'}":                   "which is no name of a Debian package",
		"{name: a, deb: 'a_1'}":                      "which is no name of a Debian package",
		"{name: a, deb: a, paths: [/bin/a]}":         "has paths, which are for debian",
		"{name: a, deb: a, without: [b]}":            "has without, which is for closure: true",
		"{name: a, deb: 'a*', newest: 2}":            "has newest, so its name needs {n}",
		"{name: 'a{n}', deb: a, newest: 2}":          "has newest, so its deb needs a *",
		"{name: 'a{n}', deb: 'a*', newest: 10}":      "has newest, which is from 1 to 9",
		"{name: 'a{arch}', deb: a, arches: [arm64]}": "is for the architecture arm64; known are x86_64, aarch64",
		"{name: 'a{arch}', deb: a, clousre: true}":   `unknown key "clousre"`,
	} {
		if _, err := parseSources("s", []byte("- "+text)); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sources.lock")
	if pins, err := ReadLock(path); err != nil || pins != nil {
		t.Errorf("no lock: %v %v", pins, err)
	}
	a := distro.SourcePin{Spec: "a", Name: "a.tar", Version: "1", Origin: "debian:a=1", Digest: distro.DigestOf(nil), Size: 3}
	z := a
	z.Spec = "z"
	if err := WriteLock(path, []distro.SourcePin{z, a}); err != nil {
		t.Fatal(err)
	}
	if pins, err := ReadLock(path); err != nil || !reflect.DeepEqual(pins, []distro.SourcePin{a, z}) {
		t.Errorf("%v %v", pins, err)
	}
	for _, text := range []string{"", "{}", `{"schema": 2}`, `{"schema": 1, "sources": [{"spec": "a", "digest": "sha256:1"}]}`, `{"schema": 1, "pins": []}`} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadLock(path); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestUpstream(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"1:1.35.0-4+deb12u1+b1": "1.35.0", "2.36-9+deb12u14": "2.36", "7": "7", "1.0~rc1-2": "1.0~rc1", "1.2-3-4": "1.2.3", "0:5 x": "5.x",
	} {
		if got := upstream(in); got != want {
			t.Errorf("upstream(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzSources(f *testing.F) {
	f.Add("- {name: a.tar, debian: a, paths: [/bin/*]}\n")
	f.Add("- {name: 'l-{n}-{arch}', deb: 'l-*-{arch}', newest: 2, closure: true, without: [a], arches: [aarch64]}\n")
	f.Add("- name: [\n")
	f.Add("x: &a [*a]\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseSources("spec", []byte(text))
		if err != nil && !errs.Is(err, errs.Invalid) {
			t.Errorf("%v is not Invalid", err)
		}
		for _, s := range list {
			if err == nil && (s.Name != filepath.Base(s.Name) || s.Debian == "" && s.Deb == "") {
				t.Errorf("accepted %+v", s)
			}
		}
	})
}

func FuzzComplaints(f *testing.F) {
	f.Add("error: line 5: Unknown tag: Licence: MIT\n", "Name: x\n")
	f.Add("error: line 18: %files -n zz\n: package zz does not exist\n", "")
	f.Add("warning: line 99999999999999999999: Possible unexpanded macro in: x", "a\nb")
	f.Fuzz(func(t *testing.T, msg, text string) {
		s := &spec{file: "l/specs/s/s.spec", text: text}
		for _, err := range s.complaints(msg) {
			if !errs.Is(err, errs.Invalid) {
				t.Errorf("%v is not Invalid", err)
			}
		}
	})
}
