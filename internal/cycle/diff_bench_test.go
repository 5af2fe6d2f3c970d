package cycle

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/rpmpack"

	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/state"
	"slipway/internal/store"
)

// oneOfFew opens one of a few files, whatever the name.
type oneOfFew struct {
	store.Tree
	files []string
	n     int
}

type opened struct {
	*os.File
	size int64
}

func (o opened) Size() int64 { return o.size }

func (t *oneOfFew) Open(context.Context, string) (store.Blob, error) {
	t.n++
	f, err := os.Open(t.files[t.n%len(t.files)])
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	return opened{f, st.Size()}, err
}

// BenchmarkDiff compares two releases of 50,000 packages: 2,000 of them changed, then
// all. Packages have 16 files and 20 dependencies.
func BenchmarkDiff(b *testing.B) {
	if os.Getenv("BENCH_GATE") == "" {
		b.Skip("SKIPPED: BENCH_GATE=20 asks for it (scripts/bench.d/71-gate)")
	}
	const packages = 50000
	dir := b.TempDir()
	tree := &oneOfFew{}
	for i := range 200 {
		p, err := rpmpack.NewRPM(rpmpack.RPMMetaData{Name: fmt.Sprintf("p%d", i), Version: "1", Release: "1", Arch: "x86_64"})
		if err != nil {
			b.Fatal(err)
		}
		for f := range 16 {
			p.AddFile(rpmpack.RPMFile{Name: fmt.Sprintf("/usr/share/p%d/a-file-of-some-name-%d", i, f), Body: []byte{byte(i)}, Mode: 0o100644, Owner: "root", Group: "root"})
		}
		for d := range 20 {
			if err := p.Requires.Set(fmt.Sprintf("something-needed-%d >= 1.%d", d, i)); err != nil {
				b.Fatal(err)
			}
		}
		path := filepath.Join(dir, fmt.Sprintf("%d.rpm", i))
		w, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		if err := p.Write(w); err != nil {
			b.Fatal(err)
		}
		w.Close()
		tree.files = append(tree.files, path)
	}
	for _, changed := range []int{2000, packages} {
		b.Run(fmt.Sprint(changed), func(b *testing.B) {
			s, err := state.Open(b.Context(), filepath.Join(b.TempDir(), "state.db"), time.Now)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			w := &Workspace{Dir: dir, Definition: &config.Definition{Series: config.Series{Name: "1"}}, Parts: Parts{State: s, Tree: tree, Clock: time.Now}}
			for n := 1; n <= 2; n++ {
				r := Release{Version: distro.NewVersion("1", n), Series: "1", Status: distro.Published, Published: time.Now()}
				for i := range packages {
					v := 1
					if i < changed {
						v = n
					}
					name := fmt.Sprintf("package-%05d", i)
					r.Packages = append(r.Packages, distro.PackageRecord{Name: name, Version: fmt.Sprint(v), Release: "1", Arch: "x86_64", Scope: "x86_64", SourceName: name, File: fmt.Sprintf("%s-%d.rpm", name, v),
						HeaderDigest: distro.DigestOf([]byte(fmt.Sprint(name, v))), Digest: distro.DigestOf([]byte(fmt.Sprint(v, name))), Content: distro.DigestOf([]byte(fmt.Sprint(name, v, "c"))), Kept: v < n})
				}
				if err := s.Apply(b.Context(), []state.Put{{Kind: kindRelease, ID: string(r.Version), Data: r}}, nil); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				var before, after syscall.Rusage
				if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
					b.Fatal(err)
				}
				d, err := w.Diff(b.Context(), "1.1", "1.2")
				if err != nil || len(d.Packages) != changed || d.Same != packages-changed {
					b.Fatalf("%v: %d changed, %d the same", err, len(d.Packages), d.Same)
				}
				if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano())/1e9, "cpu-s/diff")
			}
		})
	}
}
