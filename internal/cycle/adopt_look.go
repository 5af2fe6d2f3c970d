package cycle

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"sort"
	"strings"
	"sync"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/hashserv/hashdb"
	"slipway/internal/prserv/prdb"
	"slipway/internal/rpm"
)

// LookAtFeed reads every package and both databases of a feed, payloads included,
// and writes nothing but copies of the databases in a scratch folder. What is wrong
// with a package comes out of Conflicts; an error is a folder or a database that
// cannot be read at all.
func LookAtFeed(ctx context.Context, a Adoption, t Task) (_ *Adoptable, err error) {
	deploy, err := filepath.Abs(a.Deploy)
	if err != nil {
		return nil, errs.E(errs.Invalid, "folder "+a.Deploy, err)
	}
	f := &Adoptable{paths: map[distro.Digest]string{}, place: placeOf(deploy)}
	if f.temp, err = os.MkdirTemp("", "slipway-adopt-"); err != nil {
		return nil, errs.E(errs.Unavailable, "make a scratch folder", err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	files, err := packageFiles(deploy)
	if err != nil {
		return nil, err
	}
	looked := make([]lookedAt, len(files))
	var wg sync.WaitGroup
	var mu sync.Mutex
	next, done := 0, 0
	for range min(runtime.NumCPU(), len(files)) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= len(files) || ctx.Err() != nil {
					return
				}
				looked[i] = look(files[i], a)
				mu.Lock()
				done++
				t.Progress(done, len(files), filepath.Base(files[i]))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, errs.E(errs.Interrupted, "stopped while the feed was looked at; nothing is written")
	}
	f.gather(deploy, files, looked)
	if err := f.databases(ctx, a); err != nil {
		return nil, err
	}
	return f, nil
}

// packageFiles finds *.rpm below a folder, sorted; links to files count, links to
// folders are not followed.
func packageFiles(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if filepath.Ext(path) != ".rpm" || e.IsDir() {
			return nil
		}
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return nil
		}
		files = append(files, path)
		return nil
	})
	if err != nil {
		return nil, errs.E(errs.NotFound, "feed "+dir+" cannot be read", err)
	}
	if len(files) == 0 {
		return nil, errs.E(errs.NotFound, dir+" has no packages", errs.Hint("name the folder that holds the .rpm files, or folders of them: tmp/deploy/rpm"))
	}
	sort.Strings(files)
	return files, nil
}

type lookedAt struct {
	record   distro.PackageRecord
	resigned bool
	err      error
}

