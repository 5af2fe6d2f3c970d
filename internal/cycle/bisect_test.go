package cycle

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/keyring"
	"slipway/internal/sign"
	"slipway/internal/state"
	"slipway/internal/store"
)

// layerBuilder is a builder of BitBake's kind: it reads the layers that it is given, and
// fails in the task that a layer's file "broken" names.
type layerBuilder struct {
	layers map[string]string
	built  *[]string
	down   *bool  // the machine has a fault
	other  string // state of meta-b that fails elsewhere
}

type taskError struct{ task string }

func (e taskError) Error() string                { return "task " + e.task + " failed" }
func (e taskError) FailedTask() (string, string) { return e.task, "hello" }

func (b *layerBuilder) Pin(context.Context) (distro.BuilderPin, error) {
	return distro.BuilderPin{Kind: config.BitBake, Tools: map[string]string{"bitbake": "2.18"}}, nil
}

func (b *layerBuilder) Prepare(_ context.Context, _ distro.Revision, s distro.Seed, _ string) error {
	b.layers = s.Layers
	return nil
}

func (b *layerBuilder) Build(context.Context, string, func(distro.BuildEvent)) error {
	var seen []string
	var found error
	for _, name := range []string{"meta-a", "meta-b"} {
		n, err := os.ReadFile(filepath.Join(b.layers[name], "n"))
		if err != nil {
			return err
		}
		seen = append(seen, name+" "+strings.TrimSpace(string(n)))
		if task, err := os.ReadFile(filepath.Join(b.layers[name], "broken")); err == nil {
			found = errors.Join(found, taskError{strings.TrimSpace(string(task))})
		}
	}
	*b.built = append(*b.built, strings.Join(seen, ", "))
	if strings.HasSuffix(seen[1], " "+b.other) {
		return taskError{"other:do_fetch"}
	}
	if *b.down {
		return errs.E(errs.Unavailable, "the disk is full")
	}
	return found
}

func (b *layerBuilder) Collect(context.Context, string) iter.Seq2[distro.Output, error] {
	return func(func(distro.Output, error) bool) {}
}

