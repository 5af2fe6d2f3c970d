package cycle

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"slipway/internal/check"
	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/feed"
	"slipway/internal/rpm"
)

// runChecks runs the checks: those of a device's feeds once a board, the others
// once. Without boards the device is this machine.
func (w *Workspace) runChecks(ctx context.Context, b Build, bed *check.Bed) ([]check.Outcome, error) {
	policy := levels(w.Definition.Gate.Checks)
	side, err := w.side(ctx, string(b.ID))
	if err != nil {
		return nil, err
	}
	read := &headers{side: side, read: map[distro.Digest]*rpm.Package{}}
	boards, err := w.boardsOf(b.ID)
	if err != nil {
		return nil, err
	}
	if len(boards) == 0 {
		read.know(ctx, bed)
		return check.Run(ctx, bed, w.Checks, policy)
	}
	var once, each []check.Check
	for _, c := range w.Checks {
		if _, ok := c.(check.PerBoard); ok {
			each = append(each, c)
		} else {
			once = append(once, c)
		}
	}
	bed.Share()
	asked := map[string]bool{} // scopes whose packages another board installs alone
	runs := make([]boardRun, 0, len(boards)+1)
	for _, board := range boards {
		one := w.boardBed(*bed, board, asked)
		read.know(ctx, &one)
		if tell := bed.Progress; tell != nil {
			one.Progress = func(id string, done, total int, text string) { tell(board.Name+", "+id, done, total, text) }
		}
		runs = append(runs, boardRun{board: board.Name, bed: &one, checks: each})
		for _, s := range w.withParts(board.forScopes().Scopes()) {
			asked[s] = true
		}
	}
	bed.Read = read.get
	runs = append(runs, boardRun{bed: bed, checks: once})
	var wg sync.WaitGroup
	for i := range runs {
		wg.Go(func() { runs[i].outcomes, runs[i].err = check.Run(ctx, runs[i].bed, runs[i].checks, policy) })
	}
	wg.Wait()
	merged := map[string]*check.Outcome{}
	for i, r := range runs {
		if r.err != nil {
			return nil, r.err
		}
		for _, o := range r.outcomes {
			if i < len(boards) {
				merge(merged, r.board, o)
			} else {
				merged[o.Result.Spec.ID] = &o
			}
		}
	}
	var out []check.Outcome
	for _, c := range w.Checks {
		if o := merged[c.Spec().ID]; o != nil { // off: not there
			out = append(out, *o)
		}
	}
	return out, nil
}

// boardRun is the checks of one board, or those that are asked once.
type boardRun struct {
	board    string
	bed      *check.Bed
	checks   []check.Check
	outcomes []check.Outcome
	err      error
}

// boardBed is the bed as a board's device sees it: its feeds and what they
// hold.
func (w *Workspace) boardBed(bed check.Bed, b Board, asked map[string]bool) check.Bed {
	scopes := b.forScopes().Scopes()
	mine := func(l []distro.PackageRecord) []distro.PackageRecord {
		var out []distro.PackageRecord
		for _, r := range l {
			if s, _ := distro.ScopePart(r.Scope); slices.Contains(scopes, s) {
				out = append(out, r)
			}
		}
		return out
	}
	device := func(f check.Feed) check.Feed {
		vars := w.boardVars(b)
		for k, v := range f.Vars {
			vars[k] = v
		}
		return check.Feed{Repos: w.deviceRepos(f.Repos[0].GPGKeys), Vars: vars}
	}
	bed.Dir = filepath.Join(bed.Dir, b.Name)
	bed.Arch, bed.MachineArch = b.File.Arch, b.ownArchs()
	bed.Packages, bed.Brought, bed.Base = mine(bed.Packages), mine(bed.Brought), mine(bed.Base)
	bed.Candidate = device(bed.Candidate)
	origins := make([]check.Origin, 0, len(bed.Origins))
	for _, o := range bed.Origins {
		if o.Ask {
			if o, ok := w.askedOrigin(o, b, scopes); ok {
				origins = append(origins, o)
			}
			continue
		}
		o.Feed, o.Packages = device(o.Feed), mine(o.Packages)
		if len(o.Packages) > 0 { // a board that came later has none
			origins = append(origins, o)
		}
	}
	bed.Origins, bed.Board = origins, b.Name
	done := map[string]bool{}
	for s := range asked {
		done[s] = true
	}
	bed.Alone = func(r distro.PackageRecord) bool { return !done[r.Scope] }
	return bed
}

