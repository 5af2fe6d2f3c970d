package boards_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/internal/check"
	"slipway/internal/compose"
	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/feed"
	"slipway/internal/sign"
	"slipway/internal/store"
)

const board, machine = "qemux86-64", "qemux86_64"

var (
	deviceScopes = []string{"noarch", feed.ArchVariable, feed.MachineVariable}
	date         = time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
)

func newKey(t *testing.T) *sign.Key {
	t.Helper()
	key, err := sign.Generate(sign.Options{Name: "Halyard Linux, a test", Created: date.AddDate(-1, 0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// mine picks what a device of the board can have.
func mine(all []distro.PackageRecord) []distro.PackageRecord {
	var out []distro.PackageRecord
	for _, p := range check.Binary(all) {
		if p.Scope == "noarch" || p.Scope == "x86_64" || p.Scope == machine {
			out = append(out, p)
		}
	}
	return out
}

// published is a signed feed with a snapshot for each release.
type published struct {
	dir     string
	keys    []string                 // files
	records [][]distro.PackageRecord // what each snapshot offers to the board
}

// feed gives what a device reads that stays at a snapshot.
func (p published) feed(serial int) check.Feed {
	f := check.Feed{Vars: map[string]string{"slipway_url": "file://" + p.dir, "slipway_snapshot": "snapshots/" + strconv.Itoa(serial), "slipway_arch": "x86_64", "slipway_machine": machine}}
	for _, s := range deviceScopes {
		f.Repos = append(f.Repos, dnf.Repo{ID: "halyard-" + strings.TrimPrefix(s, "$slipway_"), Name: s, Enabled: true, GPGKeys: p.keys, BaseURL: "$slipway_url/1/$slipway_snapshot/" + s})
	}
	return f
}

// publish signs the releases that were built, for the board.
func (w *workspace) publish(key *sign.Key) published {
	w.t.Helper()
	out := published{dir: w.t.TempDir(), keys: []string{filepath.Join(w.t.TempDir(), "key.asc")}}
	write(w.t, out.keys[0], key.PublicArmored())
	tree, err := store.OpenTree(out.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &feed.Publisher{Tree: tree, Layout: feed.Layout{Series: "1"}, Distribution: "halyard", Title: "Halyard Linux", Package: key, Metadata: key, Scopes: []string{"noarch", "x86_64", machine},
		Support: feed.Support{SecuritySupportEnds: "2130-12-01", Ends: "2131-12-01"}}
	var all []distro.PackageRecord
	for i, list := range w.lists {
		for _, r := range mine(list) {
			if r.Kept {
				continue
			}
			f, err := os.Open(filepath.Join(w.feeds, strconv.Itoa(i+1), r.File))
			if err != nil {
				w.t.Fatal(err)
			}
			st, _ := f.Stat()
			signed, err := p.AddPackage(w.t.Context(), r, f, st.Size(), date)
			_ = f.Close()
			if err != nil {
				w.t.Fatal(err)
			}
			all = append(all, signed)
		}
		index := feed.Newest(all)
		e := feed.Edition{Serial: i + 1, Release: distro.NewVersion("1", i+1), At: date, Index: index, History: all}
		s, err := p.WriteSnapshot(w.t.Context(), e)
		if err == nil {
			err = p.Switch(w.t.Context(), e, s)
		}
		if err != nil {
			w.t.Fatal(err)
		}
		out.records = append(out.records, index)
	}
	// A device's clock is this machine's: the pointer must not have expired.
	if _, err := p.RefreshTimestamp(w.t.Context(), len(w.lists), time.Now()); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// image makes an image of the first release, as its file in the layer says.
func (w *workspace) image(p published, name string) string {
	w.t.Helper()
	file, err := config.LoadImage(filepath.Join(w.seed.Layers["halyard-self-update"], "images", name+".yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	tool, err := dnf.Find(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	f := p.feed(1)
	root, err := tool.NewRoot(w.t.Context(), filepath.Join(w.t.TempDir(), name), dnf.Options{Repos: f.Repos, Vars: f.Vars, MachineArch: machine})
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = root.Remove() }()
	if _, err := root.Install(w.t.Context(), file.Packages...); err != nil {
		w.t.Fatal(err)
	}
	if err := compose.Clean(w.t.Context(), root.Path(), date); err != nil {
		w.t.Fatal(err)
	}
	out := filepath.Join(w.t.TempDir(), name+".img")
	if err := compose.Disk(w.t.Context(), root.Path(), out, compose.DiskOptions{Size: file.Size.Bytes(), Seed: distro.DigestOf([]byte(name)), Date: date, Arch: "x86_64"}); err != nil {
		w.t.Fatal(err)
	}
	return out
}
