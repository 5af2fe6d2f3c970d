package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/sign"
)

// comesFrom is a key that somebody else made: a private key file, or gpg:FINGERPRINT.
type comesFrom struct {
	public *sign.Public
	file   *sign.Key // nil for gpg's
	ref    string
}

func bring(ctx context.Context, from string, p passphrases) (comesFrom, error) {
	if fpr, ok := strings.CutPrefix(from, "gpg:"); ok {
		k, err := sign.OpenAgent(ctx, fpr, sign.AgentOptions{})
		if err != nil {
			return comesFrom{}, err
		}
		return comesFrom{public: k.Public(), ref: "gpg:" + k.Fingerprint()}, nil
	}
	k, err := sign.Unlock(from, func() ([]byte, error) { return p.open(ctx, "import", from) })
	if err != nil {
		return comesFrom{}, err
	}
	return comesFrom{public: k.Public(), file: k}, nil
}

// place puts the private half where the folder expects it.
func (b comesFrom) place(ctx context.Context, f keyring.Folder, k keyring.Key, m keyMaker) error {
	if b.file == nil {
		return f.Refer(k, b.ref)
	}
	return m.store(ctx, b.file, f.PrivatePath(k), string(k.Role), "the "+string(k.Role)+" key")
}

// change loads the draft, lets f change it, and shows what came of it.
func (a *app) change(do func(f keyring.Folder, ring *keyring.Keyring) error) error {
	def, dir, err := a.keyDir()
	if err != nil {
		return err
	}
	folder := keyring.Folder{Dir: dir}
	ring, err := folder.Draft(def.Distribution)
	if err != nil {
		return err
	}
	if err := do(folder, ring); err != nil {
		return err
	}
	return a.listKeys(def, dir)
}

func (a *app) keyImportCmd() *cobra.Command {
	var m keyMaker
	var role string
	c := &cobra.Command{Use: "import FILE", Short: "take a private key that another program made", Args: cobra.ExactArgs(1),
		Example: "  gpg --export-secret-keys --armor 0123ABCD > secret.asc\n  slipway key import secret.asc --role package",
		RunE: func(c *cobra.Command, args []string) error {
			r, err := needRole(role)
			if err != nil {
				return err
			}
			return a.change(func(f keyring.Folder, ring *keyring.Keyring) error {
				return a.take(c.Context(), f, ring, r, args[0], m)
			})
		}}
	m.flags(c)
	c.Flags().StringVar(&role, "role", "", "what it is for: package, metadata, sstate or log")
	return c
}

func (a *app) keyUseCmd() *cobra.Command {
	var role string
	c := &cobra.Command{Use: "use gpg:FINGERPRINT", Short: "sign for a role with a key that a gpg-agent holds", Args: cobra.ExactArgs(1),
		Example: "  slipway key use gpg:0123456789ABCDEF0123456789ABCDEF01234567 --role package",
		RunE: func(c *cobra.Command, args []string) error {
			r, err := needRole(role)
			if err != nil {
				return err
			}
			if !strings.HasPrefix(args[0], "gpg:") {
				return errs.E(errs.Invalid, fmt.Sprintf("%q names no key of a gpg-agent", args[0]), errs.Hint("slipway key use gpg:FINGERPRINT; slipway key import takes a file"))
			}
			return a.change(func(f keyring.Folder, ring *keyring.Keyring) error {
				return a.take(c.Context(), f, ring, r, args[0], keyMaker{})
			})
		}}
	c.Flags().StringVar(&role, "role", "", "what it is for: package, metadata, sstate or log")
	return c
}

func needRole(name string) (keyring.Role, error) {
	if name == "" {
		return "", errs.E(errs.Invalid, "for which role?", errs.Hint("--role package, metadata, sstate or log"))
	}
	return keyring.ParseRole(name)
}

// take adds somebody else's key as a role's first.
func (a *app) take(ctx context.Context, f keyring.Folder, ring *keyring.Keyring, role keyring.Role, from string, m keyMaker) error {
	b, err := bring(ctx, from, m.passphrases)
	if err != nil {
		return err
	}
	k, err := ring.Add(role, b.public, a.clock())
	if err != nil {
		return err
	}
	if err := b.place(ctx, f, k, m); err != nil {
		return err
	}
	return a.keep(f, ring, k)
}

