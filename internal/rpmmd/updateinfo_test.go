package rpmmd

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/rpmpack"

	"slipway/internal/errs"
)

func advisories() []Advisory {
	at := time.Date(2026, 12, 2, 10, 30, 0, 0, time.UTC)
	a := Advisory{ID: "HLSA-2026-0002", From: "security@example.org", Status: "final", Type: "security", Version: 1, Title: "gen: <two> & \"more\"", Severity: "Important",
		Release: "Halyard Linux 1.2", Description: "Line one,\nline two.", Issued: at, Updated: at.Add(time.Hour), Reboot: true,
		References: []Reference{{"https://www.cve.org/CVERecord?id=CVE-2026-1234&x=1", "CVE-2026-1234", "CVE-2026-1234", "cve"}, {"https://example.org/", "more", "more", "other"}},
		Collection: "halyard-1", CollectionName: "Halyard Linux 1",
		Packages: []AdvisoryPackage{{Name: "fixture", Version: "2.0", Release: "1", Arch: "x86_64", Epoch: 3, File: "fixture-2.0-1.x86_64.rpm"}, {Name: "gen-1", Version: "1.0", Release: "7", Arch: "noarch", File: "gen-1-1.0-7.noarch.rpm"}}}
	b := a
	b.ID, b.Type, b.Severity, b.Reboot, b.References, b.Packages = "HLBA-2026-0001", "bugfix", "", false, nil, a.Packages[:1]
	return []Advisory{a, b}
}

func TestUpdateinfoReadsBack(t *testing.T) {
	t.Parallel()
	list := advisories()
	b, err := EncodeUpdateinfo(list)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(list)
	again, err := EncodeUpdateinfo(list)
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("another order gives other bytes: %v", err)
	}
	got, err := ReadUpdateinfo(bytes.NewReader(b))
	if diff := cmp.Diff(list, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}

// TestUpdateinfoRefuses what dnf would drop without a word, show as of 1970 or of
// unknown severity, or die of.
func TestUpdateinfoRefuses(t *testing.T) {
	t.Parallel()
	good, err := EncodeUpdateinfo(advisories()[:1])
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(a *Advisory){
		"no id":                func(a *Advisory) { a.ID = "" },
		"blank in the id":      func(a *Advisory) { a.ID = "HLSA 1" },
		"type":                 func(a *Advisory) { a.Type = "Security" },
		"lower-case severity":  func(a *Advisory) { a.Severity = "important" },
		"no severity":          func(a *Advisory) { a.Severity = "" },
		"no date":              func(a *Advisory) { a.Issued = time.Time{} },
		"updated before":       func(a *Advisory) { a.Updated = a.Issued.Add(-time.Second) },
		"version":              func(a *Advisory) { a.Version = 0 },
		"no package":           func(a *Advisory) { a.Packages = nil },
		"package without arch": func(a *Advisory) { a.Packages[0].Arch = "" },
	} {
		a := advisories()[0]
		change(&a)
		if _, err := EncodeUpdateinfo([]Advisory{a}); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s is written: %v", name, err)
		}
	}
	if _, err := EncodeUpdateinfo(append(advisories(), advisories()...)); !errs.Is(err, errs.Invalid) {
		t.Errorf("two of one id are written: %v", err)
	}
	for name, change := range map[string][2]string{
		"date with T and Z": {"2026-12-02 10:30:00", "2026-12-02T10:30:00Z"},
		"severity":          {"Important", "important"},
		"no collection":     {"collection", "collected"},
		"no id":             {"<id>HLSA-2026-0002</id>", ""},
		"malformed":         {"</update>", ""},
		"epoch":             {`epoch="3"`, `epoch="x"`},
		"foreign element":   {"<update ", "<updat "},
	} {
		bad := strings.ReplaceAll(string(good), change[0], change[1])
		if bad == string(good) {
			t.Fatalf("%s changes nothing", name)
		}
		if list, err := ReadUpdateinfo(strings.NewReader(bad)); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s is read as %+v: %v", name, list, err)
		}
	}
}

// TestUpdateinfoIsThatOfModifyrepo: the same repository made by createrepo_c and
// modifyrepo_c; dnf gives the same answers, and repomd.xml says the same of the file.
func TestUpdateinfoIsThatOfModifyrepo(t *testing.T) {
	t.Parallel()
	dnf, modifyrepo := tool(t, "dnf", "dnf"), tool(t, "modifyrepo_c", "createrepo-c")
	theirs, ours := t.TempDir(), t.TempDir()
	realPackages(t, theirs)
	createrepo(t, "createrepo_c", theirs, "gz")
	entries := readEntries(t, theirs)
	oldPre(t, "createrepo_c", entries)
	text, err := EncodeUpdateinfo(advisories())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "updateinfo.xml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, nil, modifyrepo, "--mdtype=updateinfo", file, filepath.Join(theirs, "repodata"))
	opts := options
	opts.Compression, opts.Updateinfo = Gzip, text
	md, err := Build(entries, opts)
	if err != nil {
		t.Fatal(err)
	}
	writeRepodata(t, ours, md)
	a, err := ReadRepo(folder(theirs))
	if err != nil {
		t.Fatal(err)
	}
	b, err := ReadRepo(folder(ours))
	if err != nil {
		t.Fatal(err)
	}
	x, _ := a.Repomd.Record("updateinfo")
	y, _ := b.Repomd.Record("updateinfo")
	if !bytes.Equal(a.Updateinfo, b.Updateinfo) || x.OpenChecksum != y.OpenChecksum || x.OpenSize != y.OpenSize || x.Type != y.Type || y.Size <= 0 || y.Checksum.Value == "" {
		t.Errorf("modifyrepo_c states %+v, we %+v", x, y)
	}
	// dnf speaks of what is installed: older packages, and one that is new enough.
	home := t.TempDir()
	for _, p := range []AdvisoryPackage{{Name: "fixture", Version: "1.0", Release: "1", Arch: "x86_64"}, {Name: "gen-1", Version: "1.0", Release: "8", Arch: "noarch"}} {
		old := filepath.Join(home, p.Name+".rpm")
		made, err := rpmpack.NewRPM(rpmpack.RPMMetaData{Name: p.Name, Version: p.Version, Release: p.Release, Arch: p.Arch, OS: "linux", Compressor: "gzip:1"})
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(old)
		if err == nil {
			err = made.Write(f)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		run(t, []string{"HOME=" + home}, tool(t, "rpm", "rpm"), "--root", filepath.Join(home, "root"), "--justdb", "--nodeps", "--ignorearch", "-i", old)
	}
	for _, query := range []string{"list", "info", "list --all --security"} {
		args := append([]string{"updateinfo"}, strings.Fields(query)...)
		want, got := asksAt(t, dnf, home, theirs, args...), asksAt(t, dnf, home, ours, args...)
		if diff := cmp.Diff(want, got); diff != "" || !strings.Contains(got, "HLSA-2026-0002") {
			t.Errorf("%s (- modifyrepo_c, + ours):\n%s\n%s", query, diff, got)
		}
		for _, said := range map[string][]string{"list": {"Important/Sec.", "fixture-3:2.0-1.x86_64"}, "info": {"2026-12-02 11:30:00", "Severity: Important", "CVE-2026-1234", "two> & \"more"}}[query] {
			if !strings.Contains(got, said) {
				t.Errorf("%s does not say %q:\n%s", query, said, got)
			}
		}
		if query == "list" && strings.Contains(got, "gen-1-1.0-7") {
			t.Errorf("what is installed newer is listed:\n%s", got)
		}
	}
}
