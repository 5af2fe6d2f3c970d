package feed

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"slipway/internal/distro"
	"slipway/internal/rpmmd"
	"slipway/internal/sign"
	"slipway/internal/store"
	"slipway/internal/timestamp"
)

// fetcher refreshes as a careful client does, and checks every digest.
type fetcher struct {
	tree    store.Tree
	keys    []*sign.Public
	serial  int // seen last
	again   int // pairs of file and signature that were read again
	fetched int // packages
}

// signed reads a switched file and its signature, which may belong to two sides of
// a switch: then both are read again.
func (f *fetcher) signed(ctx context.Context, name string) ([]byte, error) {
	var last error
	for range 3 {
		b, err := ReadFile(ctx, f.tree, name)
		if err != nil {
			return nil, err
		}
		armored, err := ReadFile(ctx, f.tree, name+".asc")
		if err != nil {
			return nil, err
		}
		sig, err := sign.Dearmor(armored)
		if err == nil {
			_, err = sign.Verify(f.keys, bytes.NewReader(b), sig)
		}
		if err == nil {
			return b, nil
		}
		last = err
		f.again++
	}
	return nil, fmt.Errorf("%s: %w", name, last)
}

// refresh follows the signed pointer to packages, then the feed current as dnf
// does, and compares that one with the snapshot that its revision names.
func (f *fetcher) refresh(ctx context.Context) error {
	b, err := f.signed(ctx, "1/timestamp.json")
	if err != nil {
		return err
	}
	p, err := timestamp.Parse(b)
	if err != nil {
		return err
	}
	if p.Serial < f.serial {
		return fmt.Errorf("serial %d after %d", p.Serial, f.serial)
	}
	f.serial = p.Serial
	l := Layout{"1"}
	b, err = f.signed(ctx, l.Snapshot(p.Serial)+"/snapshot.json")
	if err != nil {
		return err
	}
	if distro.DigestOf(b) != p.Snapshot {
		return fmt.Errorf("snapshot %d is not the one of the pointer", p.Serial)
	}
	s, err := timestamp.ParseSnapshot(b)
	if err != nil {
		return err
	}
	for _, x := range s.Feeds {
		list, _, err := f.index(ctx, path.Join(l.Snapshot(p.Serial), x.Scope), x.Repomd)
		if err != nil {
			return err
		}
		if len(list) != x.Packages {
			return fmt.Errorf("snapshot %d has %d packages, says %d", p.Serial, len(list), x.Packages)
		}
		for range 2 {
			pkg := list[rand.IntN(len(list))]
			if err := f.pkg(ctx, path.Join(l.Snapshot(p.Serial), x.Scope, pkg.Href), pkg); err != nil {
				return err
			}
		}
		now, revision, err := f.index(ctx, l.Current(x.Scope), "")
		if err != nil {
			return err
		}
		then, _, err := f.index(ctx, fmt.Sprintf("1/snapshots/%s/%s", revision, x.Scope), "")
		if err != nil {
			return err
		}
		same := func(a, b *rpmmd.PrimaryPackage) bool { return a.Checksum == b.Checksum && a.NEVRA() == b.NEVRA() }
		if !slices.EqualFunc(now, then, same) {
			return fmt.Errorf("current says revision %s, and has other packages than that snapshot", revision)
		}
		pkg := now[rand.IntN(len(now))]
		if err := f.pkg(ctx, path.Join(l.Current(x.Scope), pkg.Href), pkg); err != nil {
			return err
		}
	}
	return nil
}

func (f *fetcher) index(ctx context.Context, folder string, want distro.Digest) ([]*rpmmd.PrimaryPackage, string, error) {
	b, err := f.signed(ctx, folder+"/repodata/repomd.xml")
	if err != nil {
		return nil, "", err
	}
	if want != "" && distro.DigestOf(b) != want {
		return nil, "", fmt.Errorf("%s: repomd.xml is not the one of the snapshot", folder)
	}
	md, err := rpmmd.ReadRepomd(b)
	if err != nil {
		return nil, "", err
	}
	list, err := primaryOf(ctx, f.tree, folder, md)
	return list, md.Revision, err
}

func (f *fetcher) pkg(ctx context.Context, name string, p *rpmmd.PrimaryPackage) error {
	file, err := f.tree.Open(ctx, name)
	if err != nil {
		return err
	}
	defer file.Close()
	got, err := store.Hash(file)
	if err == nil && (string(got) != p.Checksum.String() || file.Size() != p.Size) {
		err = fmt.Errorf("%s: %s of %d bytes, the index says %s of %d", name, got, file.Size(), p.Checksum, p.Size)
	}
	f.fetched++
	return err
}

