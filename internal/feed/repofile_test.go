package feed

import (
	"strings"
	"testing"
)

// Feeds of parts are named on every device and asked by none.
func TestRepoFileOfParts(t *testing.T) {
	t.Parallel()
	text := RepoFile(RepoOptions{Distribution: "halyard", Title: "Halyard", Series: "1", Scopes: []string{ArchVariable, ArchVariable + "-dbg"}})
	on := map[string]bool{}
	id := ""
	for line := range strings.Lines(text) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "["):
			id = strings.Trim(line, "[]")
		case strings.HasPrefix(line, "enabled="):
			on[id] = line == "enabled=1"
		}
	}
	want := map[string]bool{"halyard-arch": true, "halyard-arch-dbg": false, "halyard-arch-history": false, "halyard-arch-dbg-history": false}
	for id, w := range want {
		if got, ok := on[id]; !ok || got != w {
			t.Errorf("%s: on %v, there %v", id, got, ok)
		}
	}
	if !strings.Contains(text, "baseurl=$slipway_url/1/$slipway_snapshot/$slipway_arch-dbg\n") {
		t.Error(text)
	}
}