// askedOrigin is an origin of another series as a board's device sees it; false when that
// series had no such board.
func (w *Workspace) askedOrigin(o check.Origin, b Board, scopes []string) (check.Origin, bool) {
	own := b.forScopes().OwnArchs()
	if !slices.Contains(o.Scopes, own[0]) {
		return o, false
	}
	vars := w.boardVars(b)
	for k, v := range o.Feed.Vars {
		vars[k] = v
	}
	has := slices.DeleteFunc(w.withParts(scopes), func(s string) bool { return !slices.Contains(o.Scopes, s) })
	o.Feed = check.Feed{Repos: w.feedsOf(o.Series, has, o.Feed.Repos[0].GPGKeys), Vars: vars}
	return o, true
}

// merge joins what a check found on one board to what it found on the others.
// Findings name their board; what is found alike on several names all of them.
func merge(into map[string]*check.Outcome, board string, o check.Outcome) {
	prefix := "test/" + o.Result.Spec.ID + "/"
	for i := range o.Files {
		o.Files[i].Name = path.Join(board, o.Files[i].Name)
	}
	for i := range o.Result.Findings {
		f := &o.Result.Findings[i]
		f.Boards = []string{board}
		if rest, ok := strings.CutPrefix(f.Log, prefix); ok {
			f.Log = prefix + board + "/" + rest
		}
	}
	for i := range o.Result.Trials {
		t := &o.Result.Trials[i]
		t.Board = board
		for j := range t.Steps {
			if rest, ok := strings.CutPrefix(t.Steps[j].Log, prefix); ok {
				t.Steps[j].Log = prefix + board + "/" + rest
			}
		}
	}
	if o.Result.Error != "" {
		o.Result.Error = fmt.Sprintf("%s: %s", board, o.Result.Error)
	}
	if o.Result.Note != "" {
		o.Result.Note = fmt.Sprintf("%s: %s", board, o.Result.Note)
	}
	all := into[o.Result.Spec.ID]
	if all == nil {
		into[o.Result.Spec.ID] = &o
		return
	}
	all.Result.Asked += o.Result.Asked
	all.Result.Error = joined(all.Result.Error, o.Result.Error)
	all.Result.Note = joined(all.Result.Note, o.Result.Note)
	all.Result.Trials = append(all.Result.Trials, o.Result.Trials...)
	all.Files = append(all.Files, o.Files...)
	all.Good = append(all.Good, o.Good...)
	for _, f := range o.Result.Findings {
		same := false
		for i := range all.Result.Findings {
			g := &all.Result.Findings[i]
			if g.Key() == f.Key() && g.Text == f.Text && g.Level == f.Level {
				g.Boards, same = append(g.Boards, board), true
				break
			}
		}
		if !same {
			all.Result.Findings = append(all.Result.Findings, f)
		}
	}
}

// selfUpgrades lists the devices that are to upgrade themselves to a candidate, as
// the boards' policy says: each of the first release that published its image.
func (w *Workspace) selfUpgrades(b Build, bed *check.Bed, origins []check.Origin) ([]check.SelfUpgrade, error) {
	boards, err := w.boardsOf(b.ID)
	if err != nil {
		return nil, err
	}
	var out []check.SelfUpgrade
	for _, board := range boards {
		if board.Boot.Upgrade == "" {
			continue
		}
		image := check.BootImage{Board: board.Name, Image: board.Boot.Upgrade, Rig: board.Boot.Rig}
		u := check.SelfUpgrade{BootImage: image, Packages: w.boardBed(*bed, board, nil).Packages}
		for _, o := range origins {
			file := Image{Board: board, File: &config.ImageFile{Name: image.Image}}.name(o.Version, "ext4")
			path := filepath.Join(w.Settings.PublicationDir(), filepath.FromSlash(feed.ImageName(b.Series, board.Name, o.Version, file)))
			if _, err := os.Stat(path); err == nil {
				u.Path = path
				u.Origin = w.boardBed(check.Bed{Candidate: bed.Candidate, Origins: []check.Origin{o}}, board, nil).Origins[0]
				break
			}
		}
		out = append(out, u)
	}
	return out, nil
}

func joined(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}
