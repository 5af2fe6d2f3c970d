package sign

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"slipway/internal/errs"
)

// AgentKey is a key that a gpg-agent holds: in its own files, on a smartcard or a
// hardware token. The agent signs digests; the packets around them are made here,
// so that a signature is, to the byte, the one that the same key in a file gives
// (Ed25519 and RSA of OpenPGP are deterministic). It implements [MidstateSigner] and
// may be used by several goroutines; the agent does one signature at a time.
type AgentKey struct {
	public     *Public
	keygrip    string
	socket     string
	passphrase func() ([]byte, error)

	mu   sync.Mutex
	conn *assuan // nil: not connected
}

var _ MidstateSigner = (*AgentKey)(nil)

// AgentOptions say how to reach a gpg-agent.
type AgentOptions struct {
	Home       string                 // GNUPGHOME; "" is gpg's own default
	Passphrase func() ([]byte, error) // answers the agent; nil lets it ask with its pinentry
}

// OpenAgent finds a key of a gpg-agent by its fingerprint (40 hexadecimal digits,
// in any case) and starts the agent if need be. The key must be a primary key with a
// private part that the agent has. Errors: Unavailable without gpg, NotFound, Invalid,
// Denied for a key that must not sign ([Public.Check] as of now).
func OpenAgent(ctx context.Context, fingerprint string, o AgentOptions) (*AgentKey, error) {
	fingerprint = strings.ToLower(strings.ReplaceAll(fingerprint, " ", ""))
	if len(fingerprint) != 40 || strings.Trim(fingerprint, "0123456789abcdef") != "" {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("%q is no fingerprint", fingerprint), errs.Hint("gpg --list-secret-keys shows 40 hexadecimal digits for each key"))
	}
	armored, err := gnupg(ctx, "gpg", o.Home, "--batch", "--no-tty", "--armor", "--export", fingerprint)
	if err != nil {
		return nil, err
	}
	if len(armored) == 0 {
		return nil, errs.E(errs.NotFound, "gpg has no key "+fingerprint, errs.Hint("gpg --list-secret-keys; is GNUPGHOME the right folder?"))
	}
	list, err := ParsePublic(armored)
	if err != nil {
		return nil, errs.Wrap(err, "key %s of gpg", fingerprint)
	}
	if len(list) != 1 || list[0].Fingerprint() != fingerprint {
		return nil, errs.E(errs.Invalid, fingerprint+" is a subkey", errs.Hintf("name its primary key, %s, which must be able to sign: rpm does not reliably know subkeys", list[0].Fingerprint()))
	}
	if err := list[0].Check(time.Now()); err != nil {
		return nil, err
	}
	secret, err := gnupg(ctx, "gpg", o.Home, "--batch", "--no-tty", "--with-colons", "--with-keygrip", "--list-secret-keys", fingerprint)
	if err != nil {
		return nil, errs.E(errs.NotFound, "gpg has the public part of "+fingerprint+" only", err, errs.Hint("insert the token, or import the private part"))
	}
	k := &AgentKey{public: list[0], keygrip: keygrip(secret), passphrase: o.Passphrase}
	out, err := gnupg(ctx, "gpg-connect-agent", o.Home, "GETINFO socket_name", "/bye")
	if err != nil {
		return nil, err
	}
	line, _, _ := strings.Cut(string(out), "\n")
	socket, ok := strings.CutPrefix(line, "D ")
	if k.keygrip == "" || !ok {
		return nil, errs.E(errs.Unavailable, "gpg does not say where key "+fingerprint+" is", errs.Hint("gpg 2.2 or newer is needed"))
	}
	k.socket = string(unescape([]byte(socket)))
	return k, nil
}

// keygrip gives the agent's name of the first primary key in a listing with colons.
func keygrip(listing []byte) string {
	primary := false
	for line := range strings.Lines(string(listing)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		switch {
		case f[0] == "sec" && len(f) > 14 && f[14] != "#": // #: the private part is absent
			primary = true
		case f[0] == "ssb":
			return ""
		case f[0] == "grp" && primary && len(f) > 9:
			return f[9]
		}
	}
	return ""
}

func gnupg(ctx context.Context, program, home string, args ...string) ([]byte, error) {
	if _, err := exec.LookPath(program); err != nil {
		return nil, errs.E(errs.Unavailable, program+" is not installed", errs.Hint("apt-get install gnupg"))
	}
	if home != "" {
		args = append([]string{"--homedir", home}, args...)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, errs.E(errs.Failed, fmt.Sprintf("%s %s: %s", program, strings.Join(args, " "), strings.TrimSpace(stderr.String())), err)
	}
	return out, nil
}

// Fingerprint implements [Signer].
func (k *AgentKey) Fingerprint() string { return k.public.Fingerprint() }

// KeyID implements [Signer].
func (k *AgentKey) KeyID() string { return k.public.KeyID() }

// UserID implements [Signer].
func (k *AgentKey) UserID() string { return k.public.UserID() }

// PublicArmored implements [Signer].
func (k *AgentKey) PublicArmored() []byte { return k.public.Armored() }

// RPMTag implements [Signer].
func (k *AgentKey) RPMTag() int { return k.public.RPMTag() }

// Public gives the public part.
func (k *AgentKey) Public() *Public { return k.public }

// Sign implements [Signer].
func (k *AgentKey) Sign(ctx context.Context, message io.Reader, at time.Time) ([]byte, error) {
	m, err := Hash(ctx, message)
	if err != nil {
		return nil, err
	}
	return k.SignMidstate(ctx, m, at)
}

// SignMidstate implements [MidstateSigner].
func (k *AgentKey) SignMidstate(ctx context.Context, m Midstate, at time.Time) ([]byte, error) {
	sig, err := signMidstate(ctx, k.public.entity.PrimaryKey, k.signDigest, m, at)
	if err != nil {
		return nil, err
	}
	// A token may hold another key than its stub says.
	_, err = VerifyMidstate([]*Public{k.public}, m, sig)
	return sig, errs.Wrap(err, "what the gpg-agent signed")
}

// Close ends the connection to the agent, which lives on.
func (k *AgentKey) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn == nil {
		return nil
	}
	err := k.conn.c.Close()
	k.conn = nil
	return err
}

func (k *AgentKey) signDigest(ctx context.Context, digest []byte) ([][]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn == nil {
		c, err := dialAgent(ctx, k.socket, k.passphrase)
		if err != nil {
			return nil, err
		}
		k.conn = c
	}
	stop := context.AfterFunc(ctx, func() { k.conn.c.Close() })
	defer stop()
	out, err := k.conn.sign(k.keygrip, digest)
	if err != nil {
		k.conn.c.Close()
		k.conn = nil
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return parseSigVal(out)
}
