package feedindex

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
	"slipway/internal/rpmmd"
)

// Options of [Index].
type Options struct {
	Compression rpmmd.Compression // "" is zstd
	// Keep is how many older indexes' data files stay for clients in the middle of
	// a refresh; 0 keeps none, as createrepo_c.
	Keep int
	// At dates the index when it changes: revision and timestamps of repomd.xml.
	At time.Time
	// Progress, if not nil, is told of every package read; not concurrently.
	Progress func(done, total int)
}

// Result says what [Index] did.
type Result struct {
	Dir      string `json:"dir"`
	Written  bool   `json:"written"` // false: nothing changed, and nothing was written
	Packages int    `json:"packages"`
	New      int    `json:"new"`
	Changed  int    `json:"changed"`
	Gone     int    `json:"gone"`
	Bytes    int64  `json:"bytes"` // of primary, filelists and other, compressed
	// Rebuilt says why everything was read again although there was an index; "".
	Rebuilt string `json:"rebuilt,omitempty"`
	// Unsigned: repomd.xml.asc was removed, because it signed the index before.
	Unsigned bool `json:"unsigned,omitempty"`
}

// Index brings DIR/repodata up to date with the packages below dir. On an error
// the index is as it was; what is wrong with packages is reported all at once.
func Index(ctx context.Context, dir string, o Options) (*Result, error) {
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return nil, errs.E(errs.NotFound, fmt.Sprintf("no folder %q", dir), errs.Hint("name the folder that holds the packages"))
	}
	if o.Keep < 0 {
		return nil, errs.Ef(errs.Invalid, "keep %d older indexes", o.Keep)
	}
	if o.Compression == "" {
		o.Compression = rpmmd.Zstd
	}
	repodata := filepath.Join(dir, "repodata")
	unlock, err := lock(repodata, dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	files, err := scan(ctx, dir)
	if err != nil {
		return nil, err
	}
	r := &run{Options: o, dir: dir, repodata: repodata, result: &Result{Dir: dir, Packages: len(files)}}
	defer r.close()
	if err := r.read(); err != nil {
		return nil, err
	}
	if r.last != nil && r.last.state.Compression != o.Compression {
		r.forget(fmt.Errorf("it was compressed with %s", r.last.state.Compression))
	}
	r.compare(files)
	if r.last != nil && !r.changed() {
		for _, rec := range r.last.state.Records {
			r.result.Bytes += rec.Size
		}
		return r.result, nil
	}
	err = r.update(ctx)
	if errs.Is(err, errs.Conflict) && r.last != nil && ctx.Err() == nil && r.unusable(err) {
		r.forget(err)
		r.compare(files)
		err = r.update(ctx)
	}
	if err != nil {
		return nil, err
	}
	return r.result, nil
}

// run is one Index.
type run struct {
	Options
	dir, repodata string
	old           *rpmmd.Repomd // repomd.xml as it is; nil when there is none
	last          *memory       // nil: all is new
	order         []file        // the new index
	byHref        map[string]file
	opened        []*os.File
	result        *Result
}

func (r *run) close() {
	for _, f := range r.opened {
		f.Close()
	}
}

// open opens a data file of repodata/; close closes it.
func (r *run) open(name string) (io.ReaderAt, error) {
	f, err := os.Open(filepath.Join(r.repodata, name))
	if err != nil {
		return nil, err
	}
	r.opened = append(r.opened, f)
	return f, nil
}

