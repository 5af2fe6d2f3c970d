package cli

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/config"
	"slipway/internal/cycle"
	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/sign"
	"slipway/internal/signer"
	"slipway/internal/tlog"
)

// signers is where signatures come from: a signer that runs (SLIPWAY_SIGNER names its
// socket), else a child that this process starts, else, where this program is not
// slipway itself (tests), this process.
type signers interface {
	Role(ctx context.Context, role keyring.Role, at time.Time) (*signer.Remote, error)
	Close() error
}

// signers opens the keys of a folder for roles.
func (a *app) signers(ctx context.Context, dir, distribution string, p passphrases, roles ...keyring.Role) (signers, error) {
	if socket := os.Getenv("SLIPWAY_SIGNER"); socket != "" {
		return signer.Dial(ctx, socket)
	}
	if a.Program == "" {
		l := &signer.Local{Folder: keyring.Folder{Dir: dir}, Distribution: distribution, Clock: a.clock, Passphrases: p.signer}
		return l, l.Unlock(ctx, roles...)
	}
	args := []string{"signer", "serve", "--keys", dir, "--distribution", distribution}
	for _, r := range roles {
		args = append(args, "--role", string(r))
	}
	if p.file != "" {
		args = append(args, "--passphrase-file", p.file)
	}
	return signer.Start(ctx, a.Program, args, a.Err)
}

// cycleKeys opens the keys that publishing needs; cache: that of the build cache, too.
func (a *app) cycleKeys(ctx context.Context, dir, distribution string, cache bool) (cycle.Keys, signers, error) {
	ring, _, err := keyring.Folder{Dir: dir}.Load(distribution)
	if err != nil {
		return cycle.Keys{}, nil, err
	}
	roles := []keyring.Role{keyring.Package, keyring.Metadata}
	if signsNotes(ring) {
		roles = append(roles, keyring.Log)
	}
	withLog := len(roles) > 2
	if cache {
		roles = append(roles, keyring.SState)
	}
	s, err := a.signers(ctx, dir, distribution, passphrases{}, roles...)
	if err != nil {
		return cycle.Keys{}, nil, err
	}
	var k cycle.Keys
	p, err := s.Role(ctx, keyring.Package, a.clock())
	if err == nil {
		k.Package, k.Epoch = p, p.Keys()[0].Epoch
		p, err = s.Role(ctx, keyring.Metadata, a.clock())
	}
	if err != nil {
		s.Close()
		return k, nil, err
	}
	k.Metadata = p
	if cache {
		if k.SState, err = s.Role(ctx, keyring.SState, a.clock()); err != nil {
			s.Close()
			return k, nil, err
		}
	}
	if withLog {
		if k.Log, err = a.logSigner(ctx, s, distribution); err == nil {
			k.LogBefore, k.LogKeys, err = logKeys(ring, k.Log)
		}
		if err != nil {
			s.Close()
			return k, nil, err
		}
	}
	if k.Files, err = (keyring.Folder{Dir: dir}).Files(distribution); err != nil {
		s.Close()
		return k, nil, err
	}
	return k, s, nil
}

// signsNotes reports whether there is a log key that can sign checkpoints. Key folders
// of older programs have none, or an RSA key; they publish without a log until they do.
func signsNotes(ring *keyring.Keyring) bool {
	for _, k := range ring.Of(keyring.Log) {
		if k.State == keyring.Current && k.Algorithm == sign.Ed25519 {
			return true
		}
	}
	return false
}

// logSigner signs the checkpoints of the distribution's log, whose origin is the
// distribution's name.
func (a *app) logSigner(ctx context.Context, s signers, distribution string) (tlog.Signer, error) {
	r, err := s.Role(ctx, keyring.Log, a.clock())
	if err != nil {
		return nil, err
	}
	public, err := r.Ed25519()
	if err != nil {
		return nil, err
	}
	return tlog.NewSigner(distribution, public, func(text []byte) ([]byte, error) { return r.SignCheckpoint(ctx, text) })
}

// logKeys gives the log keys beside the one that signs, whose checkpoints it continues
// whatever became of them, and the files of those that the log must name.
func logKeys(ring *keyring.Keyring, signs tlog.Signer) (before []tlog.Verifier, files []string, err error) {
	for _, k := range ring.Of(keyring.Log) {
		p, err := k.Public()
		if err != nil {
			return nil, nil, err
		}
		bare, ok := p.Ed25519()
		if !ok {
			continue
		}
		v, err := tlog.NewVerifier(signs.Name(), bare)
		if err != nil {
			return nil, nil, err
		}
		if v.KeyHash() != signs.KeyHash() {
			before = append(before, v)
		}
		if k.Number > 1 && k.State != keyring.Revoked {
			files = append(files, k.Name()+".asc")
		}
	}
	return before, files, nil
}

