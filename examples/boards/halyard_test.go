package boards_test

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
	"slipway/internal/feed"
	"slipway/internal/rpmbuild"
	"slipway/internal/sign"
)

func TestMain(m *testing.M) {
	for _, t := range [][2]string{{"rpmbuild", "rpm"}, {"bwrap", "bubblewrap"}, {"gcc", "gcc libc6-dev"}, {"aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"},
		{"busybox", "busybox-static"}, {"cpio", "cpio"}, {"dnf", "dnf"}, {"createrepo_c", "createrepo-c"},
		{"mke2fs", "e2fsprogs"}, {"qemu-system-x86_64", "qemu-system-x86"}} {
		if _, err := exec.LookPath(t[0]); err != nil {
			fmt.Fprintf(os.Stderr, "these tests start %s: apt-get install %s\n", t[0], t[1])
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

var (
	arches = []string{"x86_64", "aarch64"}
	layers = []distro.LayerPin{{Name: "halyard", Path: "layers/halyard"}, {Name: "halyard-self-update", Path: "layers/halyard-self-update"}}
)

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
	key     *sign.Key                // signs what is published
	lists   [][]distro.PackageRecord // of each release, kept packages included
}

func setup(t *testing.T) *workspace {
	t.Helper()
	w := &workspace{t: t, dir: t.TempDir(), feeds: t.TempDir()}
	w.builder = rpmbuild.New(rpmbuild.Options{Numbers: &numbers{last: map[distro.NumberKey]int{}}, Arches: arches})
	w.seed = distro.Seed{Title: "Halyard Linux", Boards: []distro.Board{{Name: "qemux86-64", Arch: "x86_64"}, {Name: "qemuarm64", Arch: "aarch64"}}, Sources: t.TempDir(), FeedConfig: t.TempDir(),
		Layers: map[string]string{}}
	for _, l := range layers {
		w.seed.Layers[l.Name] = filepath.Join(w.dir, l.Path)
	}
	w.key = newKey(t)
	keys := map[string][]byte{"package": w.key.PublicArmored(), "metadata": w.key.PublicArmored()}
	for name, data := range feed.Configuration("halyard", "Halyard Linux", "1", "https://feeds.example.org/halyard", deviceScopes, keys) {
		write(t, filepath.Join(w.seed.FeedConfig, name), data)
	}
	return w
}

// addDevice builds slipway-device as make does, and puts it into the layer.
func addDevice(t *testing.T, revisions []examples.Revision) {
	t.Helper()
	dir := t.TempDir()
	for _, arch := range examples.DeviceArches {
		run(t, "env", "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "go", "build", "-trimpath", "-buildvcs=false", "-tags", "nethttpomithttp2", "-ldflags", "-s -w",
			"-o", filepath.Join(dir, "slipway-device-"+arch), "slipway/cmd/slipway-device")
	}
	if there, err := examples.AddDevice(revisions, dir); !there || err != nil {
		t.Fatal(there, err)
	}
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
	var wanted []debian.Wanted
	for _, l := range layers {
		sources, err := rpmbuild.ReadSources(w.seed.Layers[l.Name])
		if err != nil {
			w.t.Fatal(err)
		}
		for _, s := range sources {
			wanted = append(wanted, debian.Wanted(s))
		}
	}
	var missing []debian.Missing
	var err error
	w.pins, missing, err = debian.ResolveFor(w.t.Context(), wanted, debian.Options{Arches: arches}, func(r io.Reader) (distro.Digest, int64, error) {
		data, err := io.ReadAll(r)
		sum := sha256.Sum256(data)
		write(w.t, filepath.Join(w.seed.Sources, distro.DigestFromSum(sum[:]).Hex()), data)
		return distro.DigestFromSum(sum[:]), int64(len(data)), err
	})
	if err != nil || len(missing) > 0 {
		w.t.Fatal(err, missing)
	}
}

// build makes release n and its feed, and gives "name-version-release.arch" of
// each package that is new, and the names of those that were kept.
func (w *workspace) build(n int) (fresh, kept []string) {
	w.t.Helper()
	w.seed.Version = distro.NewVersion("1", n)
	w.seed.Build = distro.NewBuildID(w.seed.Version, 1)
	rev := distro.Revision{Schema: 1, Distribution: "halyard", Series: "1", Layers: layers, Sources: w.pins}
	dir := w.t.TempDir()
	if err := w.builder.Prepare(w.t.Context(), rev, w.seed, dir); err != nil {
		w.t.Fatal(err)
	}
	if err := w.builder.Build(w.t.Context(), dir, nil); err != nil {
		w.t.Fatal(err)
	}
	repo := filepath.Join(w.feeds, fmt.Sprint(n))
	if n > 1 {
		run(w.t, "cp", "-a", filepath.Join(w.feeds, fmt.Sprint(n-1)), repo)
	} else if err := os.Mkdir(repo, 0o755); err != nil {
		w.t.Fatal(err)
	}
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
			kept = append(kept, o.Package.Name+"."+o.Package.Scope)
			continue
		}
		fresh = append(fresh, o.Package.Name+"-"+o.Package.EVR()+"."+o.Package.Scope)
		run(w.t, "cp", o.Path, repo)
	}
	w.seed.Packages = records
	w.lists = append(w.lists, records)
	run(w.t, "createrepo_c", "-q", repo)
	sort.Strings(fresh)
	sort.Strings(kept)
	return fresh, kept
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
