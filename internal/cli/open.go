package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"slipway/internal/check"
	"slipway/internal/check/boots"
	"slipway/internal/check/installs"
	"slipway/internal/check/selfupgrades"
	"slipway/internal/check/upgrades"
	"slipway/internal/check/versions"
	"slipway/internal/config"
	"slipway/internal/cycle"
	"slipway/internal/dnf"
	"slipway/internal/errs"
	"slipway/internal/feed"
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

// checks are all checks, in the order in which they are shown.
func checks() []check.Check {
	return []check.Check{versions.New(), installs.New(), upgrades.New(), boots.New(), selfupgrades.New()}
}

func checkIDs() []string {
	var ids []string
	for _, c := range checks() {
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
	if err := def.CheckIDs(checkIDs()); err != nil {
		return err
	}
	w := &cycle.Workspace{Dir: dir, Definition: def, Settings: settings, Command: a.command(), Wait: a.wait}
	w.Clock, w.Talk, w.Checks, w.DNF = a.clock, talk{a}, checks(), dnf.Find
	keyDir, err := settings.KeysDir(def.Distribution)
	if err != nil {
		return err
	}
	database := filepath.Join(dir, ".slipway", "state.db")
	if m == write {
		if err := os.MkdirAll(filepath.Dir(database), 0o755); err != nil {
			return errs.E(errs.Unavailable, "the workspace cannot be written", err, errs.Hint("give yourself write permission on "+dir))
		}
		if w.State, err = state.Open(ctx, database, a.clock); err != nil {
			return err
		}
		defer w.State.Close()
		if w.Blobs, err = store.OpenBlobs(settings.StoreDir()); err != nil {
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
		w.Blobs, w.Tree = store.ReadBlobs(settings.StoreDir()), store.ReadTree(settings.PublicationDir())
	}
	w.Builder = func(n cycle.Numbers) (cycle.Builder, error) {
		return rpmbuild.New(rpmbuild.Options{Jobs: settings.Build.Jobs, Arches: def.Builder.Arches, Sandbox: settings.Build.Sandbox, Hide: []string{keyDir}, Numbers: n}), nil
	}
	w.Keys = func() (cycle.Keys, error) {
		p, err := loadKey(keyDir, "package")
		if err != nil {
			return cycle.Keys{}, err
		}
		m, err := loadKey(keyDir, "metadata")
		if err != nil {
			return cycle.Keys{}, err
		}
		return cycle.Keys{Package: p, Metadata: m}, fit(keyDir, map[string]*sign.Key{"package": p, "metadata": m})
	}
	w.Public = func() (map[string][]byte, error) { return publicKeys(keyDir) }
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

// roles are the keys of a distribution, each a file <role>.key (private) and
// <role>.asc (public) in its key folder.
var roles = []string{"metadata", "package"}

func loadKey(dir, role string) (*sign.Key, error) {
	k, err := sign.Load(filepath.Join(dir, role+".key"))
	if errs.Is(err, errs.NotFound) {
		return nil, errs.E(errs.NotFound, fmt.Sprintf("the %s key is not in %s", role, dir),
			errs.Hint("copy the distribution's key files there; slipway key create makes keys where there are none"))
	}
	return k, errs.Wrap(err, "%s key", role)
}

// fit refuses a private key that is not the one whose public half the candidate
// was built and tested with.
func fit(dir string, private map[string]*sign.Key) error {
	public, err := publicKeys(dir)
	if err != nil {
		return err
	}
	for _, role := range roles {
		ks, err := sign.ParsePublic(public[role])
		if err != nil {
			return err
		}
		if got := private[role].Fingerprint(); got != ks[0].Fingerprint() {
			return errs.E(errs.Denied, fmt.Sprintf("the private %s key in %s is another than the public one: %s, public is %s", role, dir, got, ks[0].Fingerprint()),
				errs.Hint("put back the distribution's own key files; devices trust no other"))
		}
	}
	return nil
}

// publicKeys reads the public keys, each armoured and sound.
func publicKeys(dir string) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, role := range roles {
		path := filepath.Join(dir, role+".asc")
		b, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil, errs.E(errs.NotFound, fmt.Sprintf("the public %s key is not in %s", role, dir), errs.Hint("slipway key create"))
		}
		if err != nil {
			return nil, errs.E(errs.Unavailable, "read the public keys", err)
		}
		if _, err := sign.ParsePublic(b); err != nil {
			return nil, errs.E(errs.Invalid, "the public "+role+" key "+path, err, errs.Hint("remove that file; slipway key create writes it again from the private key"))
		}
		out[role] = b
	}
	return out, nil
}

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