// TestBisectLayers searches commits of two repositories, by a builder like BitBake's:
// first the repository, then its commit. One commit between fails elsewhere.
func TestBisectLayers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	git := func(dir string, args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=Bo", "-c", "user.email=bo@example.org", "-c", "commit.gpgsign=false"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	repos := map[string]string{}
	commit := func(layer, n, broken string) {
		t.Helper()
		dir := repos[layer]
		if err := os.WriteFile(filepath.Join(dir, "meta", "n"), []byte(n+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if os.Remove(filepath.Join(dir, "meta", "broken")); broken != "" {
			if err := os.WriteFile(filepath.Join(dir, "meta", "broken"), []byte(broken+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		git(dir, "add", "-A")
		git(dir, "commit", "-qm", layer+" "+n)
	}
	for _, layer := range []string{"meta-a", "meta-b"} {
		repos[layer] = filepath.Join(t.TempDir(), layer)
		if err := os.MkdirAll(filepath.Join(repos[layer], "meta"), 0o755); err != nil {
			t.Fatal(err)
		}
		git(repos[layer], "init", "-q", "-b", "main")
		commit(layer, "0", "")
	}

	var built []string
	down, other := false, "none"
	w := &Workspace{Dir: t.TempDir(), Settings: &config.Settings{}, Command: "slipway bisect"}
	text := fmt.Sprintf(`schema: 1
distribution: halyard
series: {name: "1", released: 2026-12-01, security_support_ends: 2030-12-01, ends: 2031-12-01}
builder: {kind: bitbake, release: wrynose}
layers:
  - {name: meta-a, url: %q, branch: main, path: meta}
  - {name: meta-b, url: %q, branch: main, path: meta}
targets: [hello]
feeds: {base_url: "https://feeds.example.org/halyard"}
`, repos["meta-a"], repos["meta-b"])
	var err error
	if err := os.WriteFile(filepath.Join(w.Dir, "slipway.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if w.Definition, err = config.LoadDefinition(filepath.Join(w.Dir, "slipway.yaml")); err != nil {
		t.Fatal(err)
	}
	w.Settings.Publication = filepath.Join(w.Dir, "publication")
	at := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	w.Talk, w.Clock = silent{}, func() time.Time { at = at.Add(time.Second); return at }
	w.Builder = func(m Means) (Builder, error) { return &layerBuilder{built: &built, down: &down, other: other}, nil }
	w.Public = func() (map[string][]byte, error) { return map[string][]byte{}, nil }
	w.Keyring = func() (*keyring.Keyring, error) { return &keyring.Keyring{}, nil }
	w.Throwaway = func(now time.Time) (feed.Signer, error) {
		return sign.Generate(sign.Options{Name: "throw-away", Algorithm: sign.Ed25519, Created: now})
	}
	if w.State, err = state.Open(ctx, filepath.Join(w.Dir, ".slipway", "state.db"), w.Clock); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.State.Close() })
	if w.Blobs, err = store.OpenBlobs(filepath.Join(w.Dir, ".slipway", "store")); err != nil {
		t.Fatal(err)
	}
	if w.Tree, err = store.OpenTree(filepath.Join(w.Dir, "publication")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Make(ctx, ""); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"1", "2"} {
		commit("meta-a", n, "")
	}
	for _, n := range []string{"1", "2", "3", "4", "5", "6"} {
		commit("meta-b", n, map[string]string{"2": "hello:do_compile", "3": "other:do_fetch", "4": "hello:do_compile", "5": "hello:do_compile", "6": "hello:do_compile"}[n])
	}
	if _, err := w.Make(ctx, ""); err == nil {
		t.Fatal("it builds")
	}
	bad, err := w.Build(ctx, "1.1-b2")
	if err != nil || bad.Failure == nil || bad.Failure.Since != "1.1-c1" || len(bad.Failure.Commits) == 0 {
		t.Fatalf("%+v %v", bad.Failure, err)
	}
	before, err := w.State.List(ctx, kindBuild)
	if err != nil {
		t.Fatal(err)
	}

	// A fault of the machine decides nothing, and the same command goes on.
	built, down = nil, true
	if _, err := w.Bisect(ctx, BisectOptions{Bad: "1.1-b2"}); !errs.Is(err, errs.Unavailable) {
		t.Fatal(err)
	}
	down = false
	s, err := w.Bisect(ctx, BisectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s.First == nil || s.First.Subject != "meta-b 2" || !slices.Equal(s.First.Layers, []string{"meta-b"}) || s.First.Author != "Bo <bo@example.org>" || !slices.Equal(s.First.Files, []string{"A\tmeta/broken", "M\tmeta/n"}) {
		t.Errorf("%+v\n%+v", s.First, s)
	}
	// meta-a is at its bad end throughout; the state that fails elsewhere is passed over.
	// Which of two middles comes first is git's affair.
	if len(s.Trials) < 4 || len(s.Trials) > 5 || s.Trials[0].Outcome != TrialGood || s.Trials[1].Outcome != TrialSkipped || built[2] != "meta-a 2, meta-b 3" {
		t.Errorf("%q\n%+v", built, s.Trials)
	}
	for _, x := range built {
		if !strings.HasPrefix(x, "meta-a 2, ") {
			t.Errorf("built %q", built)
		}
	}
	after, err := w.State.List(ctx, kindBuild)
	if err != nil || len(after) != len(before) {
		t.Errorf("%d builds, before %d: %v", len(after), len(before), err)
	}
	if _, err := os.Stat(w.internal("bisect")); !os.IsNotExist(err) {
		t.Errorf("the folder of the trials stays: %v", err)
	}
	// Where no build can tell the commits apart, all of them are named.
	other = "2"
	s, err = w.Bisect(ctx, BisectOptions{Good: "1.1-c1", Bad: "1.1-b2"})
	var suspects []string
	for _, x := range s.Suspects {
		suspects = append(suspects, strings.TrimPrefix(x[len("meta-b ")+10:], " "))
	}
	slices.Sort(suspects)
	if want := []string{"meta-b 2", "meta-b 3", "meta-b 4"}; err != nil || s.First != nil || !slices.Equal(suspects, want) {
		t.Errorf("%q, want %q: %v", suspects, want, err)
	}
	if _, err := w.Bisect(ctx, BisectOptions{Good: "1.1-c1", Bad: "1.1-b2", Finding: "x/y"}); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
}
