package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// installer writes an extensible SDK's installer with its lists, as populate_sdk_ext
// leaves them; text is what its layer and its configuration say.
func installer(t *testing.T, sdk, version, url, text string) {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string]string{
		"conf/devtool.conf":                 "[General]\nbitbake_subdir = layers/bitbake\n\n[SDK]\nsdk_targets = deck\nupdateserver = " + url + "\n",
		"conf/local.conf":                   text,
		"layers/meta-boat/conf/layer.conf":  text,
		"sstate-cache/aa/bb/sstate:" + text: text,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(sdk, 0o755); err != nil {
		t.Fatal(err)
	}
	stem := filepath.Join(sdk, "boat-glibc-x86_64-deck-x86_64-harbor-toolchain-ext-"+version)
	run(t, dir, 0, "sh", "-ec", `sha256sum conf/* | sed 's/  /\t/' >conf/sdk-conf-manifest
{ printf '#!/bin/sh\nexit 0\nMARKER:\n'; tar cJf - .; } >"$0.sh"
echo 'anchor noarch 1.0' >"$0.target.manifest"; echo 'nativesdk-libc x86_64-nativesdk 2.41' >"$0.host.manifest"`, stem)
}

// TestSDKs: a release's SDKs are published with it, each of its bytes for ever, and the
// address that an extensible one asks for updates has the newest, which a client follows
// as `devtool sdk-update` does.
func TestSDKs(t *testing.T) {
	dir := harbor(t)
	ci := filepath.Join(dir, "ci")
	again(t, dir, "publish", "1.1")
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(dir, "publication"))))
	defer server.Close()
	definition := filepath.Join(dir, "slipway.yaml")
	text, err := os.ReadFile(definition)
	if err == nil {
		err = os.WriteFile(definition, []byte(strings.NewReplacer("[packages, sstate, downloads]", "[packages, sdk]", "https://feeds.example.org/boat", server.URL).Replace(string(text))), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	commit := func() {
		run(t, dir, 0, "git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "-q", "-a", "--allow-empty", "-m", "next")
		head := strings.TrimSpace(run(t, dir, 0, "git", "rev-parse", "HEAD"))
		if err := os.WriteFile(filepath.Join(ci, "buildhistory/metadata-revs"), []byte("meta-boat         = main:"+head+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	url := server.URL + "/1/sdk/update/harbor"
	release := func(version, said string) {
		t.Helper()
		commit()
		sdk := filepath.Join(ci, "tmp/deploy/sdk")
		if err := os.RemoveAll(sdk); err != nil {
			t.Fatal(err)
		}
		installer(t, sdk, version, url, said)
		run(t, ci, 0, "sed", "-i", fmt.Sprintf(`s/VERSION="[^"]*"/VERSION="%s"/; s/SUFFIX="[^"]*"/SUFFIX="-%s"/`, version, version), "environment-harbor.txt")
		again(t, dir, "run", "--yes", "--by", "Ada Byron", "--import", ci)
		again(t, dir, "verify")
	}
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, "publication/1/sdk", name))
		if err != nil {
			t.Error(err)
		}
		return string(data)
	}
	release("1.2", "first")
	const stem = "boat-glibc-x86_64-deck-x86_64-harbor-toolchain-ext-"
	first := read("1.2/" + stem + "1.2.sh")
	if !strings.HasPrefix(first, "#!/bin/sh") || read("1.2/"+stem+"1.2.target.manifest") == "" {
		t.Error("the SDK is not published")
	}
	manifest := read("update/harbor/conf/sdk-conf-manifest")
	client := filepath.Join(t.TempDir(), "client")
	run(t, dir, 0, "git", "clone", "-q", url+"/layers/.git", client)
	layer := func(want string) {
		t.Helper()
		if got, err := os.ReadFile(filepath.Join(client, "meta-boat/conf/layer.conf")); err != nil || string(got) != want || read("update/harbor/conf/local.conf") != want {
			t.Errorf("%q, want %s: %v", got, want, err)
		}
	}
	layer("first")
	again(t, dir, "feed", "export", filepath.Join(filepath.Dir(dir), "copy"))

	release("1.3", "second")
	if read("1.2/"+stem+"1.2.sh") != first {
		t.Error("a published SDK changed")
	}
	if read("update/harbor/conf/sdk-conf-manifest") == manifest {
		t.Error("a client does not see that there is something new")
	}
	run(t, client, 0, "sh", "-c", "git fetch -q --all && git reset -q --hard @{u}")
	layer("second")
	for _, text := range []string{"first", "second"} {
		if read("update/harbor/sstate-cache/aa/bb/sstate:"+text) != text {
			t.Error("an object of the cache is gone")
		}
	}
	again(t, dir, "feed", "export", filepath.Join(filepath.Dir(dir), "copy"))
	run(t, filepath.Dir(dir), 0, "diff", "-r", "ws/publication", "copy")

	// Taken back, it is offered no more; and the next one is.
	again(t, dir, "withdraw", "1.3", "--because", "it does not build", "--by", "Ada Byron")
	if read("1.3/"+stem+"1.3.sh") == "" || read("update/harbor/conf/sdk-conf-manifest") != manifest {
		t.Error("a withdrawn SDK is still the newest")
	}
	run(t, client, 0, "sh", "-c", "git fetch -q --all && git reset -q --hard @{u}")
	layer("first")

	// One that asks elsewhere is published, and told.
	url = "https://updates.example.org/harbor"
	release("1.4", "third")
	if read("1.4/"+stem+"1.4.sh") == "" || read("update/harbor/conf/local.conf") != "first" {
		t.Error("the updates of others were touched")
	}
	// What a rule about a package keeps in keeps in the SDK that holds it.
	url = server.URL + "/1/sdk/update/harbor"
	if text, err = os.ReadFile(definition); err == nil {
		err = os.WriteFile(definition, []byte(strings.Replace(string(text), "publish: {", "publish: {exclude: [{recipe: anchor}], ", 1)), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	release("1.5", "fourth")
	if _, err := os.Stat(filepath.Join(dir, "publication/1/sdk/1.5")); err == nil || read("update/harbor/conf/local.conf") != "first" {
		t.Error("an SDK with a package that is kept in went out")
	}
}
