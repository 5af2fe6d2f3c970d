package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/examples"
	"slipway/internal/debian"
)

// TestLeaveOut: where packages of arm64 cannot be had, the example has one board
// less, and is whole.
func TestLeaveOut(t *testing.T) {
	t.Parallel()
	revisions, err := examples.Load("halyard")
	if err != nil {
		t.Fatal(err)
	}
	leaveOut(revisions, []debian.Missing{{Arch: "aarch64"}})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "slipway.yaml"), revisions[0].Files["slipway.yaml"], 0o644); err != nil {
		t.Fatal(err)
	}
	def, _, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(def.Boards) != 1 || def.Boards[0].Name != "qemux86-64" || !slices.Equal(def.Builder.Arches, []string{"x86_64"}) {
		t.Errorf("boards %+v, architectures %v", def.Boards, def.Builder.Arches)
	}
	if text := string(revisions[0].Files["slipway.yaml"]); strings.Contains(text, "aarch64") || strings.Contains(text, "arm64") {
		t.Error(text)
	}
}
