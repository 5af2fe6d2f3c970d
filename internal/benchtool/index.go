package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"slipway/internal/rpmmd"
)

// more is how many packages are new in the sections on what is new.
const more = 100

// peer is the createrepo_c to measure beside: SLIPWAY_TEST_CREATEREPO_C, or
// Debian's.
func peer(ctx context.Context) (program, version, compress string, err error) {
	if program = os.Getenv("SLIPWAY_TEST_CREATEREPO_C"); program == "" {
		program = "createrepo_c"
	}
	text, err := output(ctx, "createrepo-c", program, "--version")
	if err != nil {
		return "", "", "", err
	}
	version = strings.Fields(strings.TrimPrefix(text, "Version: "))[0]
	compress = "zstd"
	if strings.HasPrefix(version, "0.") {
		compress = "gz" // it cannot write zstd
	}
	return program, version, compress, nil
}

// index: slipway feed index of a folder, beside createrepo_c.
func (b *bench) index(ctx context.Context) error {
	program, version, compress, err := peer(ctx)
	if err != nil {
		return err
	}
	slipway, err := filepath.Abs(b.slipway)
	if err != nil {
		return err
	}
	ours, theirs := filepath.Join(b.dir, "ours"), filepath.Join(b.dir, "theirs")
	if err := os.Mkdir(ours, 0o755); err != nil {
		return err
	}
	if err := makeSmall(ours, 0, b.n+more*b.runs); err != nil {
		return err
	}
	// The same files, by hard link: what one reads is in the cache for the other.
	link := func(from, to int) error {
		for i := from; i < to; i++ {
			if err := os.Link(filepath.Join(ours, packageName(i)), filepath.Join(theirs, packageName(i))); err != nil {
				return err
			}
		}
		return nil
	}
	stash := filepath.Join(b.dir, "stash")
	for _, dir := range []string{theirs, stash} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	for i := b.n; i < b.n+more*b.runs; i++ {
		if err := os.Rename(filepath.Join(ours, packageName(i)), filepath.Join(stash, packageName(i))); err != nil {
			return err
		}
	}
	if err := link(0, b.n); err != nil {
		return err
	}
	ourJob := func(name string) job {
		return job{name: "slipway feed index" + name, args: []string{slipway, "-q", "feed", "index", ours}, count: b.n}
	}
	theirJob := func(name string, args ...string) job {
		return job{name: "createrepo_c " + version + name, args: append([]string{program, "--quiet", "--no-database", "--general-compress-type=" + compress}, append(args, theirs)...), count: b.n}
	}
	clean := func(dir string) func() error {
		return func() error { return os.RemoveAll(filepath.Join(dir, "repodata")) }
	}
	a, z := ourJob(", from nothing"), theirJob(", from nothing")
	a.prepare, z.prepare = clean(ours), clean(theirs)
	full, err := compare(ctx, b.runs, a, z)
	if err != nil {
		return err
	}
	size := b.n
	grow := func(dir string) error {
		for i := size; i < size+more; i++ {
			if err := os.Link(filepath.Join(stash, packageName(i)), filepath.Join(dir, packageName(i))); err != nil {
				return err
			}
		}
		return nil
	}
	a, z = ourJob(fmt.Sprintf(", %d new", more)), theirJob(fmt.Sprintf(" --update, %d new", more), "--update")
	a.prepare = func() error { return grow(ours) }
	z.prepare = func() error { err := grow(theirs); size += more; return err }
	added, err := compare(ctx, b.runs, a, z)
	if err != nil {
		return err
	}
	same, err := compare(ctx, b.runs, ourJob(", nothing new"), theirJob(" --update, nothing new", "--update"))
	if err != nil {
		return err
	}
	for _, dir := range []string{ours, theirs} {
		repo, err := rpmmd.ReadRepo(func(name string) (io.ReadCloser, error) { return os.Open(filepath.Join(dir, name)) })
		if err != nil {
			return err
		}
		if len(repo.Primary) != size || len(repo.Filelists) != size || len(repo.Other) != size {
			return fmt.Errorf("%s has %d packages, there are %d", dir, len(repo.Primary), size)
		}
	}
	fmt.Fprintf(b.out, "## slipway feed index, %s packages\n\nBeside `createrepo_c --no-database` %s, %s against zstd; %d packages of 16 files and 1 KiB, 20 dependencies and 5 changelog entries each. What both wrote is read back at the end.\n", thousands(b.n), version, compress, b.n)
	b.ratios([][]result{full, added, same}, []float64{3, 20, 50})
	return nil
}