// publicKeys gives what clients must trust: for each role that feeds need, all its keys
// that are not revoked, each armoured and sound.
func publicKeys(dir, distribution string) (map[string][]byte, error) {
	k, _, err := keyring.Folder{Dir: dir}.Load(distribution)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	out := map[string][]byte{}
	for _, role := range []keyring.Role{keyring.Metadata, keyring.Package} {
		var b []byte
		if k != nil {
			b = k.Armored(role)
		}
		if len(b) == 0 {
			return nil, errs.E(errs.NotFound, fmt.Sprintf("the public %s key is not in %s", role, dir), errs.Hint("slipway key create"))
		}
		out[string(role)] = b
	}
	return out, nil
}

func (a *app) signerCmd() *cobra.Command {
	var socket, dir, distribution string
	var child bool
	var users []int
	var names []string
	var p passphrases
	serve := &cobra.Command{Use: "serve", Short: "hold the keys and sign for others, behind a Unix socket", Args: cobra.NoArgs,
		Example: "  slipway signer serve --socket /run/user/1000/slipway.sock\n  SLIPWAY_SIGNER=/run/user/1000/slipway.sock slipway publish 1.1",
		Long: `Serve opens the distribution's private keys (passphrases are asked for at once)
and signs by role what clients ask for: they send a hash, never get a key, and are
told apart by the kernel. What is signed is noted in signed.log in the key folder.
Publish starts a signer of its own when SLIPWAY_SIGNER names none.`,
		RunE: func(c *cobra.Command, _ []string) error {
			err := a.serveSigner(c.Context(), signerOptions{socket, dir, distribution, child, users, names, p})
			if child && err != nil {
				// The parent says it.
				return quietly{errs.Wrap(signer.Ready(a.Out, err), "tell the parent")}
			}
			return err
		}}
	f := serve.Flags()
	f.StringVar(&socket, "socket", "", "path of the socket (required)")
	f.StringVar(&dir, "keys", "", "the key folder (default: that of the workspace)")
	f.StringVar(&distribution, "distribution", "", "whose keys they are (default: that of the workspace)")
	f.IntSliceVar(&users, "allow-user", nil, "id of another user who may have something signed (repeat)")
	f.StringArrayVar(&names, "role", nil, "serve this role only (repeat)")
	f.BoolVar(&child, "child", false, "started by another slipway: end when it does")
	_ = f.MarkHidden("child")
	p.flag(serve)
	return group("signer", "the process that holds the keys: serve", "  slipway signer serve --socket ./signer.sock", serve)
}

type signerOptions struct {
	socket, dir, distribution string
	child                     bool
	users                     []int
	roles                     []string
	passphrases               passphrases
}

// serveSigner serves until ctx, or the parent, ends.
func (a *app) serveSigner(ctx context.Context, o signerOptions) error {
	if o.socket == "" {
		return errs.E(errs.Invalid, "no socket is named", errs.Hint("slipway signer serve --socket PATH"))
	}
	if o.dir == "" || o.distribution == "" {
		def, dir, err := a.keyDir()
		if err != nil {
			return err
		}
		o.dir, o.distribution = dir, def.Distribution
	}
	folder := keyring.Folder{Dir: o.dir}
	s := &signer.Server{Users: o.users, Local: &signer.Local{Folder: folder, Distribution: o.distribution, Clock: a.clock, Passphrases: o.passphrases.signer}}
	for _, n := range o.roles {
		r, err := keyring.ParseRole(n)
		if err != nil {
			return err
		}
		s.Roles = append(s.Roles, r)
	}
	unlock := s.Roles
	if unlock == nil {
		k, _, err := folder.Load(o.distribution)
		if err != nil {
			return err
		}
		for _, r := range keyring.Roles {
			if len(k.Of(r)) > 0 {
				unlock = append(unlock, r)
			}
		}
	}
	if err := s.Unlock(ctx, unlock...); err != nil {
		return err
	}
	l, err := signer.Listen(o.socket, len(o.users) > 0)
	if err != nil {
		return err
	}
	if o.child {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() {
			_, _ = bufio.NewReader(a.In).ReadByte() // it never sends any: this is its end
			cancel()
		}()
		if err := signer.Ready(a.Out, nil); err != nil {
			l.Close()
			return nil // nobody is left
		}
	} else {
		names := make([]string, len(unlock))
		for i, r := range unlock {
			names[i] = string(r)
		}
		fmt.Fprintf(a.Err, "signing for %s at %s: %s (Ctrl-C ends it)\n", o.distribution, o.socket, strings.Join(names, ", "))
	}
	err = s.Serve(ctx, l)
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	return err
}

// keyDir gives the workspace's definition and its key folder.
func (a *app) keyDir() (*config.Definition, string, error) {
	dir, err := absolute(a.dir)
	if err != nil {
		return nil, "", err
	}
	def, settings, err := load(dir)
	if err != nil {
		return nil, "", err
	}
	keys, err := settings.KeysDir(def.Distribution)
	return def, keys, err
}

// cores is how many files are hashed at once.
func cores() int { return runtime.NumCPU() }