func (a *app) keyRotateCmd() *cobra.Command {
	var m keyMaker
	var role, overlap, with string
	var lost bool
	c := &cobra.Command{Use: "rotate", Short: "put a new key in the place of a role's key, with an overlap", Args: cobra.NoArgs,
		Example: "  slipway key rotate --role package --overlap 180d\n  slipway key rotate --role metadata --with gpg:0123456789ABCDEF0123456789ABCDEF01234567",
		Long: `Rotate adds a new key for a role. Until the overlap ends both are trusted, and devices
that update get the new one. Metadata is signed by both from now on; packages by
the old key until the overlap ends, and by the new one from then on.
With --lost the old key, which nobody has any more, is retired at once: see docs/keys.md.`,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := needRole(role)
			if err != nil {
				return err
			}
			span, err := days(overlap)
			if err != nil {
				return err
			}
			return a.change(func(f keyring.Folder, ring *keyring.Keyring) error {
				now := a.clock()
				title := ring.Distribution
				if keys := ring.Of(r); len(keys) > 0 {
					title = strings.TrimSuffix(keys[0].UserID, " "+role+" key")
				}
				b := comesFrom{}
				if with != "" {
					b, err = bring(c.Context(), with, m.passphrases)
				} else {
					b.file, err = sign.Generate(sign.Options{Name: title + " " + role + " key", Algorithm: m.algorithmOf(r), Created: now})
					if err == nil {
						b.public = b.file.Public()
					}
				}
				if err != nil {
					return err
				}
				var k keyring.Key
				if lost {
					k, err = a.replaceLost(ring, r, b.public)
				} else {
					k, err = ring.Rotate(r, b.public, span, now)
				}
				if err != nil {
					return err
				}
				if err := b.place(c.Context(), f, k, m); err != nil {
					return err
				}
				return a.keep(f, ring, k)
			})
		}}
	m.flags(c)
	c.Flags().StringVar(&role, "role", "", "package, metadata, sstate or log")
	c.Flags().StringVar(&overlap, "overlap", "180d", "how long both keys are in use")
	c.Flags().StringVar(&with, "with", "", "the new key: a private key file, or gpg:FINGERPRINT (default: it is made)")
	c.Flags().BoolVar(&lost, "lost", false, "the old private key is lost: there is no overlap")
	return c
}

func (a *app) replaceLost(ring *keyring.Keyring, role keyring.Role, p *sign.Public) (keyring.Key, error) {
	old, err := ring.Signing(role, a.clock())
	if err != nil {
		return keyring.Key{}, err
	}
	for _, k := range old {
		if _, err := ring.Retire(k.Fingerprint, "its private half was lost", a.clock()); err != nil {
			return keyring.Key{}, err
		}
	}
	return ring.Add(role, p, a.clock())
}

func (a *app) keyRevokeCmd() *cobra.Command {
	var because string
	c := &cobra.Command{Use: "revoke KEY", Short: "take every trust from a key that somebody else may have", Args: cobra.ExactArgs(1),
		Example: "  slipway key revoke package-1 --because \"the laptop was stolen\"",
		Long: `Revoke ends a key, named by its name or fingerprint. Nothing that it signed counts
any more, whatever date it bears; our signer refuses it at once. Then make another
(slipway key create --role ROLE), let the root key sign, and publish: docs/keys.md.`,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.change(func(f keyring.Folder, ring *keyring.Keyring) error {
				k, err := ring.Revoke(args[0], because, a.clock())
				if err != nil {
					return err
				}
				if err := f.Save(ring); err != nil {
					return err
				}
				a.talk().Line(fmt.Sprintf("%s is revoked; next: slipway key create --role %s, slipway key sign-keyring --root FILE", k.Name(), k.Role))
				return nil
			})
		}}
	c.Flags().StringVar(&because, "because", "", "the reason, published with the keyring")
	return c
}