// packageName and versionText are what rpmbuild lets through; everything else would
// be a file name, or a line of an index, that means something else.
var (
	packageName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+-]*$`)
	versionText = regexp.MustCompile(`^[A-Za-z0-9._+~^]+$`)
	archName    = regexp.MustCompile(`^[A-Za-z0-9_]+$`)
)

// maxFileName is what file systems hold.
const maxFileName = 255

func look(path string, a Adoption) (l lookedAt) {
	f, err := os.Open(path)
	if err != nil {
		return lookedAt{err: errs.E(errs.Unavailable, "cannot be read", err)}
	}
	defer f.Close()
	p, err := rpm.ReadFile(path)
	if err == nil {
		err = rpm.Verify(f, p.Size, p.NEVRA())
	}
	if err != nil {
		return lookedAt{err: errs.E(errs.Conflict, "the package cannot be read", err, errs.Hint("build it again, or bring it back from a mirror"))}
	}
	arch := p.Arch
	if p.Source {
		arch = "src"
	}
	file := fmt.Sprintf("%s-%s-%s.%s.rpm", p.Name, p.Version, p.Release, arch)
	for _, x := range []struct {
		what, text string
		form       *regexp.Regexp
	}{{"name", p.Name, packageName}, {"version", p.Version, versionText}, {"release", p.Release, versionText}, {"architecture", arch, archName}} {
		if !x.form.MatchString(x.text) {
			return lookedAt{err: errs.E(errs.Conflict, fmt.Sprintf("the package has the %s %q, with characters that no feed may have", x.what, x.text), errs.Hint("leave it out, or build it with another "+x.what))}
		}
	}
	if len(file) > maxFileName {
		return lookedAt{err: errs.E(errs.Conflict, fmt.Sprintf("the package's file name would have %d characters, and %d are possible", len(file), maxFileName))}
	}
	if len(p.Signatures) > 0 {
		var sigs [][]byte
		for _, s := range p.Signatures {
			if s.Tag == 267 || s.Tag == 268 || s.Tag == 278 { // over the main header
				sigs = append(sigs, s.Data)
			}
		}
		if err := signedBy(f, p.HeaderStart, p.HeaderEnd, sigs, a.Signers); err != nil {
			return lookedAt{err: errs.E(errs.Conflict, "the package is signed, and by no key that was named", err, errs.Hint("--signed-by FILE names the public key; at publish this distribution's signature takes its place"))}
		}
		l.resigned = true
	}
	l.record = distro.PackageRecord{Name: p.Name, Epoch: p.Epoch, Version: p.Version, Release: p.Release, Arch: arch, SourceName: sourceName(p), License: p.License,
		File: file, Digest: p.Digest, Size: p.Size, HeaderDigest: p.HeaderDigest, Content: p.ContentDigest()}
	return l
}

// sourceName is the recipe or spec: the source package without version and release.
func sourceName(p *rpm.Package) string {
	name := strings.TrimSuffix(strings.TrimSuffix(p.SourceRPM, ".rpm"), ".src")
	for range 2 {
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
	}
	if p.Source || name == "" {
		return p.Name
	}
	return name
}

// gather joins what was seen of the files, in their order: the same package twice
// is one, the same name with other content is a conflict.
func (f *Adoptable) gather(dir string, files []string, looked []lookedAt) {
	first := map[string]int{}
	for i, l := range looked {
		name, err := filepath.Rel(dir, files[i])
		if err != nil {
			name = files[i]
		}
		if l.err != nil {
			f.found = append(f.found, errs.Wrap(l.err, "%s", name))
			continue
		}
		j, twice := first[l.record.File]
		switch {
		case !twice:
			first[l.record.File] = i
			f.paths[l.record.Digest] = files[i]
			f.Packages = append(f.Packages, l.record)
			if l.resigned {
				f.Resigned = append(f.Resigned, l.record.NEVRA())
			}
		case looked[j].record.HeaderDigest != l.record.HeaderDigest:
			other, _ := filepath.Rel(dir, files[j])
			f.found = append(f.found, errs.E(errs.Conflict, fmt.Sprintf("%s is there twice with other content: %s has header %s, %s has %s", l.record.NEVRA(),
				other, looked[j].record.HeaderDigest.Short(), name, l.record.HeaderDigest.Short()), errs.Hint("keep the one that devices have, move the other away")))
		}
	}
	sort.Slice(f.Packages, func(i, j int) bool { return f.Packages[i].File < f.Packages[j].File })
	sort.Strings(f.Resigned)
}

// databases copies both databases as they are at one moment, in BitBake's own form,
// and reads the numbers.
func (f *Adoptable) databases(ctx context.Context, a Adoption) error {
	if a.PRServ != "" {
		db, err := prdb.Open(filepath.Join(f.temp, "pr.work"), false)
		if err != nil {
			return err
		}
		defer db.Close()
		if _, err := db.Import(ctx, a.PRServ); err != nil {
			return errs.Wrap(err, "PR database %s", a.PRServ)
		}
		rows, err := db.Rows(ctx, "", "", "", true)
		if err != nil {
			return errs.Wrap(err, "PR database %s", a.PRServ)
		}
		f.prdb = filepath.Join(f.temp, "prserv.sqlite3")
		if _, err := db.Export(ctx, f.prdb); err != nil {
			return err
		}
		f.Given = len(rows)
		f.given, f.Skipped = readGiven(rows, f.Packages)
	}
	if a.HashServ != "" {
		db, err := hashdb.Open(filepath.Join(f.temp, "hash.work"), hashdb.Options{})
		if err != nil {
			return err
		}
		defer db.Close()
		if _, err := db.Import(ctx, a.HashServ); err != nil {
			return errs.Wrap(err, "hash equivalence database %s", a.HashServ)
		}
		f.hashdb = filepath.Join(f.temp, "hashserv.sqlite3")
		if err := db.Export(ctx, f.hashdb); err != nil {
			return err
		}
	}
	return nil
}
