package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"slipway/internal/distro"
)

var checkID = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// Every check says what it is: an id, a level, a question, a cure. The pages name it.
func TestAllChecks(t *testing.T) {
	t.Parallel()
	page := string(readDoc(t, "../../docs/checks.md"))
	seen := map[string]bool{}
	for _, c := range allChecks() {
		s := c.Spec()
		if !checkID.MatchString(s.ID) || seen[s.ID] || strings.HasPrefix(s.ID, "own-") {
			t.Errorf("id %q", s.ID)
		}
		seen[s.ID] = true
		if s.Level != distro.Block && s.Level != distro.Warn && s.Level != distro.Info {
			t.Errorf("%s: level %q", s.ID, s.Level)
		}
		if !strings.HasSuffix(s.Asks, "?") || strings.Contains(s.Asks, "\n") || s.Asks[0] < 'a' || s.Asks[0] > 'z' {
			t.Errorf("%s asks no question: %q", s.ID, s.Asks)
		}
		if len(s.Cure) < 10 || strings.HasSuffix(s.Cure, ".") || strings.Contains(s.Cure, "\n") {
			t.Errorf("%s: cure %q", s.ID, s.Cure)
		}
		if s != c.Spec() {
			t.Errorf("%s: another spec each time", s.ID)
		}
		row := "| `" + s.ID + "` | " + string(s.Level) + " | "
		i := strings.Index(page, row)
		if i < 0 {
			t.Fatalf("docs/checks.md has no row %q", row)
		}
		line, _, _ := strings.Cut(page[i:], "\n")
		if said, _, _ := strings.Cut(strings.TrimPrefix(line, row), "?"); !strings.HasPrefix(s.Asks, strings.TrimSpace(said)) {
			t.Errorf("docs/checks.md says of %s %q, and it asks %q", s.ID, said, s.Asks)
		}
	}
	for _, must := range []string{"installs", "upgrades", "versions", "public", "security", "inspect", "abi", "results", "boots", "selfupgrades"} {
		if !seen[must] {
			t.Errorf("there is no check %s", must)
		}
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	run := func(args ...string) string {
		t.Helper()
		var out, errOut bytes.Buffer
		if code := Main(t.Context(), append([]string{"--dir", t.TempDir()}, args...), Stdio{In: strings.NewReader(""), Out: &out, Err: &errOut}); code != 0 {
			t.Fatalf("exit %d: %s", code, errOut.String())
		}
		return out.String()
	}
	if s := run("checks"); !strings.Contains(s, "installs: block\n  asks: does every package install") || !strings.Contains(s, "\n  cure: ") {
		t.Error(s)
	}
	var lines []checkLine
	if err := json.Unmarshal([]byte(run("checks", "--json")), &lines); err != nil || len(lines) != len(allChecks()) {
		t.Errorf("%v: %d", err, len(lines))
	}
}

func readDoc(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
