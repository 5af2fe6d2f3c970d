package cycle

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/prserv/fork"
	"slipway/internal/state"
)

// TestNumbersOfAnOlderWorkspaceStayBurned: what a program before the databases gave to
// builds that were rejected or failed is never given again.
func TestNumbersOfAnOlderWorkspaceStayBurned(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, ".slipway"), 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := state.Open(ctx, filepath.Join(dir, ".slipway", "state.db"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := &Workspace{Dir: dir, Definition: &config.Definition{Series: config.Series{Name: "1"}}, Parts: Parts{State: s, Clock: time.Now}}
	key := func(name, arch string) distro.NumberKey {
		return distro.NumberKey{Source: name, Version: "1:1.0", Arch: arch}
	}
	type given struct {
		Number int            `json:"number"`
		Build  distro.BuildID `json:"build"`
		At     time.Time      `json:"at"`
	}
	type mark struct {
		Key   distro.NumberKey `json:"key"`
		Last  int              `json:"last"`
		Given []given          `json:"given"`
	}
	put := func(id string, data any) {
		t.Helper()
		if err := s.Apply(ctx, []state.Put{{Kind: "number", ID: id, Data: data}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	// Release 1.1 has libknot's number 2; builds that were rejected had 3 to 5, and knotctl's 1.
	put("1/libknot-1:1.0.x86_64", mark{key("libknot", "x86_64"), 5, []given{{5, "1.2-b3", time.Now()}}})
	put("1/knotctl-1:1.0.noarch", mark{key("knotctl", "noarch"), 1, []given{{1, "1.2-b1", time.Now()}}})
	put("2/libknot-1:1.0.aarch64", mark{key("libknot", "aarch64"), 9, nil}) // of another series
	if err := s.Apply(ctx, []state.Put{{Kind: kindRelease, ID: "1.1", Data: Release{Version: "1.1", Series: "1", Status: distro.Published,
		Numbers: []distro.NumberRow{{NumberKey: key("libknot", "x86_64"), Number: 2}}}}}, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time everything is there
		base, err := fork.Open(w.databasesFile(t))
		if err != nil {
			t.Fatal(err)
		}
		n := &numbers{databases: base}
		if err := n.startFrom(ctx, w, "1.1"); err != nil {
			t.Fatal(err)
		}
		rows, err := base.PR.Rows(ctx, "", "", "", true)
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != 2 {
			t.Errorf("rows: %+v", rows)
		}
		if err := base.Close(); err != nil {
			t.Fatal(err)
		}
	}
	base, err := fork.Open(w.databasesFile(t))
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	n := &numbers{databases: base}
	if err := n.startFrom(ctx, w, "1.1"); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		key  distro.NumberKey
		want int
	}{{key("libknot", "x86_64"), 6}, {key("libknot", "x86_64"), 7}, {key("knotctl", "noarch"), 2}, {key("libknot", "aarch64"), 1}, {key("anchor", "noarch"), 1}} {
		if got, err := n.Next(ctx, "1.2-b4", x.key); err != nil || got != x.want {
			t.Errorf("%s: %d, %v; want %d", x.key, got, err, x.want)
		}
	}
	put("1/torn", "nothing")
	if err := n.startFrom(ctx, w, "1.1"); !errs.Is(err, errs.Invalid) {
		t.Errorf("a document that says nothing: %v", err)
	}
}

func (w *Workspace) databasesFile(t *testing.T) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(w.Databases()), 0o755); err != nil {
		t.Fatal(err)
	}
	return w.Databases()
}