// read reads repomd.xml and what belongs to it.
func (r *run) read() error {
	b, err := os.ReadFile(filepath.Join(r.repodata, "repomd.xml"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return errs.E(errs.Unavailable, "read the index that is there", err)
	}
	if r.old, err = rpmmd.ReadRepomd(b); err != nil {
		r.forget(err)
		return nil
	}
	m, err := remember(r.repodata, r.old)
	if err == nil {
		err = m.state.Check(r.open)
	}
	if err != nil {
		r.forget(err)
		return nil
	}
	r.last = m
	return nil
}

// forget gives the last index up: all is made from the packages.
func (r *run) forget(why error) {
	r.last, r.result.Rebuilt = nil, why.Error()
}

// unusable reports whether err is about the last index, not about a package.
func (r *run) unusable(err error) bool {
	var e *errs.Error
	return errors.As(err, &e) && e.Msg == rpmmd.Unusable
}

// compare puts the files in order: what is there as it was, then what is new.
func (r *run) compare(files []file) {
	r.order = make([]file, 0, len(files))
	r.result.New, r.result.Changed, r.result.Gone = 0, 0, 0
	if r.last == nil {
		r.order, r.result.New = files, len(files)
		return
	}
	// Sorted as files is: both are walked side by side.
	was := make([]int32, len(r.last.files))
	for i := range was {
		was[i] = int32(i)
	}
	slices.SortFunc(was, func(a, b int32) int {
		x, y := r.last.files[a].href, r.last.files[b].href
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	stays := make([]bool, len(was))
	var fresh []file
	i := 0
	for _, f := range files {
		for i < len(was) && r.last.files[was[i]].href < f.href {
			i++
		}
		if i < len(was) && r.last.files[was[i]].href == f.href {
			if r.last.files[was[i]] == f {
				stays[was[i]] = true
			} else {
				r.result.Changed++
				fresh = append(fresh, f)
			}
			continue
		}
		r.result.New++
		fresh = append(fresh, f)
	}
	for i, f := range r.last.files {
		if stays[i] {
			r.order = append(r.order, f)
		}
	}
	r.result.Gone = len(r.last.files) - len(r.order) - r.result.Changed
	r.order = append(r.order, fresh...)
}

func (r *run) changed() bool { return r.result.New+r.result.Changed+r.result.Gone > 0 }

// update makes the new index and switches to it.
func (r *run) update(ctx context.Context) error {
	r.byHref = make(map[string]file, r.result.New+r.result.Changed)
	for _, f := range r.order[len(r.order)-r.result.New-r.result.Changed:] {
		r.byHref[f.href] = f
	}
	at := r.At.Unix()
	u := rpmmd.Update{Options: rpmmd.Options{Revision: fmt.Sprint(at), Timestamp: at, Compression: r.Compression}, Open: r.open, Load: r.load(r.result.New + r.result.Changed)}
	if r.last != nil {
		u.Last = r.last.state
	}
	if r.old != nil {
		u.Keep = foreign(r.old)
	}
	x, err := u.Do(ctx, func(yield func(rpmmd.Item) bool) {
		var id [2 * binary.MaxVarintLen64]byte
		for _, f := range r.order {
			b := binary.AppendVarint(binary.AppendVarint(id[:0], f.size), f.mtime)
			if !yield(rpmmd.Item{ID: string(b), Href: f.href}) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	for _, f := range x.Files {
		r.result.Bytes += f.Size
	}
	r.result.Written = true
	return r.write(x)
}

// load reads packages.
func (r *run) load(total int) func(context.Context, rpmmd.Item) (rpmmd.Entry, error) {
	var done atomic.Int64
	var mu sync.Mutex
	pool := sync.Pool{New: func() any { return new([256 << 10]byte) }}
	return func(ctx context.Context, it rpmmd.Item) (rpmmd.Entry, error) {
		f, ok := r.byHref[it.Href]
		if !ok {
			// Only of a frame that the last index should have had.
			return rpmmd.Entry{}, errs.E(errs.Internal, it.Href+" is read although it is not new")
		}
		buf := pool.Get().(*[256 << 10]byte)
		defer pool.Put(buf)
		p, err := readPackage(filepath.Join(r.dir, filepath.FromSlash(f.href)), f, buf[:])
		n := int(done.Add(1))
		if r.Progress != nil {
			mu.Lock()
			r.Progress(n, total)
			mu.Unlock()
		}
		return rpmmd.Entry{Package: p, FileTime: time.Unix(0, f.mtime).Unix()}, err
	}
}

// readPackage reads headers and digest of a file, which must be as it was when
// its folder was looked at, before and after.
func readPackage(path string, want file, buf []byte) (*rpm.Package, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errs.E(errs.Unavailable, fmt.Sprintf("open %q", path), err)
	}
	defer f.Close()
	same := func() error {
		st, err := f.Stat()
		if err != nil {
			return errs.E(errs.Unavailable, fmt.Sprintf("read %q", path), err)
		}
		if st.Size() != want.size || st.ModTime().UnixNano() != want.mtime {
			return errs.E(errs.Failed, fmt.Sprintf("%q changed while it was read", path), errs.Hint("run the command again when nobody writes into the folder"))
		}
		return nil
	}
	if err := same(); err != nil {
		return nil, err
	}
	// One reading serves headers and digest: most headers, and many files, fit.
	n, err := io.ReadFull(f, buf)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, errs.E(errs.Unavailable, fmt.Sprintf("read %q", path), err)
	}
	p, err := rpm.Read(begun{buf[:n], f}, want.size, fmt.Sprintf("%q", path))
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	for {
		h.Write(buf[:n])
		if n < len(buf) {
			break
		}
		if n, err = io.ReadFull(f, buf); err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return nil, errs.E(errs.Unavailable, fmt.Sprintf("read %q", path), err)
		}
	}
	p.Digest = distro.DigestFromSum(h.Sum(nil))
	return p, same()
}

// begun is a file whose first bytes were read.
type begun struct {
	first []byte
	f     *os.File
}

func (b begun) ReadAt(p []byte, off int64) (int, error) {
	if off >= 0 && off+int64(len(p)) <= int64(len(b.first)) {
		return copy(p, b.first[off:]), nil
	}
	return b.f.ReadAt(p, off)
}

// foreign gives the records of repomd.xml that are of other tools, and are right
// whatever packages there are. Data bases and zchunk forms of our three files are not.
func foreign(md *rpmmd.Repomd) []rpmmd.Record {
	var out []rpmmd.Record
	for _, rec := range md.Records {
		if !slices.Contains(replaced, rec.Type) {
			out = append(out, rec)
		}
	}
	return out
}

var replaced = []string{"primary", "filelists", "other", "primary_db", "filelists_db", "other_db", "primary_zck", "filelists_zck", "other_zck", "filelists-ext", "filelists-ext_zck", "prestodelta"}

// write stores the new index: data files and state, durable; then repomd.xml;
// then what nobody needs any more goes.
func (r *run) write(x *rpmmd.Index) error {
	for _, f := range x.Files {
		if err := r.place(f.Name, f); err != nil {
			return err
		}
	}
	if err := x.State.Stamp(r.open); err != nil {
		return errs.E(errs.Unavailable, "read the new index back", err)
	}
	m := &memory{state: x.State, files: r.order, older: r.older(x)}
	name := stateName(x.State.Records[:])
	if err := r.place(name, bytesWriter(m.encode())); err != nil {
		return err
	}
	if err := syncFolder(r.repodata); err != nil {
		return err
	}
	// A signature of the old index over the new one is worse than none.
	asc := filepath.Join(r.repodata, "repomd.xml.asc")
	if err := r.place("repomd.xml", bytesWriter(x.Repomd)); err != nil {
		return err
	}
	if os.Remove(asc) == nil {
		r.result.Unsigned = true
	}
	if err := syncFolder(r.repodata); err != nil {
		return err
	}
	needed := map[string]bool{name: true}
	for _, f := range x.Files {
		needed[f.Name] = true
	}
	for _, g := range m.older {
		for _, n := range g {
			needed[n] = true
		}
	}
	r.clean(needed)
	return nil
}

// older gives the names of data files of the indexes before that stay.
func (r *run) older(x *rpmmd.Index) [][]string {
	var out [][]string
	if r.old != nil {
		var names []string
		for _, rec := range r.old.Records {
			if slices.Contains(replaced, rec.Type) && !slices.ContainsFunc(x.Files, func(f *rpmmd.DataFile) bool { return f.Href == rec.Href }) {
				names = append(names, path.Base(rec.Href))
			}
		}
		if len(names) > 0 {
			out = append(out, names)
		}
	}
	if r.last != nil {
		out = append(out, r.last.older...)
	}
	return out[:min(len(out), r.Keep)]
}

// clean removes data files of ours, and of the index before, that are not needed.
// What cannot be removed is no error: the index is good, the next run tries again.
func (r *run) clean(needed map[string]bool) {
	drop := map[string]bool{}
	if r.old != nil {
		for _, rec := range r.old.Records {
			if slices.Contains(replaced, rec.Type) && path.Dir(rec.Href) == "repodata" {
				drop[path.Base(rec.Href)] = true
			}
		}
	}
	entries, _ := os.ReadDir(r.repodata)
	for _, e := range entries {
		if ours.MatchString(e.Name()) {
			drop[e.Name()] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(drop)) {
		if !needed[name] {
			os.Remove(filepath.Join(r.repodata, name))
		}
	}
}
