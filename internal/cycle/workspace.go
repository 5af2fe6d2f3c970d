package cycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"slipway/internal/check"
	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/flow"
	"slipway/internal/keyring"
	"slipway/internal/sstate"
	"slipway/internal/state"
	"slipway/internal/store"
	"slipway/internal/tlog"
)

// Builder turns a revision into packages; package rpmbuild is one. Each method
// may be repeated on the same dir after a crash.
type Builder interface {
	// Pin gives what decides the output beside the layers: the builder's kind and its tools' versions.
	Pin(ctx context.Context) (distro.BuilderPin, error)
	Prepare(ctx context.Context, rev distro.Revision, seed distro.Seed, dir string) error
	Build(ctx context.Context, dir string, events func(distro.BuildEvent)) error
	Collect(ctx context.Context, dir string) iter.Seq2[distro.Output, error]
}

// Talk is how the cycle tells a person what it does; package ui implements it.
type Talk interface {
	// Step begins a step; the returned Task ends with Done or Failed.
	Step(title string) Task
}

// Task is one step in progress.
type Task interface {
	// Step begins a part of it.
	Step(title string) Task
	Progress(done, total int, text string)
	Note(text string)
	Done(summary string)
	Failed(summary string)
}

// Keys are the production signers of a distribution.
type Keys struct {
	Package, Metadata feed.Signer
	Epoch             int               // of the package key: keyring.Key.Epoch
	SState            sstate.Signer     // of the build cache; nil: the definition does not publish it
	Log               tlog.Signer       // nil: the distribution has no log key
	LogBefore         []tlog.Verifier   // log keys whose checkpoints Log continues
	LogKeys           []string          // files of Files: the log keys that the log names
	Files             map[string][]byte // below keys/ of the publication, as keyring.Folder.Files gives them
}

// Parts are the adapters that a workspace is wired with (by cli).
type Parts struct {
	State     state.Store
	Blobs     store.Blobs
	Tree      store.Tree // the publication
	Builder   func(Means) (Builder, error)
	Keys      func() (Keys, error)              // opens the production keys; only approve's successors and publish call it
	Public    func() (map[string][]byte, error) // the public keys alone, armoured, by role
	Keyring   func() (*keyring.Keyring, error)  // as it is in force
	Throwaway func(now time.Time) (feed.Signer, error)
	DNF       func(ctx context.Context) (*dnf.Tool, error)
	Compare   Compare // of two packages, for people; nil: there is none
	Checks    []check.Check
	Talk      Talk
	Clock     func() time.Time
}

// Numbers gives numbers of the PR database, each once.
type Numbers interface {
	Next(ctx context.Context, build distro.BuildID, key distro.NumberKey) (int, error)
}

// Workspace is one series in one folder.
type Workspace struct {
	Dir        string
	Definition *config.Definition
	Settings   *config.Settings
	Parts
	Command string        // for lock owners and journals: "slipway build --for 1.2"
	Wait    time.Duration // how long approve and publish wait for each other
}

func (w *Workspace) internal(parts ...string) string {
	return filepath.Join(append([]string{w.Dir, ".slipway"}, parts...)...)
}

// work is the folder of a build while it runs and is tested; quarantine is
// where a rejected or failed one goes.
func (w *Workspace) work(id distro.BuildID) string       { return w.internal("work", string(id)) }
func (w *Workspace) quarantine(id distro.BuildID) string { return w.internal("quarantine", string(id)) }

// jobs is how many things may be done at once.
func (w *Workspace) jobs() int {
	if n := w.Settings.Build.Jobs; n > 0 {
		return n
	}
	return runtime.NumCPU()
}

func (w *Workspace) now() time.Time { return w.Clock().UTC().Truncate(time.Second) }

func (w *Workspace) layout() feed.Layout { return feed.Layout{Series: w.Definition.Series.Name} }

