package examples_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"

	"slipway/examples"
	"slipway/internal/debian"
	"slipway/internal/distro"
	"slipway/internal/rpmbuild"
)

func TestMain(m *testing.M) {
	for _, t := range [][2]string{{"rpmbuild", "rpm"}, {"bwrap", "bubblewrap"}, {"gcc", "gcc libc6-dev"}, {"dnf", "dnf"}, {"createrepo_c", "createrepo-c"}} {
		if _, err := exec.LookPath(t[0]); err != nil {
			fmt.Fprintf(os.Stderr, "these tests start %s: apt-get install %s\n", t[0], t[1])
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

type numbers struct {
	mu   sync.Mutex
	last map[distro.NumberKey]int
}

func (n *numbers) Next(_ context.Context, _ distro.BuildID, k distro.NumberKey) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last[k]++
	return n.last[k], nil
}

// workspace is a checkout that goes from revision to revision, and the feed of
// everything built.
type workspace struct {
	t       *testing.T
	dir     string
	feeds   string // one repository a revision
	builder *rpmbuild.Builder
	seed    distro.Seed
	pins    []distro.SourcePin
}

func setup(t *testing.T) *workspace {
	t.Helper()
	w := &workspace{t: t, dir: t.TempDir(), feeds: t.TempDir()}
	w.builder = rpmbuild.New(rpmbuild.Options{Numbers: &numbers{last: map[distro.NumberKey]int{}}})
	w.seed = distro.Seed{Title: "Halyard Linux", Sources: t.TempDir(), FeedConfig: t.TempDir(),
		Layers: map[string]string{"halyard": filepath.Join(w.dir, "layers/halyard")}}
	for name, text := range map[string]string{
		"halyard.repo":                "[halyard-noarch]\nname=Halyard\nbaseurl=$slipway_url/1/$slipway_snapshot/noarch\ngpgcheck=1\nrepo_gpgcheck=1\n",
		"RPM-GPG-KEY-halyard-package": "-----BEGIN PGP PUBLIC KEY BLOCK-----\n",
		"vars/slipway_url":            "https://feeds.example.org/halyard\n",
		"vars/slipway_snapshot":       "current\n",
	} {
		write(t, filepath.Join(w.seed.FeedConfig, name), []byte(text))
	}
	return w
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// apply writes a revision's files and, at first, takes the sources from the host.
func (w *workspace) apply(r examples.Revision) {
	w.t.Helper()
	for name, data := range r.Files {
		write(w.t, filepath.Join(w.dir, name), data)
	}
	if w.pins != nil {
		return
	}
	sources, err := rpmbuild.ReadSources(w.seed.Layers["halyard"])
	if err != nil {
		w.t.Fatal(err)
	}
	var wanted []debian.Wanted
	for _, s := range sources {
		wanted = append(wanted, debian.Wanted(s))
	}
	w.pins, err = debian.Resolve(w.t.Context(), wanted, func(r io.Reader) (distro.Digest, int64, error) {
		data, err := io.ReadAll(r)
		sum := sha256.Sum256(data)
		write(w.t, filepath.Join(w.seed.Sources, distro.DigestFromSum(sum[:]).Hex()), data)
		return distro.DigestFromSum(sum[:]), int64(len(data)), err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// build makes release n and its feed, and gives "name-version-release" of each
// package, with "=" before the kept ones.
func (w *workspace) build(n int) string {
	w.t.Helper()
	w.seed.Version = distro.NewVersion("1", n)
	w.seed.Build = distro.NewBuildID(w.seed.Version, 1)
	rev := distro.Revision{Schema: 1, Distribution: "halyard", Series: "1", Layers: []distro.LayerPin{{Name: "halyard", Path: "layers/halyard"}}, Sources: w.pins}
	dir := w.t.TempDir()
	if err := w.builder.Prepare(w.t.Context(), rev, w.seed, dir); err != nil {
		w.t.Fatal(err)
	}
	if err := w.builder.Build(w.t.Context(), dir, nil); err != nil {
		w.t.Fatal(err)
	}
	feed := filepath.Join(w.feeds, fmt.Sprint(n))
	if n > 1 {
		run(w.t, "cp", "-a", filepath.Join(w.feeds, fmt.Sprint(n-1)), feed)
	} else if err := os.Mkdir(feed, 0o755); err != nil {
		w.t.Fatal(err)
	}
	var names []string
	var records []distro.PackageRecord
	for o, err := range w.builder.Collect(w.t.Context(), dir) {
		if err != nil {
			w.t.Fatal(err)
		}
		if o.Class == distro.PRDatabase {
			w.seed.Numbers = rows(w.t, o.Path)
		}
		if o.Package == nil {
			continue
		}
		records = append(records, *o.Package)
		if o.Package.Kept {
			names = append(names, "="+o.Package.Name)
			continue
		}
		names = append(names, o.Package.Name+"-"+o.Package.EVR())
		run(w.t, "cp", o.Path, feed)
	}
	w.seed.Packages = records
	run(w.t, "createrepo_c", "-q", feed)
	sort.Strings(names)
	return strings.Join(names, " ")
}

func run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := try(t, argv...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return out
}

func try(t *testing.T, argv ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}
