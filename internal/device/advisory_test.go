package device

import (
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/distro"
	"slipway/internal/feed"
	"slipway/internal/store"
)

const advisoryID = "HLSA-2026-0001"

// advise publishes serial 3 (and 4): the packages of release 1.2 once more (and those of
// 1.3), and an important advisory for the libknot of release 1.2.
func (b *bed) advise(serial int) {
	b.t.Helper()
	all := b.w.all
	if serial == 4 {
		b.sh("cp", "-af", b.w.dir+"/.", b.pub)
		b.sh("chmod", "-R", "u+w", b.pub)
	} else {
		all = slices.DeleteFunc(slices.Clone(b.w.all), func(r distro.PackageRecord) bool { // what came with release 1.3
			return r.Version == "1.3" || r.Version == "1.2" && r.Name != "halyard-release"
		})
	}
	at := start.Add(3 * time.Hour)
	p := b.w.publisher(b.t)
	var err error
	if p.Tree, err = store.OpenTree(b.pub); err != nil {
		b.t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(r distro.PackageRecord) bool { return r.Name == "libknot" && r.Version == "1.1" })
	r := all[i]
	a := distro.Advisory{ID: advisoryID, Version: 1, Type: "security", Severity: "important", Title: "libknot: a buffer is overrun", Description: "A rope that is too long.", CVEs: []string{"CVE-2026-1234"},
		FixedIn: "1.2", Issued: at, Updated: at, Packages: []distro.AdvisoryPackage{{Scope: r.Scope, Name: r.Name, Version: r.Version, Release: r.Release, Arch: r.Arch, File: r.File}}}
	e := feed.Edition{Serial: serial, Release: distro.NewVersion("1", serial-1), At: at, Index: feed.Newest(all), History: all, Advisories: []distro.Advisory{a}}
	s, err := p.WriteSnapshot(b.t.Context(), e)
	if err == nil {
		err = p.Switch(b.t.Context(), e, s)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// The packages of the advisory, and what requires that very version: the rest stays.
const secured = "anchor-1.0 halyard-release-1.1 knotctl-1.1 libknot-1.1 rigging-1.1"

// TestSecurityUpdate: what dnf says of an advisory, and an update that takes only what
// one names.
func TestSecurityUpdate(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.advise(3)
	d := b.open()
	if err := d.writeFeeds(3); err != nil {
		t.Fatal(err)
	}
	f := dnf{d}
	if err := f.configure(); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"updateinfo list --security":                     advisoryID + " Important/Sec. libknot-1.1-1.noarch",
		"updateinfo info":                                "CVEs: CVE-2026-1234",
		"updateinfo list --cve CVE-2026-1234":            advisoryID,
		"check-update --advisory " + advisoryID:          "libknot.noarch",
		"upgrade --assumeno --advisory=" + advisoryID:    "Operation aborted.",
		"upgrade-minimal --assumeno --cve=CVE-2026-1234": "libknot",
		"upgrade --assumeno --bugfix":                    "Nothing to do.",
	} {
		out, _ := d.run(t.Context(), false, f.args(strings.Fields(args)...)...)
		if !strings.Contains(out, want) || strings.Contains(args, "upgrade") && strings.Contains(out, "halyard-release") {
			t.Errorf("dnf %s, without %q:\n%s", args, want, out)
		}
	}
	if out := b.must("update", "--security"); !strings.Contains(out, "serial 3") {
		t.Errorf("update --security: %s", out)
	}
	if got := b.packages(); got != secured {
		t.Errorf("installed: %s\nwant       %s", got, secured)
	}
	if out := b.must("update", "--security"); !strings.Contains(out, "nothing to do") {
		t.Errorf("again: %s", out)
	}
	b.must("update")
	b.consistent(2)
}

// TestSecurityUpdateLater: a device that slept until the fixed version was replaced by a
// newer one gets the newer one.
func TestSecurityUpdateLater(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.advise(4)
	d := b.open()
	if err := d.writeFeeds(4); err != nil {
		t.Fatal(err)
	}
	if err := (dnf{d}).configure(); err != nil {
		t.Fatal(err)
	}
	if out, _ := d.run(t.Context(), false, dnf{d}.args("upgrade-minimal", "--assumeno", "--advisory="+advisoryID)...); !strings.Contains(out, "libknot") || !strings.Contains(out, " 1.2-1 ") {
		t.Errorf("upgrade-minimal:\n%s", out)
	}
	b.must("update", "--security")
	if got, want := b.packages(), strings.ReplaceAll(secured, "-1.1", "-1.2"); got != strings.Replace(want, "release-1.2", "release-1.1", 1) {
		t.Errorf("installed: %s", got)
	}
}

// TestSecurityUpdateWithZypper: the advisory is zypper's patch.
func TestSecurityUpdateWithZypper(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.file("root", "etc/slipway-device.conf", "frontend = zypper\n")
	b.advise(3)
	b.must("update", "--security")
	if got := b.packages(); got != secured {
		t.Errorf("installed: %s\nwant       %s", got, secured)
	}
	d := b.open()
	if out, _ := d.run(t.Context(), false, zypper{d}.args("--no-refresh", "list-patches", "--all", "--cve")...); !strings.Contains(out, "CVE-2026-1234") || !strings.Contains(out, advisoryID) {
		t.Errorf("zypper list-patches:\n%s", out)
	}
	b.must("update")
	b.consistent(2)
}
