package fork

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/asyncrpc"
	"slipway/internal/prserv"
	"slipway/internal/prserv/prdb"
)

// versions of BitBake whose clients are tried, oldest first, with the OE-Core of
// that release: each in the folder that a variable names.
var versions = []struct{ name, bitbake, oecore string }{
	{"2.0", "SLIPWAY_TEST_BITBAKE_2_0", "SLIPWAY_TEST_OECORE_KIRKSTONE"},
	{"2.8", "SLIPWAY_TEST_BITBAKE_2_8", "SLIPWAY_TEST_OECORE_SCARTHGAP"},
	{"2.12", "SLIPWAY_TEST_BITBAKE_2_12", ""},
	{"6.0.2", "SLIPWAY_TEST_BITBAKE", "SLIPWAY_TEST_OECORE"},
	{"master", "SLIPWAY_TEST_BITBAKE_MASTER", "SLIPWAY_TEST_OECORE_MASTER"},
}

// said is what the servers said to one version's clients.
type said map[string]any

func talk(t *testing.T, bitbake, name, hash, pr, oecore string, outputs ...string) said {
	t.Helper()
	args := []string{"-W", "ignore", filepath.Join("testdata", "clients.py"), bitbake, name, hash, pr}
	if oecore != "" {
		args = append(args, oecore)
	}
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", args...)
	if outputs != nil {
		cmd.Env = append(os.Environ(), "OUTPUTS="+strings.Join(outputs, " "))
	}
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("clients of %s: %v\n%s%s", name, err, out, errors.String())
	}
	var s said
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return s
}

func list(s ...string) []any {
	var l []any
	for _, v := range s {
		l = append(l, v)
	}
	return l
}

// TestClientsOfAllVersions has the client code of each BitBake there is talk to
// one pair of servers, and OE-Core's package class beside it: each gets the
// answers that its version expects, and what the versions before it have stored.
func TestClientsOfAllVersions(t *testing.T) {
	t.Parallel()
	base, err := Open(filepath.Join(t.TempDir(), "series.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	build, err := base.Fork(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer build.Close()
	common, tried := "", 0
	for _, v := range versions {
		dir := os.Getenv(v.bitbake)
		if dir == "" {
			t.Logf("SKIPPED: clients of BitBake %s: %s names no checkout", v.name, v.bitbake)
			continue
		}
		oecore := os.Getenv(v.oecore)
		got := talk(t, dir, v.name, build.HashServer, build.PRServer, oecore)
		t.Logf("BitBake %s, OE-Core %q: %d answers", got["version"], oecore, len(got))
		if common == "" {
			common, _ = got["common"].(string)
		}
		old := v.name == "2.0" || v.name == "2.8"
		kind := "str"
		if old {
			kind = "int"
		}
		want := said{"version": got["version"], "alive": true, "report": true, "report_big": true, "big": 200000., "get": true, "unknown": true,
			"common": common, "common_stream": common, "row": "zlib", "outhash": common, "equiv": true, "stats": true,
			"pr_alive": true, "pr_type": kind, "pr_shared": "0", "pr_own": list("0", "1", "1", "2", "2"), "pr_new": []string{0: "0", 1: "1", 2: "2", 3: "3", 4: "4"}[tried],
			"pr_import": "41", "pr_after": "42", "pr_export": list("42"), "pr_columns": 4., "pr_readonly": false}
		if v.name != "2.0" {
			want["exists"], want["batch"], want["gc"], want["usage"] = []any{true, false}, true, 1., list("config", "outhashes_v2", "unihashes_v3", "users")
			want["pr_test"], want["pr_package"] = []any{"0", nil}, []any{true, false}
		}
		if !old {
			want["pr_max"] = "42"
		}
		if oecore != "" {
			want["oe"] = list("0", "1", "1")
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("clients of BitBake %s (-want +got):\n%s", v.name, d)
		}
		tried++
	}
	if tried == 0 {
		t.Skip("SKIPPED: clients of all versions: SLIPWAY_TEST_BITBAKE (and SLIPWAY_TEST_BITBAKE_2_0, _2_8, _2_12, _MASTER) name no checkout of BitBake")
	}
}

// A user's own server never gives what the official one does: below it, for
// clients of any version when the server itself asks upstream, or above an offset.
func TestOwnNumbersNeverClash(t *testing.T) {
	t.Parallel()
	serve := func(o prserv.Options) string {
		d, err := prdb.Open(filepath.Join(t.TempDir(), "pr.sqlite3"), false)
		if err != nil {
			t.Fatal(err)
		}
		o.DB = d
		s, err := prserv.New(o)
		if err != nil {
			t.Fatal(err)
		}
		l, err := asyncrpc.Listen(t.Context(), "127.0.0.1:0", false)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- s.Serve(ctx, l) }()
		t.Cleanup(func() { cancel(); <-done; d.Close() })
		return l.Address()
	}
	base, err := Open(filepath.Join(t.TempDir(), "series.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	build, err := base.Fork(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer build.Close()
	official := build.PRServer
	tried := 0
	for _, v := range versions {
		dir := os.Getenv(v.bitbake)
		if dir == "" {
			t.Logf("SKIPPED: own numbers with BitBake %s: %s names no checkout", v.name, v.bitbake)
			continue
		}
		tried++
		if v.name == "2.0" || v.name == "2.8" {
			// These don't know an upstream, and integers are all that they take.
			own := serve(prserv.Options{Offset: 100000})
			got := talk(t, dir, v.name, build.HashServer, own, os.Getenv(v.oecore))
			if d := cmp.Diff(list("100000", "100001", "100001", "100002", "100002"), got["pr_own"]); d != "" {
				t.Error(v.name, d)
			}
			if d := cmp.Diff(list("100000", "100001", "100001"), got["oe"]); d != "" && got["oe"] != nil {
				t.Error(v.name, d)
			}
			continue
		}
		theirs := talk(t, dir, v.name, build.HashServer, official, os.Getenv(v.oecore))
		own := serve(prserv.Options{Upstream: official})
		got := talk(t, dir, v.name, build.HashServer, own, os.Getenv(v.oecore))
		if theirs["pr_shared"] != got["pr_shared"] {
			t.Errorf("%s: an output that the official server knows: %v there, %v here", v.name, theirs["pr_shared"], got["pr_shared"])
		}
		if got["oe"] == nil {
			continue
		}
		// What is known there keeps its number; what is not gets one below it.
		if d := cmp.Diff(theirs["oe"], got["oe"]); d != "" {
			t.Error(v.name, d)
		}
		changed := talk(t, dir, v.name, build.HashServer, own, os.Getenv(v.oecore), "three", "four", "three", "one")
		if d := cmp.Diff(list("1.0", "1.1", "1.2", "1.3"), changed["oe"]); d != "" {
			t.Error(v.name, "outputs of one's own:", d)
		}
		mine := talk(t, dir, v.name+"x", build.HashServer, own, os.Getenv(v.oecore))
		if d := cmp.Diff(list("0", "1", "1"), mine["oe"]); d != "" {
			t.Error(v.name, "a package of one's own:", d)
		}
	}
	if tried == 0 {
		t.Skip("SKIPPED: own numbers: SLIPWAY_TEST_BITBAKE (and SLIPWAY_TEST_BITBAKE_2_0, ...) name no checkout of BitBake")
	}
}
