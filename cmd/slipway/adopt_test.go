package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/rpmpack"

	"slipway/internal/cli"
	"slipway/internal/crashtest"
	"slipway/internal/prserv/fork"
)

// bitbakeFeed writes a feed of two packages, as BitBake would have named them, and gives
// its folder.
func bitbakeFeed(t *testing.T, dir string) string {
	t.Helper()
	deploy := filepath.Join(dir, "deploy")
	for _, x := range []struct{ name, release, arch string }{{"anchor", "r0.3", "noarch"}, {"rudder", "r0.1", "x86_64"}} {
		p, err := rpmpack.NewRPM(rpmpack.RPMMetaData{Name: x.name, Version: "1.0", Release: x.release, Arch: x.arch, OS: "linux", Summary: x.name, Licence: "MIT", Compressor: "gzip", BuildTime: time.Unix(1790000000, 0)})
		if err != nil {
			t.Fatal(err)
		}
		p.AddFile(rpmpack.RPMFile{Name: "/usr/share/" + x.name, Mode: 0o100644, Body: []byte("iron"), Owner: "root", Group: "root"})
		path := filepath.Join(deploy, x.arch, fmt.Sprintf("%s-1.0-%s.%s.rpm", x.name, x.release, x.arch))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(path)
		if err == nil {
			err = p.Write(f)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return deploy
}

// bitbakeServers runs BitBake's own PR and hash servers, gives out numbers and hashes as
// a build would, and stops when stdin ends.
const bitbakeServers = `
import os, sys
sys.path.insert(0, os.path.join(os.environ["BITBAKE"], "lib"))
import hashserv, prserv
hash_server = hashserv.create_server("unix://./hash.sock", "hashserv.db")
hash_server.serve_as_process()
pr_server = prserv.create_server("127.0.0.1:0", "prserv.sqlite3")
pr_server.serve_as_process()
h = hashserv.create_client("unix://./hash.sock")
p = prserv.create_client(pr_server.address)
for version, arch, n in (("anchor-1.0-r0", "all", 4), ("rudder-1.0-r0", "x86_64", 2), ("gone-2.0-r0", "all", 10), ("AUTOINC-x-1.0", "AUTOINC", 2)):
    for i in range(n):
        value = p.getPR(version, arch, "%064d" % i, False) if hasattr(p, "getPR") else None
for i in range(50):
    h.report_unihash("%064x" % i, "method", "%064x" % (1000 + i), "%064x" % (2000 + i))
print("ready", value, flush=True)
sys.stdin.read()
for c in (h, p):
    c.close()
for s in (hash_server, pr_server):
    s.process.terminate()
    s.process.join()
`

// TestAdoptWhileBitBakesServersRun: the databases are those that BitBake's own servers
// made, and have open.
func TestAdoptWhileBitBakesServersRun(t *testing.T) {
	t.Parallel()
	bitbake := os.Getenv("SLIPWAY_TEST_BITBAKE")
	if bitbake == "" {
		t.Skip("SKIPPED: BitBake's own databases: SLIPWAY_TEST_BITBAKE names no checkout of BitBake")
	}
	dir := t.TempDir()
	deploy := bitbakeFeed(t, dir)
	servers := exec.Command("python3", "-c", bitbakeServers)
	servers.Dir = dir
	servers.Env = append(os.Environ(), "BITBAKE="+bitbake)
	var talk bytes.Buffer
	servers.Stderr = &talk
	in, err := servers.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := servers.StdoutPipe()
	if err == nil {
		err = servers.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		_ = servers.Wait()
	}()
	if ready, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(ready, "ready") {
		t.Fatalf("BitBake's servers: %q %v\n%s", ready, err, talk.String())
	}
	ws := filepath.Join(dir, "adopted")
	var result bytes.Buffer
	talk.Reset()
	code := cli.Main(t.Context(), []string{"init", ws, "--adopt", deploy, "--prserv", filepath.Join(dir, "prserv.sqlite3"), "--hashserv", filepath.Join(dir, "hashserv.db"), "--by", "Ada", "--no-passphrase", "--json"},
		cli.Stdio{In: strings.NewReader(""), Out: &result, Err: &talk})
	var r struct {
		Status   string
		Packages int
		Numbers  int
		Skipped  int
	}
	if err := json.Unmarshal(result.Bytes(), &r); err != nil || code != 0 || r.Status != "published" || r.Packages != 2 || r.Skipped != 0 || r.Numbers < 16 {
		t.Fatalf("exit code %d: %v %+v\n%s%s", code, err, r, result.String(), talk.String())
	}
	b, err := fork.Open(filepath.Join(ws, ".slipway/databases/series.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, want := range []struct{ version, arch, value string }{{fork.PRVersion("anchor", "1.0"), "noarch", "3"}, {fork.PRVersion("rudder", "1.0"), "x86_64", "1"}, {fork.PRVersion("gone", "2.0"), "noarch", "9"}, {fork.PRVersion("gone", "2.0"), "x86_64", "9"}} {
		if got, err := b.PR.Max(t.Context(), want.version, want.arch); err != nil || got != want.value {
			t.Errorf("%s for %s: %q, %v; want %s", want.version, want.arch, got, err, want.value)
		}
	}
	if got, err := b.Hash.Unihash(t.Context(), "method", fmt.Sprintf("%064x", 7)); err != nil || got != fmt.Sprintf("%064x", 2007) {
		t.Errorf("unihash %q, %v", got, err)
	}
}

// TestAdoptSurvivesKills kills init --adopt at its writes: the same command again ends
// with release 1.0 published, whatever was there.
func TestAdoptSurvivesKills(t *testing.T) {
	from := t.TempDir()
	bitbakeFeed(t, from)
	command, dir := copies(t, from)
	killed := crashtest.KillEach(t, crashtest.Options{Command: command("adopt"), Sample: 10}, func(t *testing.T, n int) {
		ws := filepath.Join(dir(n), "boat")
		again(t, dir(n), "init", ws, "--adopt", filepath.Join(dir(n), "deploy"), "--by", "Ada Byron", "--no-passphrase")
		again(t, ws, "verify")
		if s := status(t, ws); s.Head != "1.0" || len(s.Releases) != 1 || s.Next != "slipway build" {
			t.Errorf("after the same command again: %+v", s)
		}
		os.RemoveAll(dir(n))
	})
	if killed == 0 {
		t.Error("no run was killed")
	}
}

// TestAdvisorySurvivesKills kills advisory publish at its writes. After each kill clients
// see serial 1 or 2, whole; the same command again ends with serial 2 and the advisory in
// it, and nothing comes out twice.
func TestAdvisorySurvivesKills(t *testing.T) {
	from := template(t)
	if err := os.MkdirAll(filepath.Join(from, "advisories"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := "schema: 1\ntitle: a greeting\nseverity: low\nfixed_in: \"1.1\"\nrecipes: [hello]\ndescription: x\n"
	if err := os.WriteFile(filepath.Join(from, "advisories/MSA-1.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	command, dir := copies(t, from)
	killed := crashtest.KillEach(t, crashtest.Options{Command: command("advise"), Sample: 10}, func(t *testing.T, n int) {
		again(t, dir(n), "verify")
		if s := status(t, dir(n)); n > 0 && s.Next != "slipway build" && s.Next != "slipway advisory publish" {
			t.Errorf("status after the kill: %+v", s)
		}
		again(t, dir(n), "advisory", "publish")
		again(t, dir(n), "verify")
		if got := serial(t, dir(n)); got != 2 {
			t.Errorf("serial %d", got)
		}
		if b, err := os.ReadFile(filepath.Join(dir(n), "publication/1/current/noarch/repodata/repomd.xml")); err != nil || !bytes.Contains(b, []byte("updateinfo")) {
			t.Errorf("no advisory in current: %v", err)
		}
		os.RemoveAll(dir(n))
	})
	if killed == 0 {
		t.Error("no run was killed")
	}
}
