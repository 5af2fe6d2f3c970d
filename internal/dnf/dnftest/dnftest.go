// Package dnftest makes small signed feeds for tests, with the real rpmbuild,
// rpmsign, gpg and createrepo_c: what dnf says of them is what it says of
// anybody's packages, whatever Slipway's own writers do.
//
// A missing program fails the test and names the Debian package.
package dnftest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"

	"slipway/internal/distro"
	"slipway/internal/dnf"
)

// Need fails the test when a program is missing.
func Need(t testing.TB) {
	t.Helper()
	for program, debian := range map[string]string{"dnf": "dnf", "rpm": "rpm", "rpmbuild": "rpm", "rpmsign": "rpm", "gpg": "gpg", "gpgconf": "gpgconf", "createrepo_c": "createrepo-c"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is not installed: apt-get install %s", program, debian)
		}
	}
}

// Find gives the dnf of this machine.
func Find(t testing.TB) *dnf.Tool {
	t.Helper()
	Need(t)
	tool, err := dnf.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tool
}

// Key is an OpenPGP key of a test.
type Key struct {
	Public string // path of the armoured public key
	home   string
}

// NewKey makes a key; it and gpg's agent are gone after the test.
func NewKey(t testing.TB, name string) Key {
	t.Helper()
	Need(t)
	home, err := os.MkdirTemp("/tmp", "k") // the path of gpg's socket must be short
	if err != nil {
		t.Fatal(err)
	}
	k := Key{Public: filepath.Join(home, "public.asc"), home: home}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	k.run(t, "gpg", "-q", "--batch", "--passphrase", "", "--quick-gen-key", name+" <"+name+"@example.org>", "rsa2048", "sign")
	public := k.run(t, "gpg", "-q", "--batch", "-a", "--export")
	if err := os.WriteFile(k.Public, []byte(public), 0o644); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k Key) run(t testing.TB, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+k.home, "LC_ALL=C")
	var msg bytes.Buffer
	cmd.Stderr = &msg
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(argv, " "), err, out, msg.String())
	}
	return string(out)
}

// Sign signs packages in place.
func (k Key) Sign(t testing.TB, rpms ...string) {
	t.Helper()
	name := strings.TrimSpace(k.run(t, "gpg", "-q", "--batch", "--with-colons", "--list-keys"))
	_, after, _ := strings.Cut(name, "fpr:::::::::")
	fingerprint, _, _ := strings.Cut(after, ":")
	k.run(t, append([]string{"rpmsign", "--define", "_gpg_name " + fingerprint, "--define", "__gpg /usr/bin/gpg", "--addsign"}, rpms...)...)
}

// Build builds a spec and gives the paths of its packages, sorted. The spec need
// not have the tags Summary, License and %description: they are added.
func Build(t testing.TB, spec string) []string {
	t.Helper()
	Need(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "x.spec")
	text := "Summary: a test\nLicense: MIT\n" + spec
	if !strings.Contains(spec, "%description\n") {
		head, tail, _ := strings.Cut(text, "\n%")
		text = head + "\n%description\nA test.\n%" + tail
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	Key{home: dir}.run(t, "rpmbuild", "-bb", "--define", "_topdir "+dir, "--define", "_build_id_links none", file)
	found, err := filepath.Glob(filepath.Join(dir, "RPMS/*/*.rpm"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no packages: %v", err)
	}
	sort.Strings(found)
	return found
}

// Feed makes a signed feed of signed packages and gives it and its packages. Its
// id is "test", whatever it holds, so that one feed can take another's place.
func (k Key) Feed(t testing.TB, rpms ...string) (dnf.Repo, []distro.PackageRecord) {
	t.Helper()
	dir := t.TempDir()
	for _, rpm := range rpms {
		data, err := os.ReadFile(rpm)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(rpm)), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	k.Index(t, dir)
	var records []distro.PackageRecord
	for _, rpm := range rpms {
		f := strings.Split(k.run(t, "rpm", "-qp", "--nosignature", "--qf", `%{NAME}\t%{EPOCHNUM}\t%{VERSION}\t%{RELEASE}\t%{ARCH}\t%{SHA256HEADER}\t%{SOURCERPM}`, rpm), "\t")
		epoch, _ := strconv.Atoi(f[1])
		records = append(records, distro.PackageRecord{Name: f[0], Epoch: epoch, Version: f[2], Release: f[3], Arch: f[4], Scope: "noarch",
			HeaderDigest: distro.Digest("sha256:" + f[5]), SourceName: strings.TrimSuffix(f[6], "-"+f[2]+"-"+f[3]+".src.rpm"), File: filepath.Base(rpm)})
	}
	return k.Repo(dir), records
}

// Index makes or remakes the signed metadata of a folder.
func (k Key) Index(t testing.TB, dir string) {
	t.Helper()
	k.run(t, "createrepo_c", "-q", "--no-database", dir)
	k.run(t, "gpg", "-q", "--batch", "--yes", "-a", "--detach-sign", filepath.Join(dir, "repodata/repomd.xml"))
}

// Repo names a folder as a feed that this key has signed.
func (k Key) Repo(dir string) dnf.Repo {
	return dnf.Repo{ID: "test", BaseURL: "file://" + dir, GPGKeys: []string{k.Public}, Enabled: true}
}

// Dir gives the folder of a feed.
func Dir(repo dnf.Repo) string { return strings.TrimPrefix(repo.BaseURL, "file://") }
