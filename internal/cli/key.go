package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/config"
	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/sign"
	"slipway/internal/ui"
)

func absolute(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", errs.E(errs.Invalid, "folder "+dir, err)
	}
	return abs, nil
}

func (a *app) keyCmd() *cobra.Command {
	return group("key", "the signing keys, by role: create, list, rotate, revoke and more", "  slipway key list\n  slipway key rotate --role package --overlap 180d",
		a.keyCreateCmd(), a.keyListCmd(), a.keyImportCmd(), a.keyUseCmd(), a.keyRotateCmd(), a.keyRevokeCmd(), a.keySignCmd(), a.keyExportCmd())
}

// keyMaker makes private keys, protected or not.
type keyMaker struct {
	passphrases
	open      bool // --no-passphrase
	algorithm string
}

func (m *keyMaker) flags(c *cobra.Command) {
	m.flag(c)
	c.Flags().BoolVar(&m.open, "no-passphrase", false, "keep the key so that whoever reads its file can use it")
	c.Flags().StringVar(&m.algorithm, "algorithm", sign.Ed25519, sign.Ed25519+" or "+sign.RSA3072)
}

// algorithmOf is what was asked for, but for the log, whose checkpoints only Ed25519 signs.
func (m *keyMaker) algorithmOf(role keyring.Role) string {
	if role == keyring.Log {
		return sign.Ed25519
	}
	return m.algorithm
}

// store writes a private key, protected unless that was not wanted.
func (m *keyMaker) store(ctx context.Context, k *sign.Key, path, role, what string) error {
	if m.open {
		return k.Save(path)
	}
	b, err := m.choose(ctx, role, what)
	if err != nil {
		return err
	}
	return k.Protect(path, b, sign.Argon2)
}