// ratios prints pairs, ours first, with what DESIGN asks for.
func (b *bench) ratios(pairs [][]result, limits []float64) {
	fmt.Fprint(b.out, "\n| job | CPU seconds (lowest to highest) | memory | theirs | memory | times less CPU | asked |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for i, p := range pairs {
		fmt.Fprintf(b.out, "| %s | %s | %d MiB | %s | %d MiB | **%.1f** | %.0f |\n", p[0].name, p[0].fine(), p[0].memory>>20, p[1].fine(), p[1].memory>>20,
			float64(p[1].median())/float64(p[0].median()), limits[i])
	}
}

// fine is spread with milliseconds.
func (r result) fine() string {
	return fmt.Sprintf("%.3f (%.3f to %.3f)", r.median().Seconds(), r.cpu[0].Seconds(), r.cpu[len(r.cpu)-1].Seconds())
}

func thousands(n int) string {
	if s := strconv.Itoa(n); n < 1000 {
		return s
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

// publish: the publisher's work for a release, beside createrepo_c --update of
// as many packages.
func (b *bench) publish(ctx context.Context) error {
	first, added, same, err := b.world(ctx, b.n, b.n)
	if err != nil {
		return err
	}
	program, version, compress, err := peer(ctx)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "theirs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := makeSmall(dir, 0, b.n); err != nil {
		return err
	}
	size := b.n
	j := job{name: "createrepo_c", args: []string{program, "--quiet", "--no-database", "--general-compress-type=" + compress, dir}}
	full, err := compare(ctx, 1, j)
	if err != nil {
		return err
	}
	j.args = append(j.args, "--update")
	same2, err := compare(ctx, 1, j)
	if err != nil {
		return err
	}
	j.prepare = func() error { size += more; return makeSmall(dir, size-more, size) }
	grown, err := compare(ctx, b.runs, j)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "## Publishing into %s packages\n\n`feed.Publisher`: sign %d new versions of the packages of %d recipes, store them, write snapshot, history and current, fsync, switch; a process of its own, that is given the new packages alone. Beside one index by `createrepo_c --no-database` %s, %s against zstd, of as many packages, unsigned. The pool of ours is generated headers.\n", thousands(b.n), more, more/recipeSize, version, compress)
	b.ratios([][]result{{first, full[0]}, {added, grown[0]}, {same, same2[0]}}, []float64{3, 100, 500})
	return nil
}

// growth: how the publisher's work grows with what is there.
func (b *bench) growth(ctx context.Context) error {
	fmt.Fprintf(b.out, "## How a publish grows\n\n%d new versions, as above. First the packages of the default index are as many as were ever published; then they stay %s, as in a distribution of that size whose releases pile up.\n\n| ever published | in the default index | CPU seconds (lowest to highest) | memory | times the row above |\n| ---: | ---: | ---: | ---: | ---: |\n", more, thousands(b.n))
	for _, fixed := range []bool{false, true} {
		var before time.Duration
		for _, times := range []int{1, 10, 100} {
			n := b.n * times
			size := n
			if fixed {
				size = b.n
			}
			_, added, _, err := b.world(ctx, n, size)
			if err != nil {
				return err
			}
			ratio := ""
			if before > 0 {
				ratio = fmt.Sprintf("%.2f", float64(added.median())/float64(before))
			}
			before = added.median()
			fmt.Fprintf(b.out, "| %s | %s | %s | %d MiB | %s |\n", thousands(n), thousands(size), added.fine(), added.memory>>20, ratio)
		}
	}
	return nil
}

// countPackages gives the number of packages of an index, read with all checks
// but those that keep every package in memory.
func countPackages(open func(string) (io.ReadCloser, error)) (int, error) {
	f, err := open("repodata/repomd.xml")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return 0, err
	}
	md, err := rpmmd.ReadRepomd(b)
	if err != nil {
		return 0, err
	}
	l, err := rpmmd.ReadFingerprints(open, md)
	return len(l), err
}
