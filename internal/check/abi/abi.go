// Package abi asks whether programs that people have built against the series go on
// working, and can be built again: each shared library of a package that changed is
// compared with that of the last release, and with that of the first of the series.
//
// Names, symbols and their versions come from the ELF files themselves (elfabi), types
// from their debug information, by libabigail. Who breaks is found among all packages
// that were ever published in the series. For those who build against it, what a
// package lists is compared: headers, pkg-config files, Python modules, commands.
package abi

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/libabigail"
	"slipway/internal/rpm"
)

// New gives the check.
func New() check.Check { return abi{} }

type abi struct{}

func (abi) Spec() distro.CheckSpec {
	return distro.CheckSpec{ID: "abi", Level: distro.Block,
		Asks: "does what was built against an earlier release of the series go on working, and can it be built again?",
		Cure: "bring back what is gone, or give the library a new soname, in a package of a new name, and keep the old one"}
}

// pair is a package that the candidate changes, with what it was.
type pair struct {
	now   distro.PackageRecord
	last  *distro.PackageRecord // in the last release
	first *distro.PackageRecord // in the first, when that is another one
}

// Run asks once for each library of the earlier packages, and once for each package
// whose list of files says what others build against.
func (abi) Run(ctx context.Context, bed *check.Bed) (check.Result, error) {
	var res check.Result
	if bed.Read == nil || bed.Open == nil {
		res.Note = "the packages cannot be read here"
		return res, nil
	}
	if len(bed.Base) == 0 {
		res.Note = "there is no release to compare with"
		return res, nil
	}
	pairs := changed(bed)
	if len(pairs) == 0 {
		res.Note = "no package of the last release has new content"
		return res, nil
	}
	r := &run{bed: bed, missing: libabigail.Missing(), users: &users{bed: bed}, feed: &feed{bed: bed}}
	found := make([]check.Result, len(pairs))
	done := 0
	var mu sync.Mutex
	err := bed.Each(ctx, len(pairs), func(ctx context.Context, i int) error {
		var err error
		found[i], err = r.one(ctx, pairs[i])
		mu.Lock()
		defer mu.Unlock()
		done++
		bed.Tell(done, len(pairs), pairs[i].now.Name)
		return err
	})
	for _, f := range found {
		res.Asked += f.Asked
		res.Findings = append(res.Findings, f.Findings...)
		res.Evidence = append(res.Evidence, f.Evidence...)
	}
	if err != nil {
		return res, err
	}
	if r.untyped > 0 && len(r.missing) > 0 {
		res.Findings = append(res.Findings, distro.Finding{ID: "tool", Level: distro.Warn, Object: strings.Join(r.missing, ", "),
			Text: fmt.Sprintf("the types of %d libraries were not compared: %s is not installed", r.untyped, strings.Join(r.missing, ", ")), Cure: "install libabigail's programs (Debian: abigail-tools), and slipway test again"})
	}
	if res.Asked == 0 {
		res.Note = fmt.Sprintf("none of the %d packages that changed has a library, nor anything that others build against", len(pairs))
	}
	return res, nil
}

// changed pairs each package of the candidate that a release had with other content.
// Debug information and sources are nobody's interface.
func changed(bed *check.Bed) []pair {
	type key struct{ name, arch string }
	index := func(l []distro.PackageRecord) map[key]*distro.PackageRecord {
		out := map[key]*distro.PackageRecord{}
		for _, p := range check.Binary(l) { // sorted: the newest is the last
			out[key{p.Name, p.Arch}] = &p
		}
		return out
	}
	now, last, first := index(bed.Packages), index(bed.Base), index(bed.First)
	same := func(a, b *distro.PackageRecord) bool {
		return a.HeaderDigest == b.HeaderDigest || a.Content == b.Content
	}
	var out []pair
	for _, p := range check.Binary(bed.Packages) {
		k := key{p.Name, p.Arch}
		if now[k].NEVRA() != p.NEVRA() || forDebugging(p.Name) {
			continue
		}
		one := pair{now: p, last: last[k], first: first[k]}
		if one.last != nil && same(one.last, &p) {
			continue // asked when it came
		}
		if one.first != nil && (same(one.first, &p) || one.last != nil && same(one.first, one.last)) {
			one.first = nil
		}
		if one.last != nil || one.first != nil {
			out = append(out, one)
		}
	}
	return out
}

// forDebugging reports whether a package is named as those with debug information or
// sources are, by OE-Core (-dbg, -src) and by rpm.
func forDebugging(name string) bool {
	for _, s := range []string{"-dbg", "-src", "-debuginfo", "-debugsource"} {
		if strings.HasSuffix(name, s) {
			return true
		}
	}
	return false
}

// run is one run of the check; its methods may be called side by side.
type run struct {
	bed     *check.Bed
	missing []string // programs of libabigail
	users   *users
	feed    *feed

	mu      sync.Mutex
	untyped int // libraries whose types were not compared because a program is missing
}

// one asks about one package.
func (r *run) one(ctx context.Context, p pair) (check.Result, error) {
	var res check.Result
	now, err := r.open(ctx, p.now)
	if err != nil {
		return res, err
	}
	defer now.close()
	var last *opened
	for _, from := range []struct {
		name   string
		record *distro.PackageRecord
	}{{"last", p.last}, {"first", p.first}} {
		if from.record == nil {
			continue
		}
		old, err := r.open(ctx, *from.record)
		if err != nil {
			return res, err
		}
		defer old.close()
		c := &comparison{run: r, from: from.name, old: old, now: now, last: last, res: &res}
		if err := c.libraries(ctx); err != nil {
			return res, err
		}
		if err := c.lists(ctx); err != nil {
			return res, err
		}
		last = old
	}
	return res, nil
}

// comparison is of two versions of one package.
type comparison struct {
	run      *run
	from     string // "last", "first"
	old, now *opened
	last     *opened // of a comparison with the first release, the last one's
	res      *check.Result
}

// since names what the old package is.
func (c *comparison) since() string {
	return fmt.Sprintf("%s of the %s release", c.old.record.EVR(), c.from)
}

// add notes a finding; id comes behind the package's name. What is older, lost since the
// first release but before the last one, is only told: it went out, a person saw it.
func (c *comparison) add(f distro.Finding, id string, older bool) {
	p := c.now.record
	f.ID, f.Object, f.Source = p.Name+"."+p.Arch+":"+id, p.NEVRA(), p.SourceName
	if c.from == "first" {
		f.ID += ":first"
		if older {
			f.Level = distro.Info
		}
	}
	c.res.Findings = append(c.res.Findings, f)
}

// opened is a package with its header and, once asked for, its ELF files.
type opened struct {
	record distro.PackageRecord
	header *rpm.Package
	dir    string // of what was unpacked; "" is nothing
	libs   []library
	looked bool
}

func (r *run) open(ctx context.Context, p distro.PackageRecord) (*opened, error) {
	h, err := r.bed.Read(ctx, p)
	return &opened{record: p, header: h}, err
}

func (o *opened) close() {
	if o.dir != "" {
		os.RemoveAll(o.dir)
	}
}

// folder makes a work folder of the check's own.
func (r *run) folder(name string) (string, error) {
	dir := filepath.Join(r.bed.Dir, "work")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return os.MkdirTemp(dir, strings.ReplaceAll(name, string(filepath.Separator), "_")+"-")
}