func (a *app) keyCreateCmd() *cobra.Command {
	var m keyMaker
	var root bool
	var to, name string
	var roles []string
	c := &cobra.Command{Use: "create", Short: "make the distribution's keys that are missing, or a root key", Args: cobra.NoArgs,
		Example: "  slipway key create\n  slipway key create --role sstate --no-passphrase\n  slipway key create --root --to /media/stick",
		Long: `Create makes a key for each role that has none: package, metadata, sstate, log. They
lie in your configuration folder, outside the workspace, encrypted by a passphrase.
With --root it makes the key that signs the list of all others; it belongs on a stick
in a drawer, and is needed only when that list changes.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if root {
				return a.createRoot(c.Context(), m, to, name)
			}
			def, dir, err := a.keyDir()
			if err != nil {
				return err
			}
			made, err := a.createKeys(c.Context(), def, dir, m, roles...)
			if err != nil {
				return err
			}
			if !made {
				a.talk().Line("the keys of " + def.Distribution + " exist, and are never replaced: packages are signed with them")
			}
			return a.listKeys(def, dir)
		}}
	m.flags(c)
	c.Flags().StringArrayVar(&roles, "role", nil, "of this role only (repeat)")
	c.Flags().BoolVar(&root, "root", false, "make a root key instead")
	c.Flags().StringVar(&to, "to", "", "with --root: the folder to write it to")
	c.Flags().StringVar(&name, "name", "", "with --root: the distribution's title, where there is no workspace")
	return c
}

// createRoot writes root.key and root.asc to a folder.
func (a *app) createRoot(ctx context.Context, m keyMaker, to, name string) error {
	if to == "" {
		return errs.E(errs.Invalid, "a root key does not lie beside the others", errs.Hint("slipway key create --root --to DIR, a stick for instance"))
	}
	if name == "" {
		def, dir, err := a.keyDir()
		if err != nil {
			return errs.E(errs.KindOf(err), "whose root key is it", err, errs.Hint("--name \"Halyard Linux\""))
		}
		abs, err := absolute(to)
		if err != nil {
			return err
		}
		if abs == filepath.Clean(dir) {
			return errs.E(errs.Denied, "the root key would lie beside the keys that it vouches for", errs.Hint("name another folder, a stick for instance"))
		}
		name = def.Title
	}
	k, err := sign.Generate(sign.Options{Name: name + " root key", Algorithm: m.algorithm, Created: a.clock()})
	if err != nil {
		return err
	}
	path := filepath.Join(to, "root.key")
	if err := m.store(ctx, k, path, "root", "the root key"); err != nil {
		return err
	}
	public := filepath.Join(to, "root.asc")
	if err := os.WriteFile(public, k.PublicArmored(), 0o644); err != nil {
		return errs.E(errs.Unavailable, "write "+public, err)
	}
	return a.print(map[string]string{"fingerprint": k.Fingerprint(), "path": path, "public": public}, func(out io.Writer) {
		fmt.Fprintf(out, "root key %s\n  private: %s\n  public:  %s\nnext: slipway key sign-keyring --root %s, then take %s offline; keep a second copy elsewhere\n", k.Fingerprint(), path, public, path, to)
	})
}

// createKeys makes the keys of roles (none named: all) that are missing; false means
// that none was. The public half is written last: a role with it is complete.
func (a *app) createKeys(ctx context.Context, def *config.Definition, dir string, m keyMaker, names ...string) (bool, error) {
	roles := keyring.Roles
	if len(names) > 0 {
		roles = nil
	}
	for _, n := range names {
		r, err := keyring.ParseRole(n)
		if err != nil {
			return false, err
		}
		roles = append(roles, r)
	}
	f := keyring.Folder{Dir: dir}
	made := false
	for _, role := range roles {
		one, err := a.createKey(ctx, f, def, role, m)
		if err != nil {
			return made, errs.Wrap(err, "%s key", role)
		}
		made = made || one
	}
	return made, nil
}

func (a *app) createKey(ctx context.Context, f keyring.Folder, def *config.Definition, role keyring.Role, m keyMaker) (bool, error) {
	ring, err := f.Draft(def.Distribution)
	if err != nil {
		return false, err
	}
	if keys, err := ring.Signing(role, a.clock()); err == nil {
		k := keys[0]
		if f.Held(k) == "" {
			return false, f.Lost(k)
		}
		if _, err := os.Stat(f.PublicPath(k)); err == nil {
			return false, nil
		}
		return true, f.WritePublic(k)
	}
	next := keyring.Key{Role: role, Number: len(ring.Of(role)) + 1}
	path := f.PrivatePath(next)
	k, err := sign.Unlock(path, func() ([]byte, error) { return m.passphrases.open(ctx, string(role), path) })
	if errs.Is(err, errs.NotFound) {
		k, err = sign.Generate(sign.Options{Name: def.Title + " " + string(role) + " key", Algorithm: m.algorithmOf(role), Created: a.clock()})
		if err == nil {
			err = m.store(ctx, k, path, string(role), "the "+string(role)+" key")
		}
	}
	if err != nil {
		return false, err
	}
	added, err := ring.Add(role, k.Public(), a.clock())
	if err != nil {
		return false, err
	}
	return true, a.keep(f, ring, added)
}

// keep writes what became of a keyring, and the public half of a new key.
func (a *app) keep(f keyring.Folder, ring *keyring.Keyring, added ...keyring.Key) error {
	_, st, err := f.Load(ring.Distribution)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	// One key a role and no root: the public keys say it all.
	plain := !st.Root && !st.Signed && !st.Pending
	for _, k := range ring.Keys {
		plain = plain && k.Number == 1 && k.State == keyring.Current && k.Until.IsZero()
	}
	if !plain {
		if err := f.Save(ring); err != nil {
			return err
		}
	}
	for _, k := range added {
		if err := f.WritePublic(k); err != nil {
			return err
		}
	}
	return nil
}

type keyInfo struct {
	Role        string    `json:"role"`
	Name        string    `json:"name"`
	Fingerprint string    `json:"fingerprint"`
	UserID      string    `json:"user_id"`
	Algorithm   string    `json:"algorithm"`
	State       string    `json:"state"`
	From        time.Time `json:"from"`
	Until       time.Time `json:"until,omitzero"`
	Because     string    `json:"because,omitempty"`
	Held        string    `json:"held"` // file, gpg:<fingerprint>, or nothing
	Path        string    `json:"path"` // of the public key
	key         keyring.Key
}

func (a *app) keyListCmd() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "list the distribution's keys, what each is for, and until when", Args: cobra.NoArgs,
		Example: "  slipway key list\n  slipway key list --json",
		RunE: func(*cobra.Command, []string) error {
			def, dir, err := a.keyDir()
			if err != nil {
				return err
			}
			return a.listKeys(def, dir)
		}}
}

// listKeys shows the keyring with all changes, signed or not.
func (a *app) listKeys(def *config.Definition, dir string) error {
	f := keyring.Folder{Dir: dir}
	_, st, err := f.Load(def.Distribution)
	if err != nil {
		return err
	}
	ring, err := f.Draft(def.Distribution)
	if err != nil {
		return err
	}
	now := a.clock()
	infos := []keyInfo{}
	for _, k := range ring.Keys {
		infos = append(infos, keyInfo{string(k.Role), k.Name(), k.Fingerprint, k.UserID, k.Algorithm, string(k.State), k.From, k.Until, k.Because, f.Held(k), f.PublicPath(k), k})
	}
	return a.print(infos, func(out io.Writer) {
		rows := [][]string{}
		for _, i := range infos {
			held := i.Held
			if held == "" {
				held = "not here"
			}
			rows = append(rows, []string{i.Role, i.Fingerprint, i.Name, standing(i.key, now), held, i.UserID})
		}
		ui.Table(out, []string{"ROLE", "FINGERPRINT", "NAME", "STATE", "PRIVATE", "USER"}, rows)
		fmt.Fprintf(out, "\nthey lie in %s; keep a copy of that folder offline\n", dir)
		switch {
		case st.Signed && !st.Pending:
			fmt.Fprintf(out, "keyring number %d, signed by the root key on %s\n", ring.Number, when(ring.At))
		case st.Signed:
			fmt.Fprintf(out, "keyring number %d is in force; changes wait for the root key: slipway key sign-keyring --root FILE\n", ring.Number)
		default:
			fmt.Fprintln(out, "no root key has signed them: slipway key create --root --to DIR (docs/keys.md)")
		}
	})
}

// standing says in words what a key does at that time.
func standing(k keyring.Key, now time.Time) string {
	switch {
	case k.State != keyring.Current:
		return fmt.Sprintf("%s %s: %s", k.State, k.Changed.Format(time.DateOnly), k.Because)
	case now.Before(k.From):
		return "signs from " + k.From.Format(time.DateOnly)
	case !k.Until.IsZero() && !now.Before(k.Until):
		return "ended " + k.Until.Format(time.DateOnly)
	case !k.Until.IsZero():
		return "signs until " + k.Until.Format(time.DateOnly)
	}
	return "signs"
}

// days reads a duration that may be in days: 180d, 36h.
func days(s string) (time.Duration, error) {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		if d, err := strconv.Atoi(n); err == nil && d >= 0 && d < 36500 {
			return time.Duration(d) * 24 * time.Hour, nil
		}
	} else if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return d, nil
	}
	return 0, errs.E(errs.Invalid, fmt.Sprintf("%q is no time span", s), errs.Hint("180d, or 36h"))
}