// TestRefreshesWhilePublishing: clients refresh over loopback HTTP while release
// after release is published into the same tree. No refresh fails, none sees a mix.
func TestRefreshesWhilePublishing(t *testing.T) {
	refreshes, dnfs := 300, 5
	if os.Getenv("SLIPWAY_TEST") == "full" {
		refreshes, dnfs = 10_000, 200
	}
	if _, err := exec.LookPath("dnf"); err != nil {
		t.Fatal("dnf is not installed: apt install dnf")
	}
	b := setup(t)
	server := httptest.NewServer(http.FileServer(http.Dir(b.dir)))
	t.Cleanup(server.Close)
	b.p.Cache = t.TempDir()
	name := func(n int) string { return fmt.Sprintf("p%02d", n%20) }
	var first [][3]string
	for n := range 20 {
		first = append(first, [3]string{name(n), "1.0", "one"})
	}
	b.release(1, first...)

	trust := b.trust()
	tree, err := Open(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	const clients = 4
	var left atomic.Int64
	left.Store(int64(refreshes))
	var published atomic.Int64
	const enough = 5 // serials, below which a slow machine has shown nothing
	errors := make(chan error, clients+1)
	fetchers := make([]fetcher, clients)
	var wg sync.WaitGroup
	for i := range fetchers {
		f := &fetchers[i]
		f.tree, f.keys = tree, trust.Metadata
		wg.Go(func() {
			for left.Add(-1) >= 0 || published.Load() < enough {
				if err := f.refresh(t.Context()); err != nil {
					errors <- fmt.Errorf("serial %d: %w", f.serial, err)
					return
				}
			}
		})
	}
	dir := t.TempDir()
	refused := 0
	wg.Go(func() {
		for n := range dnfs {
			err := dnfRefresh(t.Context(), dir, server.URL, b.key.PublicArmored(), name(n))
			// It read the file before a switch and its signature after it: see swapSigned.
			for again := 0; err != nil && strings.Contains(err.Error(), "Bad GPG signature") && again < 3; again++ {
				refused++
				err = dnfRefresh(t.Context(), dir, server.URL, b.key.PublicArmored(), name(n))
			}
			if err != nil {
				errors <- fmt.Errorf("dnf, run %d: %w", n+1, err)
				return
			}
		}
	})
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	serial := 1
	for done := false; !done; {
		select {
		case <-ended:
			done = true
		default:
			if serial < 400 { // with every serial the tree and its history grow
				serial++
				b.release(serial, [3]string{name(serial), fmt.Sprintf("1.%d", serial), "x"}, [3]string{name(serial * 7), fmt.Sprintf("1.%d.1", serial), "y"})
				published.Store(int64(serial))
			} else {
				<-ended
			}
		}
	}
	close(errors)
	for err := range errors {
		t.Error(err)
	}
	again, fetched := 0, 0
	for _, f := range fetchers {
		again, fetched = again+f.again, fetched+f.fetched
	}
	t.Logf("%d refreshes by %d clients, %d packages fetched, %d runs of dnf, while %d serials were published; %d pairs of file and signature were of two sides of a switch, and read again, %d of them by dnf", refreshes, clients, fetched, dnfs, serial, again, refused)
	if serial < enough {
		t.Errorf("only %d serials were published meanwhile", serial)
	}
	b.sound("after the race")
}

// dnfRefresh refreshes the metadata of current with both checks on and downloads a
// package.
func dnfRefresh(ctx context.Context, dir, url string, key []byte, name string) error {
	repos := filepath.Join(dir, "repos")
	if err := os.MkdirAll(repos, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "key.asc"), key, 0o644); err != nil {
		return err
	}
	text := RepoFile(RepoOptions{Distribution: "test", Title: "Test", Series: "1", Scopes: []string{"noarch"}, URL: url, Snapshot: "current", Keys: []string{"file://" + dir + "/key.asc"}})
	if err := os.WriteFile(filepath.Join(repos, "test.repo"), []byte(text), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "dnf.conf"), []byte("[main]\n"), 0o644); err != nil {
		return err
	}
	downloads := filepath.Join(dir, "downloads")
	if err := os.RemoveAll(downloads); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "dnf", "-y", "--config="+filepath.Join(dir, "dnf.conf"), "--installroot="+filepath.Join(dir, "root"), "--releasever=1", "--refresh", "--setopt=reposdir="+repos, "--setopt=cachedir="+filepath.Join(dir, "cache"),
		"--setopt=retries=1", "--setopt=plugins=0", "--setopt=keepcache=0", "--downloadonly", "--downloaddir="+downloads, "install", name)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(downloads, name+"-*.rpm"))
	if err == nil && len(files) != 1 || strings.Contains(string(out), "Error") {
		err = fmt.Errorf("%d files were downloaded\n%s", len(files), out)
	}
	return err
}
