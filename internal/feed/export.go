package feed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"slipway/internal/errs"
	"slipway/internal/sign"
	"slipway/internal/store"
)

// ExportOptions say what of a publication is copied, and how.
type ExportOptions struct {
	Series  []string // only these; nil for all
	Link    bool     // hard links between folders of one file system, not copies
	Check   bool     // compare what is there already byte by byte; else its name counts
	Workers int      // files at once; 0 for 1
	// Trust gives the keys that the notices of removals are checked with; it is asked
	// only where there are removals. Without it those are refused.
	Trust func(series string) (Trust, error)
	// Progress, when set, is told of every file that was copied, one call at a time.
	Progress func(done, total int)
}

// Exported is what an export did.
type Exported struct {
	Files    int   `json:"files"`    // written once; in the copy now
	New      int   `json:"new"`      // of them, copied by this export
	Bytes    int64 `json:"bytes"`    // of the new ones
	Pointers int   `json:"pointers"` // switched
	Removed  int   `json:"removed"`  // files of the copy that a notice took the place of
}

// Export copies a publication to another tree: a folder for a static host, an
// object store. What is written once goes first, several files at once; then the
// pointers, in the order of a publish, current.json last; then the notices of removals take the
// place of bytes. So the copy is whole
// whenever it is looked at, an export that was cut off is finished by the next,
// and repeating one writes nothing. It may run beside a publish: the copy is then
// what was current when the export began.
//
// A copy of another distribution, or one that is ahead, is errs.Conflict.
func Export(ctx context.Context, from, to store.Tree, o ExportOptions) (Exported, error) {
	var done Exported
	wanted := func(name string) bool {
		top, _, below := strings.Cut(name, "/")
		return o.Series == nil || !below || top == "keys" || top == "log" || slices.Contains(o.Series, top)
	}
	// Pointers first: the files that they name are there, and stay.
	pointers, err := readPointers(ctx, from, wanted)
	if err != nil {
		return done, err
	}
	if len(pointers) == 0 {
		return done, errs.E(errs.NotFound, "there is no publication to export", errs.Hint("slipway publish VERSION makes one; --series must name a published series"))
	}
	if err := continues(ctx, to, pointers); err != nil {
		return done, err
	}
	removals, err := exportedRemovals(ctx, from, pointers, o.Trust)
	if err != nil {
		return done, err
	}
	gone := map[string]bool{}
	for _, r := range removals {
		for _, f := range r.Files {
			gone[f.File] = true
		}
	}
	cache, err := buriedCache(ctx, from, removals)
	if err != nil {
		return done, err
	}
	for name := range cache {
		gone[name] = true
	}
	missing, err := difference(ctx, from, to, func(name string) bool { return wanted(name) && !gone[name] }, o.Check, &done)
	if err != nil {
		return done, err
	}
	if err := copyFiles(ctx, from, to, missing, o, &done); err != nil {
		return done, err
	}
	if err := to.Sync(ctx); err != nil {
		return done, errs.Wrap(err, "make the copy durable")
	}
	for _, name := range slices.SortedFunc(maps.Keys(pointers), byRank) {
		if strings.HasSuffix(name, ".asc") && pointers[strings.TrimSuffix(name, ".asc")] != nil {
			continue // goes with its file
		}
		n, err := switchCopy(ctx, to, name, pointers[name], pointers[name+".asc"])
		done.Pointers += n
		if err != nil {
			return done, err
		}
	}
	for _, r := range removals {
		for _, f := range r.Files {
			buried, err := bury(ctx, to, f, r.Encode())
			if err != nil {
				return done, errs.Wrap(err, "export removal %d", r.Serial)
			}
			if buried {
				done.Removed++
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cache)) {
		n, err := switchCopy(ctx, to, name, cache[name], nil)
		if done.Removed += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

// cacheFolders are beside the series, and may be pruned: what lies there is of no release.
var cacheFolders = []string{"sstate/", "downloads/"}

// buriedCache gives the files of the build cache in whose place a removal's notice
// stands, with the notice. No notice lists them.
func buriedCache(ctx context.Context, from store.Tree, removals []Removal) (map[string][]byte, error) {
	out := map[string][]byte{}
	bySize := map[int64][][]byte{}
	for _, r := range removals {
		doc := r.Encode()
		bySize[int64(len(doc))] = append(bySize[int64(len(doc))], doc)
	}
	if len(removals) == 0 {
		return out, nil
	}
	for _, folder := range cacheFolders {
		for name, err := range from.List(ctx, folder) {
			if err != nil {
				return nil, err
			}
			size, err := from.Stat(ctx, name)
			if err != nil {
				return nil, err
			}
			if len(bySize[size]) == 0 {
				continue
			}
			data, err := ReadFile(ctx, from, name)
			if err != nil {
				return nil, err
			}
			for _, doc := range bySize[size] {
				if bytes.Equal(data, doc) {
					out[name] = doc
				}
			}
		}
	}
	return out, nil
}

// rank orders pointers as a publish switches them; 0 is a file that is written
// once.
func rank(name string) int {
	if name == rootFile {
		return 1
	}
	name = strings.TrimSuffix(name, ".asc")
	switch {
	case name == "keys/keyring.json":
		return 1 // whoever follows a new pointer must find its key
	case name == "log/checkpoint":
		return 2
	case name == "distribution.json":
		return 5
	}
	_, below, _ := strings.Cut(name, "/")
	if update, ok := strings.CutPrefix(below, "sdk/update/"); ok {
		return rankOfUpdate(update)
	}
	switch {
	case path.Base(name) == "repomd.xml" && (strings.HasPrefix(below, "history/") || strings.HasPrefix(below, "current/")):
		return 3
	case below == "at.json":
		return 4
	case below == "timestamp.json" || name == "timestamp.json":
		return 6
	case below == "current.json":
		return 7
	}
	return 0
}

// rankOfUpdate orders what extensible SDKs ask for: "<name>/conf/...", and the git
// repository "<name>/layers/.git/..."; the rest is named by what is in it. A client begins
// with the manifest.
func rankOfUpdate(update string) int {
	_, rel, _ := strings.Cut(update, "/")
	switch {
	case rel == "conf/sdk-conf-manifest":
		return 5
	case strings.HasPrefix(rel, "conf/"):
		return 4
	case strings.HasPrefix(rel, "layers/.git/") && !strings.HasPrefix(rel, "layers/.git/objects/pack/"):
		return 3
	}
	return 0
}

func byRank(a, b string) int {
	if d := rank(a) - rank(b); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

// readPointers reads all pointers as of one moment: until they are the same twice.
func readPointers(ctx context.Context, from store.Tree, wanted func(string) bool) (map[string][]byte, error) {
	once := func() (map[string][]byte, error) {
		out := map[string][]byte{}
		for name, err := range from.List(ctx, "") {
			if err != nil {
				return nil, err
			}
			if rank(name) == 0 || !wanted(name) {
				continue
			}
			if out[name], err = ReadFile(ctx, from, name); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	last, err := once()
	for range 10 {
		if err != nil {
			return nil, err
		}
		var again map[string][]byte
		if again, err = once(); err == nil && maps.EqualFunc(last, again, bytes.Equal) {
			return last, nil
		}
		last = again
	}
	return nil, errs.E(errs.Locked, "the publication is being switched all the time", errs.Hint("export it when no publish is at work"))
}

// continues refuses a copy that these pointers would turn into another
// distribution, or turn back.
func continues(ctx context.Context, to store.Tree, pointers map[string][]byte) error {
	if _, ok, err := readExported(ctx, to); ok || err != nil {
		if err == nil {
			err = errs.E(errs.Conflict, "the copy is an export of one release", errs.Hint("export to a place of its own"))
		}
		return err
	}
	for name, data := range pointers {
		isCurrent := rank(name) == 7
		if !isCurrent && name != "distribution.json" {
			continue
		}
		old, err := ReadFile(ctx, to, name)
		if errs.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		var was, is struct {
			Serial       int    `json:"serial"`
			Distribution string `json:"distribution"`
		}
		if json.Unmarshal(old, &was) != nil || json.Unmarshal(data, &is) != nil {
			return errs.E(errs.Invalid, name+" of the copy cannot be read", errs.Hint("export to an empty place"))
		}
		switch {
		case was.Distribution != is.Distribution:
			return errs.E(errs.Conflict, fmt.Sprintf("the copy is of distribution %q, not of %q", was.Distribution, is.Distribution), errs.Hint("export to a place of its own"))
		case isCurrent && was.Serial > is.Serial:
			return errs.E(errs.Conflict, fmt.Sprintf("the copy is ahead: %s has serial %d there, %d here", name, was.Serial, is.Serial), errs.Hint("a copy never goes back: export the newest publication"))
		}
	}
	return nil
}

// difference gives the files that are written once and not in the copy, sorted.
func difference(ctx context.Context, from, to store.Tree, wanted func(string) bool, check bool, done *Exported) ([]string, error) {
	have := map[string]bool{}
	if !check {
		for name, err := range to.List(ctx, "") {
			if err != nil {
				return nil, err
			}
			have[name] = true
		}
	}
	var missing []string
	for name, err := range from.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		if rank(name) != 0 || !wanted(name) {
			continue
		}
		if done.Files++; !have[name] {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

func copyFiles(ctx context.Context, from, to store.Tree, names []string, o ExportOptions, done *Exported) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := 0
	for range max(1, o.Workers) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= len(names) || ctx.Err() != nil {
					return
				}
				n, err := copyFile(ctx, from, to, names[i], o.Link)
				if err != nil {
					cancel(errs.Wrap(err, "export %s", names[i]))
					return
				}
				mu.Lock()
				done.New++
				done.Bytes += n
				if o.Progress != nil {
					o.Progress(done.New, len(names))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func copyFile(ctx context.Context, from, to store.Tree, name string, link bool) (int64, error) {
	if link {
		if ok, err := store.Link(from, to, name); ok || err != nil {
			return 0, err
		}
	}
	f, err := from.Open(ctx, name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Size(), to.Create(ctx, name, f)
}

// switchCopy makes a pointer of the copy what it is at home, with its signature,
// and gives how many files it changed. As in a publish, no reader finds it without
// a signature that fits.
func switchCopy(ctx context.Context, to store.Tree, name string, data, asc []byte) (int, error) {
	old, err := ReadFile(ctx, to, name)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return 0, err
	}
	same := err == nil && bytes.Equal(old, data)
	if asc == nil {
		if same {
			return 0, nil
		}
		return 1, errs.Wrap(to.Swap(ctx, name, data), "switch %s", name)
	}
	oldAsc, err := ReadFile(ctx, to, name+".asc")
	if err != nil && !errs.Is(err, errs.NotFound) {
		return 0, err
	}
	if same && bytes.Equal(oldAsc, asc) {
		return 0, nil
	}
	both := asc
	if a, err := sign.Dearmor(asc); err == nil && oldAsc != nil && !same {
		if b, err := sign.Dearmor(oldAsc); err == nil {
			both = sign.Armor(append(a, b...))
		}
	}
	for _, s := range []struct {
		name string
		data []byte
	}{{name + ".asc", both}, {name, data}, {name + ".asc", asc}} {
		if err := to.Swap(ctx, s.name, s.data); err != nil {
			return 0, errs.Wrap(err, "switch %s", s.name)
		}
	}
	return 2, nil
}
