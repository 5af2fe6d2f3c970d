package cycle

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/config"
	"slipway/internal/distro"
)

// TestCollectResults: of the results that a build left, its own runs are kept; what cannot
// be read is a finding, and no end of the build.
func TestCollectResults(t *testing.T) {
	t.Parallel()
	w, _ := resultsWorkspace(t)
	b, err := w.Build(t.Context(), "1.2-b1")
	if err != nil {
		t.Fatal(err)
	}
	own, other := fmt.Sprintf("%040d", 2), fmt.Sprintf("%040d", 1)
	collect := func(path string) []distro.Artifact {
		t.Helper()
		arts, err := w.collectResults(t.Context(), b, distro.Output{Class: distro.TestResults, Name: "testresults.json", Path: path})
		if err != nil {
			t.Fatal(err)
		}
		return arts
	}
	text := func(a distro.Artifact) string {
		data, err := w.readBlob(t.Context(), a.Digest)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	whole := resultsOf(t, "mine", own, "ping=PASSED")
	if arts := collect(whole); len(arts) != 2 || arts[0].Class != distro.TestResults || !strings.HasSuffix(arts[1].Name, strippedName) {
		t.Errorf("%+v", arts)
	} else if data, _ := os.ReadFile(whole); text(arts[0]) != string(data) {
		t.Error("the file was changed")
	}
	if arts := collect(resultsOf(t, "theirs", other, "ping=FAILED")); len(arts) != 0 {
		t.Errorf("results of another build: %+v", arts)
	}
	// A folder that stays collects the runs of all builds.
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(data))
	}
	a, c := read(resultsOf(t, "mine", own, "ping=PASSED")), read(resultsOf(t, "theirs", other, "ping=FAILED"))
	both := filepath.Join(t.TempDir(), "testresults.json")
	if err := os.WriteFile(both, []byte(strings.TrimSuffix(a, "}")+","+strings.TrimPrefix(c, "{")), 0o644); err != nil {
		t.Fatal(err)
	}
	arts := collect(both)
	if len(arts) != 2 || !strings.Contains(text(arts[0]), `"mine"`) || strings.Contains(text(arts[0]), `"theirs"`) {
		t.Errorf("%+v", arts)
	}
	broken := filepath.Join(t.TempDir(), "testresults.json")
	if err := os.WriteFile(broken, []byte(`{"run": {"result": {"ping": {"status": "PAS`), 0o644); err != nil {
		t.Fatal(err)
	}
	arts = collect(broken)
	if len(arts) != 1 || arts[0].Class != distro.ConsoleLog || arts[0].Name != unreadName || !strings.Contains(text(arts[0]), "testresults.json:1:") {
		t.Fatalf("%+v", arts)
	}
	b.Artifacts = arts
	found := false
	for _, f := range artifactsOf(b, &config.Definition{}).Findings {
		found = found || f.ID == "test-results:unread" && f.Level == distro.Block && strings.Contains(f.Cure, "slipway log 1.2-b1 "+unreadName)
	}
	if !found {
		t.Error("nobody is told that results cannot be read")
	}
}
