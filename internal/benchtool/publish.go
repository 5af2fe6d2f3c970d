package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/feed"
	"slipway/internal/rpm"
	"slipway/internal/sign"
	"slipway/internal/store"
)

// The publication of these sections has a pool that is generated: what is read of
// a package that was there before is a header with its number put in, see
// generated. New packages are real files, signed and stored.

const bornVersion = "1.2.003" // as long as those that follow

// recipeSize is how many packages a recipe has: what changes together.
const recipeSize = 5

func numbered(serial int) string { return fmt.Sprintf("1.2.%03d", serial+2) }

// generated is a tree whose pool has any package that is asked for.
type generated struct {
	store.Tree
	template []byte // package 0, with no payload worth mentioning
}

type blob struct {
	*bytes.Reader
	size int64
}

func (b blob) Size() int64 { return b.size }
func (blob) Close() error  { return nil }

func (g generated) Open(ctx context.Context, name string) (store.Blob, error) {
	base := filepath.Base(name)
	if !strings.HasSuffix(base, "-"+bornVersion+"-"+release+"."+arch+".rpm") {
		return g.Tree.Open(ctx, name)
	}
	b := g.make(base[len("package-"):][:6])
	return blob{bytes.NewReader(b), int64(len(b))}, nil
}

func (g generated) Link(name, second string) (bool, error) {
	return store.LinkWithin(g.Tree, name, second)
}

func (g generated) CreateAll(ctx context.Context, files iter.Seq2[store.NewFile, error]) error {
	return store.CreateAll(ctx, g.Tree, files)
}

func (g generated) make(number string) []byte {
	return bytes.ReplaceAll(g.template, []byte("package-000000"), []byte("package-"+number))
}

func newGenerated(dir string) (generated, error) {
	tree, err := store.OpenTree(filepath.Join(dir, "publication"))
	if err != nil {
		return generated{}, err
	}
	template, err := os.ReadFile(filepath.Join(dir, fileName(0, bornVersion)))
	return generated{tree, template}, err
}

// makeWorld writes what do-publish needs into dir, and the digests of n packages.
func makeWorld(dir string, n int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil { // a key lies in it
		return err
	}
	key, err := sign.Generate(sign.Options{Name: "Bench", Created: benchStart})
	if err != nil {
		return err
	}
	if err := key.Save(filepath.Join(dir, "key")); err != nil {
		return err
	}
	if err := makePackage(dir, 0, bornVersion, 16); err != nil {
		return err
	}
	g, err := newGenerated(dir)
	if err != nil {
		return err
	}
	p, err := rpm.Read(bytes.NewReader(g.template), int64(len(g.template)), "template")
	if err != nil {
		return err
	}
	sums := make([]byte, 0, n*2*sha256.Size)
	for i := range n {
		b := g.make(fmt.Sprintf("%06d", i))
		file, header := sha256.Sum256(b), sha256.Sum256(b[p.HeaderStart:p.HeaderEnd])
		sums = append(append(sums, file[:]...), header[:]...)
	}
	return os.WriteFile(filepath.Join(dir, "sums"), sums, 0o644)
}

var benchStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// born gives the records of the packages that were there at first.
func born(dir string, size int64) ([]distro.PackageRecord, error) {
	sums, err := os.ReadFile(filepath.Join(dir, "sums"))
	if err != nil {
		return nil, err
	}
	out := make([]distro.PackageRecord, len(sums)/64)
	for i := range out {
		out[i] = record(i, bornVersion)
		out[i].Digest, out[i].HeaderDigest = distro.DigestFromSum(sums[i*64:][:32]), distro.DigestFromSum(sums[i*64+32:][:32])
		out[i].Size = size
	}
	return out, nil
}

func record(i int, version string) distro.PackageRecord {
	file := fileName(i, version)
	return distro.PackageRecord{Name: file[:len("package-000000")], Version: version, Release: release, Arch: arch, Scope: arch, SourceName: fmt.Sprintf("recipe-%06d", i/recipeSize), File: file}
}

// changing gives the packages that release serial brings: all of some recipes.
func changing(n, serial int) []int {
	var out []int
	recipes := more / recipeSize
	for r := range recipes {
		first := (r*(n/recipes) + serial*7*recipeSize) / recipeSize * recipeSize % n
		for j := range recipeSize {
			out = append(out, first+j)
		}
	}
	return out
}

