package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/internal/cli"
	"slipway/internal/dnf"
	"slipway/internal/errs"
)

const feedsSpec = `Name: minnow-feeds
Version: 1
Release: %{slipway_number}
Summary: The keys of the feeds
License: MIT
BuildArch: noarch
%description
The keys of the feeds.
%install
mkdir -p %{buildroot}/etc/pki/rpm-gpg
install -m 0644 %{slipway_feed_config}/RPM-GPG-KEY-* %{buildroot}/etc/pki/rpm-gpg/
%files
/etc/pki/rpm-gpg/*
%changelog
* Mon Nov 02 2026 Ada Byron <ada@example.org> - 1-1
- first
`

// TestABridgeWithoutANextKey: the package key was stolen and no next one was listed. A
// release that brings the new key, signed by the metadata key, leads real devices over;
// one that slept takes the package with the keys first.
func TestABridgeWithoutANextKey(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	dir := filepath.Join(t.TempDir(), "ws")
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range minnow {
		write(name, text)
	}
	write("layers/minnow/specs/minnow-feeds/minnow-feeds.spec", feedsSpec)
	write("slipway.yaml", ungated(minnow["slipway.yaml"])) // the devices below are the test
	git := func(args ...string) {
		run(t, dir, 0, append([]string{"git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org"}, args...)...)
	}
	git("init", "-q", "-b", "main")
	git("add", "-A")
	git("commit", "-q", "-m", "first")
	now := time.Now().AddDate(0, 0, -40)
	slipway := func(want int, args ...string) string {
		t.Helper()
		now = now.Add(time.Minute)
		n := now
		var out bytes.Buffer
		if code := cli.Main(t.Context(), append([]string{"--dir", dir}, args...), cli.Stdio{In: strings.NewReader(""), Out: &out, Err: &out, Clock: func() time.Time { return n }}); code != want {
			t.Fatalf("slipway %v: exit code %d\n%s", args, code, out.String())
		}
		return out.String()
	}
	approve := func(version string) {
		t.Helper()
		slipway(0, "build")
		slipway(0, "test")
		slipway(0, "approve", version+"-c1", "--by", "Ada Byron")
	}
	slipway(0, "key", "create", "--no-passphrase")
	approve("1.1")
	if out := slipway(6, "publish", "1.1", "--bridge"); !strings.Contains(out, "no package key was revoked or lost") {
		t.Error(out)
	}
	slipway(0, "publish", "1.1")

	tool, err := dnf.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	awake, err := tool.NewRoot(t.Context(), filepath.Join(t.TempDir(), "awake"), dnf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	follow := func(root *dnf.Root, snapshot string) {
		t.Helper()
		keys, err := filepath.Glob(filepath.Join(root.Path(), "etc/pki/rpm-gpg/*"))
		if err != nil || len(keys) == 0 {
			t.Fatal(keys, err)
		}
		if err := root.SetRepos([]dnf.Repo{{ID: "minnow", BaseURL: "file://" + dir + "/publication/1/" + snapshot + "/noarch", GPGKeys: keys, Enabled: true}}); err != nil {
			t.Fatal(err)
		}
	}
	upgraded := func(root *dnf.Root, want string) {
		t.Helper()
		r, err := root.Upgrade(t.Context())
		if err != nil {
			t.Fatalf("%v\n%s", err, r.Output)
		}
		var got []string
		for _, p := range r.Upgraded {
			got = append(got, p.Name+" "+p.Version)
		}
		if strings.Join(got, ", ") != want {
			t.Fatalf("upgraded %v, want %s\n%s", got, want, r.Output)
		}
	}
	run(t, dir, 0, "mkdir", "-p", filepath.Join(awake.Path(), "etc/pki/rpm-gpg"))
	for _, role := range []string{"package", "metadata"} { // as an image brings them
		run(t, dir, 0, "cp", filepath.Join(dir, "publication/keys", role+"-1.asc"), filepath.Join(awake.Path(), "etc/pki/rpm-gpg/RPM-GPG-KEY-minnow-"+role))
	}
	follow(awake, "current")
	if r, err := awake.Install(t.Context(), "hello", "minnow-feeds"); err != nil {
		t.Fatalf("%v\n%s", err, r.Output)
	}
	asleep, err := awake.Clone(t.Context(), filepath.Join(t.TempDir(), "asleep"))
	if err != nil {
		t.Fatal(err)
	}
	greet := func(text string) {
		t.Helper()
		write("layers/minnow/specs/hello/hello.txt", text+"\n")
		git("commit", "-q", "-a", "-m", text)
	}
	greet("hello, world")
	approve("1.2")
	slipway(0, "publish", "1.2")
	follow(awake, "current")
	upgraded(awake, "hello 1.0")

	// Stolen. What is offered is signed again; then a release brings the new key.
	slipway(0, "key", "revoke", "package-1", "--because", "the laptop was stolen")
	slipway(0, "key", "create", "--role", "package", "--no-passphrase")
	slipway(0, "publish", "--resign", "--because", "the laptop was stolen", "--by", "Ada Byron")
	approve("1.3")
	if out := slipway(0, "publish", "1.3", "--bridge"); !strings.Contains(out, "the metadata key signed what is new in it") {
		t.Error(out)
	}
	slipway(0, "publish", "1.3") // what is done is done
	if out := slipway(0, "verify"); !strings.Contains(out, "note: 1/pool/rpm/noarch/1/minnow-feeds-1-2.noarch.rpm: signed by the metadata key") || !strings.Contains(out, "all as signed") {
		t.Error(out)
	}
	follow(awake, "current")
	upgraded(awake, "minnow-feeds 1")

	// Weeks later: a release as any other, and the bridge by the new key, too.
	now = now.AddDate(0, 0, 21)
	greet("hello, kind world")
	approve("1.4")
	slipway(0, "publish", "1.4")
	follow(awake, "current")
	upgraded(awake, "hello 1.0")
	if out := slipway(6, "publish", "1.4", "--bridge"); !strings.Contains(out, "release 1.4 is published, by the package key") {
		t.Error(out)
	}

	// One that slept through all of it: first the package with the keys alone.
	follow(asleep, "current")
	if _, err := asleep.Upgrade(t.Context()); !errs.Is(err, errs.Denied) {
		t.Errorf("a device that knows the stolen key alone takes what the new one signed: %v", err)
	}
	if r, err := asleep.Install(t.Context(), "minnow-feeds-1-2"); err != nil {
		t.Fatalf("%v\n%s", err, r.Output)
	}
	follow(asleep, "current")
	upgraded(asleep, "hello 1.0")

	slipway(0, "publish", "--resign", "--because", "the bridge has done its work", "--by", "Ada Byron")
	if out := slipway(0, "verify"); !strings.Contains(out, "release 1.4, serial 6: 4 releases, 6 snapshots") {
		t.Error(out)
	}
}

// TestResignAfterTheMetadataKeyWasStolen: the same packages, under indexes that the next
// metadata key signs; what the stolen one signed before counts by the log.
func TestResignAfterTheMetadataKeyWasStolen(t *testing.T) {
	from := template(t)
	keys := filepath.Join(t.TempDir(), "keys")
	run(t, from, 0, "cp", "-a", filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "slipway/keys/minnow"), keys)
	if err := os.WriteFile(filepath.Join(from, "settings.yaml"), []byte("schema: 1\nkeys: "+keys+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	again(t, from, "key", "rotate", "--role", "metadata", "--overlap", "30d", "--no-passphrase")
	again(t, from, "key", "revoke", "metadata-1", "--because", "the laptop was stolen")
	again(t, from, "publish", "--resign", "--because", "the metadata key was stolen", "--by", "Ada Byron")
	again(t, from, "verify")
	if got := serial(t, from); got != 2 {
		t.Errorf("serial %d", got)
	}
	var out bytes.Buffer
	if code := cli.Main(t.Context(), []string{"--dir", from, "publish", "--resign", "--because", "once more"}, cli.Stdio{In: strings.NewReader(""), Out: &out, Err: &out}); code != 6 {
		t.Errorf("once more: exit code %d\n%s", code, out.String())
	}
}