// lock takes one of the workspace's two locks: "work" (build, test: busy means
// exit 6 at once) or "publish" (approve, reject, publish: they wait).
func (w *Workspace) lock(ctx context.Context, name string) (*store.Lock, error) {
	wait := time.Duration(0)
	if name == "publish" {
		wait = w.Wait
	}
	if err := os.MkdirAll(w.internal("locks"), 0o755); err != nil {
		return nil, errs.E(errs.Unavailable, "the workspace cannot be written", err, errs.Hint("give yourself write permission on "+w.Dir))
	}
	return store.Acquire(ctx, w.internal("locks", name), store.Self(w.Command, w.now()), wait, func(o store.Owner) {
		t := w.Talk.Step("waiting for " + o.String())
		t.Done("")
	})
}

func (w *Workspace) series(ctx context.Context) (Series, error) {
	s, _, err := state.Load[Series](ctx, w.State, kindSeries, w.Definition.Series.Name)
	if errs.Is(err, errs.NotFound) {
		return Series{Name: w.Definition.Series.Name}, nil
	}
	return s, err
}

// Release reads a release of this workspace.
func (w *Workspace) Release(ctx context.Context, v distro.Version) (Release, error) {
	r, _, err := state.Load[Release](ctx, w.State, kindRelease, string(v))
	if errs.Is(err, errs.NotFound) {
		return r, errs.E(errs.NotFound, fmt.Sprintf("release %s is not in this workspace", v), errs.Hint("slipway status lists the releases"))
	}
	return r, err
}

// Build reads a build by its id or its candidate's name; "" gives the newest.
func (w *Workspace) Build(ctx context.Context, name string) (Build, error) {
	if name == "" {
		all, err := w.Builds(ctx)
		if err != nil {
			return Build{}, err
		}
		if len(all) == 0 {
			return Build{}, errs.E(errs.NotFound, "no build in this workspace", errs.Hint("slipway build"))
		}
		newest := all[0]
		for _, b := range all {
			if b.Created.After(newest.Created) || b.Created.Equal(newest.Created) && b.Version.Compare(newest.Version) >= 0 {
				newest = b
			}
		}
		return newest, nil
	}
	id, err := distro.ParseBuildID(name)
	if err != nil {
		return Build{}, err
	}
	b, _, err := state.Load[Build](ctx, w.State, kindBuild, string(id))
	if errs.Is(err, errs.NotFound) {
		return b, errs.E(errs.NotFound, "build "+name+" is not in this workspace", errs.Hint("slipway status lists the builds"))
	}
	return b, err
}

// Builds gives all builds, oldest version first.
func (w *Workspace) Builds(ctx context.Context) ([]Build, error) {
	return state.LoadAll[Build](ctx, w.State, kindBuild)
}

// Releases gives all releases, oldest first.
func (w *Workspace) Releases(ctx context.Context) ([]Release, error) {
	return state.LoadAll[Release](ctx, w.State, kindRelease)
}

// published gives everything that was published and neither taken back nor removed, in the order of publication.
func (w *Workspace) published(ctx context.Context) ([]distro.PackageRecord, error) {
	all, err := w.Releases(ctx)
	if err != nil {
		return nil, err
	}
	twins, err := w.twins(ctx)
	if err != nil {
		return nil, err
	}
	gone, err := w.gone(ctx)
	return gone.standing(feed.Twins(offered(all), twins)), err
}

// journal keeps flow's records in the state.
type journal struct{ s state.Store }

func (j journal) Load(ctx context.Context, run string) (flow.Record, error) {
	r, rev, err := state.Load[flow.Record](ctx, j.s, kindJournal, run)
	r.Rev = rev
	return r, err
}

func (j journal) Save(ctx context.Context, run string, r flow.Record) error {
	return j.s.Apply(ctx, []state.Put{{Kind: kindJournal, ID: run, IfRev: r.Rev, Data: r}}, nil)
}

// run executes journalled steps under the command's name, with progress.
func (w *Workspace) run(ctx context.Context, run string, steps []flow.Step) error {
	return flow.Run(ctx, journal{w.State}, run, flow.Self(w.Command), steps, flow.Options{Clock: w.Clock})
}

func writeFile(path string, r io.Reader, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	out := store.Sparse{File: f}
	if _, err := io.CopyBuffer(&out, struct{ io.Reader }{r}, make([]byte, 256<<10)); err != nil {
		f.Close()
		return err
	}
	return errors.Join(out.End(), f.Close())
}