// doPublish publishes release SERIAL in the world DIR, whose default index has
// the first INDEX packages: `do-publish DIR INDEX SERIAL`. Release 1 are those
// that are there; each later one brings new versions of 100, which lie in DIR.
func doPublish(ctx context.Context, args []string) error {
	dir := args[0]
	size, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	serial, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	g, err := newGenerated(dir)
	if err != nil {
		return err
	}
	key, err := sign.Load(filepath.Join(dir, "key"))
	if err != nil {
		return err
	}
	p := &feed.Publisher{Tree: g, Layout: feed.Layout{Series: "1"}, Distribution: "bench", Title: "Bench", Package: key, Metadata: key, Scopes: []string{arch}, Cache: filepath.Join(dir, "cache")}
	at := benchStart.Add(time.Duration(serial) * time.Hour)
	e := feed.Edition{Serial: serial, Release: distro.NewVersion("1", serial), At: at, Base: serial - 1}
	if serial > 1 {
		e.New, err = brought(dir, serial)
		if os.IsNotExist(err) {
			e.New, err = publishNew(ctx, p, dir, size, serial, at)
		}
		if err != nil {
			return err
		}
	}
	e.Lists = func(ctx context.Context) (index, history []distro.PackageRecord, err error) {
		if history, err = born(dir, int64(len(g.template))); err != nil {
			return nil, nil, err
		}
		index = append(make([]distro.PackageRecord, 0, size), history[:size]...)
		for s := 2; s <= serial; s++ {
			fresh, err := brought(dir, s)
			if err != nil {
				return nil, nil, err
			}
			history = append(history, feed.InOrder(fresh)...)
			for i, k := range changing(size, s) {
				index[k] = fresh[i]
			}
		}
		return index, history, nil
	}
	if err := p.WriteKeys(ctx); err != nil {
		return err
	}
	s, err := p.WriteSnapshot(ctx, e)
	if err != nil {
		return err
	}
	return p.Switch(ctx, e, s)
}

// brought gives the packages that a release brought.
func brought(dir string, serial int) (fresh []distro.PackageRecord, err error) {
	b, err := os.ReadFile(filepath.Join(dir, fmt.Sprint("records-", serial)))
	if err == nil {
		err = json.Unmarshal(b, &fresh)
	}
	return fresh, err
}

// publishNew signs and stores the packages of a release.
func publishNew(ctx context.Context, p *feed.Publisher, dir string, size, serial int, at time.Time) ([]distro.PackageRecord, error) {
	b, err := os.ReadFile(filepath.Join(dir, fmt.Sprint("fresh-", serial)))
	if err != nil {
		return nil, err
	}
	var records []distro.PackageRecord
	if err := json.Unmarshal(b, &records); err != nil {
		return nil, err
	}
	list := make([]feed.Unsigned, len(records))
	blobs := store.ReadTree(dir)
	for i, r := range records {
		list[i] = feed.Unsigned{Record: r, Open: func(ctx context.Context) (store.Blob, error) { return blobs.Open(ctx, r.File) }}
	}
	out, err := p.AddPackages(ctx, list, at)
	if err != nil {
		return nil, err
	}
	b, err = json.Marshal(out)
	if err != nil {
		return nil, err
	}
	return out, os.WriteFile(filepath.Join(dir, fmt.Sprint("records-", serial)), b, 0o644)
}

// world makes a publication of n packages, the first size of them in the default
// index, and measures its releases: the first, so many with 100 new packages,
// and the last one again.
func (b *bench) world(ctx context.Context, n, size int) (first, added, same result, err error) {
	dir := filepath.Join(b.dir, fmt.Sprintf("world-%d-%d", n, size))
	defer os.RemoveAll(dir)
	if err = makeWorld(dir, n); err != nil {
		return
	}
	serial := 1
	publish := func(name string) job {
		return job{name: name, args: []string{b.self, "do-publish", dir, fmt.Sprint(size), fmt.Sprint(serial)}, count: n}
	}
	one := func(to *result, j job) error {
		r, err := compare(ctx, 1, j)
		if err == nil {
			to.job, to.cpu, to.memory = j, append(to.cpu, r[0].cpu...), max(to.memory, r[0].memory)
			slices.Sort(to.cpu)
		}
		return err
	}
	if err = one(&first, publish("from nothing")); err != nil {
		return
	}
	for range b.runs {
		serial++
		if err = makeFresh(dir, size, serial); err != nil {
			return
		}
		if err = one(&added, publish(fmt.Sprintf("%d new", more))); err != nil {
			return
		}
	}
	for range b.runs {
		if err = one(&same, publish("the same again")); err != nil {
			return
		}
	}
	err = b.checkWorld(ctx, dir, size, n+more*b.runs)
	return
}

// makeFresh makes the packages that a release brings, and their records, as a build
// leaves both.
func makeFresh(dir string, size, serial int) error {
	var out []distro.PackageRecord
	for _, i := range changing(size, serial) {
		if err := makePackage(dir, i, numbered(serial), 64); err != nil {
			return err
		}
		r := record(i, numbered(serial))
		p, err := rpm.ReadFile(filepath.Join(dir, r.File))
		if err != nil {
			return err
		}
		r.Digest, r.Size, r.HeaderDigest = p.Digest, p.Size, p.HeaderDigest
		out = append(out, r)
	}
	b, err := json.Marshal(out)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, fmt.Sprint("fresh-", serial)), b, 0o644)
}

// checkWorld reads both indexes with every check.
func (b *bench) checkWorld(ctx context.Context, dir string, size, n int) error {
	tree := store.ReadTree(filepath.Join(dir, "publication"))
	for name, want := range map[string]int{"1/current/" + arch: size, "1/history/" + arch: n} {
		got, err := countPackages(func(file string) (io.ReadCloser, error) { return tree.Open(ctx, name+"/"+file) })
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s has %d packages, there are %d", name, got, want)
		}
	}
	return nil
}
