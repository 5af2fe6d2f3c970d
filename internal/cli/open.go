package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"slipway/internal/check"
	"slipway/internal/check/abi"
	"slipway/internal/check/boots"
	"slipway/internal/check/inspect"
	"slipway/internal/check/installs"
	"slipway/internal/check/machines"
	"slipway/internal/check/own"
	"slipway/internal/check/public"
	"slipway/internal/check/results"
	"slipway/internal/check/security"
	"slipway/internal/check/selfupgrades"
	"slipway/internal/check/told"
	"slipway/internal/check/upgrades"
	"slipway/internal/check/versions"
	"slipway/internal/config"
	"slipway/internal/cycle"
	"slipway/internal/diffoscope"
	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/keyring"
	"slipway/internal/rpmbuild"
	"slipway/internal/sign"
	"slipway/internal/state"
	"slipway/internal/store"
	"slipway/internal/ui"
)

type mode int

const (
	read  mode = iota // writes nothing, takes no lock
	write             // opens the state and the folders for writing
)

// checks are the checks of a definition, in the order in which they are shown.
func checks(builder string) []check.Check {
	all := allChecks()
	if !config.Yocto(builder) {
		all = all[len(told.All()):]
	}
	return all
}

func allChecks() []check.Check {
	return append(told.All(), versions.New(), public.New(), security.New(), machines.New(), inspect.New(), abi.New(), results.New(), installs.New(), upgrades.New(), boots.New(), selfupgrades.New())
}

// ownChecks are the distribution's own, in the folder checks of the workspace; none
// of them may see the keys.
func ownChecks(dir string, keys ...string) ([]check.Check, error) {
	var hide []string
	for _, k := range keys {
		hide = append(hide, k, rootDir(k))
	}
	return own.Find(filepath.Join(dir, "checks"), hide)
}

func checkIDs(more ...check.Check) []string {
	var ids []string
	for _, c := range append(allChecks(), more...) {
		ids = append(ids, c.Spec().ID)
	}
	return ids
}

// with opens the workspace, wires it, and calls f.
func (a *app) with(ctx context.Context, m mode, f func(ctx context.Context, w *cycle.Workspace) error) error {
	dir, err := filepath.Abs(a.dir)
	if err != nil {
		return errs.E(errs.Invalid, "workspace "+a.dir, err)
	}
	def, settings, err := load(dir)
	if err != nil {
		return err
	}
	keyDir, err := settings.KeysDir(def.Distribution)
	if err != nil {
		return err
	}
	mine, err := ownChecks(dir, keyDir)
	if err != nil {
		return err
	}
	if err := def.CheckIDs(checkIDs(mine...), security.RuleIDs()); err != nil {
		return err
	}
	w := &cycle.Workspace{Dir: dir, Definition: def, Settings: settings, Command: a.command(), Wait: a.wait}
	w.Clock, w.Talk, w.Checks, w.DNF = a.clock, talk{a}, checks(def.Builder.Kind), dnf.Find
	w.Checks = append(w.Checks, mine...)
	w.Compare = diffoscope.Compare
	database := filepath.Join(dir, ".slipway", "state.db")
	if m == write {
		if err := os.MkdirAll(filepath.Dir(database), 0o755); err != nil {
			return errs.E(errs.Unavailable, "the workspace cannot be written", err, errs.Hint("give yourself write permission on "+dir))
		}
		if w.State, err = state.Open(ctx, database, a.clock); err != nil {
			return err
		}
		defer w.State.Close()
		if w.Blobs, err = openBlobs(ctx, settings, write); err != nil {
			return err
		}
		if w.Tree, err = store.OpenTree(settings.PublicationDir()); err != nil {
			return err
		}
	} else {
		if w.State, err = state.OpenReadOnly(ctx, database); err != nil {
			return err
		}
		defer w.State.Close()
		if w.Blobs, err = openBlobs(ctx, settings, read); err != nil {
			return err
		}
		w.Tree = store.ReadTree(settings.PublicationDir())
	}
	w.Builder = func(m cycle.Means) (cycle.Builder, error) {
		def := def
		if m.Definition != nil {
			def = m.Definition
		}
		switch def.Builder.Kind {
		case config.BitBake:
			return bitbakeBuilder(def, settings, m), nil
		case config.Import:
			return importer(def, m), nil
		}
		return rpmbuild.New(rpmbuild.Options{Jobs: settings.Build.Jobs, Arches: def.Builder.Arches, Sandbox: settings.Build.Sandbox, Hide: []string{keyDir, rootDir(keyDir)}, Numbers: m.Numbers}), nil
	}
	var held signers // opened by Keys, at most once a command
	defer func() {
		if held != nil {
			held.Close()
		}
	}()
	w.Keys = func() (cycle.Keys, error) {
		k, s, err := a.cycleKeys(ctx, keyDir, def.Distribution, def.IsPublic(distro.SState))
		held = s
		return k, err
	}
	w.Public = func() (map[string][]byte, error) { return publicKeys(keyDir, def.Distribution) }
	w.Keyring = func() (*keyring.Keyring, error) {
		k, _, err := keyring.Folder{Dir: keyDir}.Load(def.Distribution)
		return k, err
	}
	w.Throwaway = func(now time.Time) (feed.Signer, error) {
		return sign.Generate(sign.Options{Name: def.Title + " candidate, throw-away", Algorithm: sign.Ed25519, Created: now})
	}
	return f(ctx, w)
}

// load reads the two documents of a workspace.
func load(dir string) (*config.Definition, *config.Settings, error) {
	path := filepath.Join(dir, "slipway.yaml")
	def, err := config.LoadDefinition(path)
	if errs.Is(err, errs.NotFound) {
		return nil, nil, noWorkspace(dir)
	}
	if err != nil {
		return nil, nil, err
	}
	settings, err := config.LoadSettings(filepath.Join(dir, "settings.yaml"), dir)
	return def, settings, err
}

func noWorkspace(dir string) error {
	return errs.E(errs.NotFound, fmt.Sprintf("%s is no workspace: it has no slipway.yaml", dir),
		errs.Hint("slipway init DIR --example halyard makes one; --dir names another"))
}

// talk joins the cycle's talk to the printer.
type talk struct{ a *app }

func (t talk) Step(title string) cycle.Task { return task{t.a.talk().Step(title)} }

type task struct{ *ui.Task }

func (t task) Step(title string) cycle.Task { return task{t.Task.Step(title)} }

func readFiles(names []string) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, f := range names {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, errs.E(errs.NotFound, "public key "+f, err)
		}
		out[f] = b
	}
	return out, nil
}