func (a *app) keySignCmd() *cobra.Command {
	var p passphrases
	var roots []string
	c := &cobra.Command{Use: "sign-keyring", Short: "sign the list of keys with the offline root key", Args: cobra.NoArgs,
		Example: "  slipway key sign-keyring --root /media/stick/root.key\n  slipway key sign-keyring --root old/root.key --root new/root.key",
		Long: `Sign-keyring makes the keys and changes that are there the keyring in force, signed
by the root key. The root key is needed for nothing else: publishing goes on without.
To replace the root key, name the old one and the new one.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if len(roots) == 0 {
				return errs.E(errs.Invalid, "no root key is named", errs.Hint("slipway key sign-keyring --root FILE"), errs.Hint("slipway key create --root --to DIR makes one"))
			}
			def, dir, err := a.keyDir()
			if err != nil {
				return err
			}
			var keys []sign.Signer
			for _, path := range roots {
				k, err := sign.Unlock(path, func() ([]byte, error) { return p.open(c.Context(), "root", "the root key "+path) })
				if err != nil {
					return errs.Wrap(err, "root key")
				}
				keys = append(keys, k)
			}
			k, err := keyring.Folder{Dir: dir}.Sign(c.Context(), def.Distribution, keys, a.clock())
			if err != nil {
				return err
			}
			return a.print(k, func(out io.Writer) {
				fmt.Fprintf(out, "keyring number %d of %s: %d keys, signed by %s\nthe root key is not needed to publish: take it offline\n", k.Number, k.Distribution, len(k.Keys), k.Roots[0].Fingerprint)
			})
		}}
	p.flag(c)
	c.Flags().StringArrayVar(&roots, "root", nil, "private root key file (repeat to replace a root)")
	return c
}

func (a *app) keyExportCmd() *cobra.Command {
	var to, private string
	var p passphrases
	c := &cobra.Command{Use: "export", Short: "write the public keys as files for clients, or one private key for gpg", Args: cobra.NoArgs,
		Example: "  slipway key export --to ./keys\n  slipway key export --private package-1 --to ./secret",
		RunE: func(c *cobra.Command, _ []string) error {
			def, dir, err := a.keyDir()
			if err != nil {
				return err
			}
			f := keyring.Folder{Dir: dir}
			if private != "" {
				return a.exportPrivate(c.Context(), f, def.Distribution, private, to, p)
			}
			files, err := publicFiles(f, def.Distribution)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(to, 0o755); err != nil {
				return errs.E(errs.Unavailable, "make "+to, err)
			}
			var names []string
			for _, x := range files {
				name := filepath.Join(to, x.name)
				if err := os.WriteFile(name, x.data, 0o644); err != nil {
					return errs.E(errs.Unavailable, "write "+name, err)
				}
				names = append(names, name)
			}
			return a.print(names, func(w io.Writer) {
				for _, n := range names {
					fmt.Fprintln(w, n)
				}
			})
		}}
	c.Flags().StringVar(&to, "to", ".", "the folder to write to")
	c.Flags().StringVar(&private, "private", "", "write this private key instead, encrypted so that gpg can import it")
	p.flag(c)
	return c
}

type namedFile struct {
	name string
	data []byte
}

// publicFiles are <distribution>-<role>.asc with all trusted keys of each role, and
// the signed keyring if there is one.
func publicFiles(f keyring.Folder, distribution string) ([]namedFile, error) {
	k, _, err := f.Load(distribution)
	if err != nil {
		return nil, err
	}
	all, err := f.Files(distribution)
	if err != nil {
		return nil, err
	}
	var out []namedFile
	for _, r := range keyring.Roles {
		if b := k.Armored(r); len(b) > 0 {
			out = append(out, namedFile{distribution + "-" + string(r) + ".asc", b})
		}
	}
	for _, n := range []string{"keyring.json", "keyring.json.asc", "root.asc"} {
		if all[n] != nil {
			out = append(out, namedFile{n, all[n]})
		}
	}
	return out, nil
}

// exportPrivate writes a private key with the passphrase that it has, in the form that gpg reads.
func (a *app) exportPrivate(ctx context.Context, f keyring.Folder, distribution, name, to string, p passphrases) error {
	ring, err := f.Draft(distribution)
	if err != nil {
		return err
	}
	k, err := ring.Find(name)
	if err != nil {
		return err
	}
	if f.Held(k) != "file" {
		return f.Lost(k)
	}
	var secret []byte
	key, err := sign.Unlock(f.PrivatePath(k), func() ([]byte, error) {
		secret, err = p.key(ctx, k)
		return secret, err
	})
	if err != nil {
		return err
	}
	if secret == nil {
		if secret, err = p.choose(ctx, string(k.Role), "the exported key"); err != nil {
			return err
		}
	}
	path := filepath.Join(to, distribution+"-"+k.Name()+".key")
	if err := key.Protect(path, secret, sign.Iterated); err != nil {
		return err
	}
	return a.print(map[string]string{"path": path}, func(out io.Writer) { fmt.Fprintln(out, path) })
}
