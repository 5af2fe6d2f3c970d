package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/ui"
)

// passphrases is where the passphrase of a key comes from: the file of
// --passphrase-file; SLIPWAY_PASSPHRASE_<ROLE>; SLIPWAY_PASSPHRASE; the file that
// SLIPWAY_PASSPHRASE_FILE names; the terminal.
type passphrases struct {
	file string // of --passphrase-file
}

func (p *passphrases) flag(c *cobra.Command) {
	c.Flags().StringVar(&p.file, "passphrase-file", "", "file with the keys' passphrase (else SLIPWAY_PASSPHRASE, SLIPWAY_PASSPHRASE_FILE, or the terminal)")
}

// given looks for a passphrase without asking; false when there is none. role is a
// key's role, or "root".
func (p *passphrases) given(role string) ([]byte, bool, error) {
	if p.file != "" {
		b, err := readPassphrase(p.file)
		return b, err == nil, err
	}
	for _, name := range []string{"SLIPWAY_PASSPHRASE_" + strings.ToUpper(role), "SLIPWAY_PASSPHRASE"} {
		if v := os.Getenv(name); v != "" {
			return []byte(v), true, nil
		}
	}
	if f := os.Getenv("SLIPWAY_PASSPHRASE_FILE"); f != "" {
		b, err := readPassphrase(f)
		return b, err == nil, err
	}
	return nil, false, nil
}

func readPassphrase(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if os.IsNotExist(err) {
		return nil, errs.E(errs.NotFound, "no passphrase file "+path)
	}
	var b []byte
	if err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o077 != 0 {
		return nil, errs.E(errs.Denied, fmt.Sprintf("others may read the passphrase file %s (mode %04o)", path, st.Mode().Perm()), errs.Hintf("chmod 600 %s", path))
	}
	if err == nil {
		b, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, errs.E(errs.Unavailable, "read the passphrase file", err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	if line = bytes.TrimRight(line, "\r"); len(line) == 0 {
		return nil, errs.E(errs.Invalid, "the passphrase file "+path+" begins with an empty line")
	}
	return line, nil
}

const noPassphrase = "--passphrase-file FILE, SLIPWAY_PASSPHRASE, or a terminal"

// open gives the passphrase of an existing key.
func (p *passphrases) open(ctx context.Context, role, what string) ([]byte, error) {
	b, ok, err := p.given(role)
	if ok || err != nil {
		return b, err
	}
	b, err = ui.Secret(ctx, "Passphrase of "+what+": ")
	if errs.Is(err, errs.Denied) {
		return nil, errs.E(errs.Denied, what+" is protected by a passphrase, and there is none", errs.Hint(noPassphrase))
	}
	return b, err
}

// key is open for the signer.
func (p *passphrases) key(ctx context.Context, k keyring.Key) ([]byte, error) {
	return p.open(ctx, string(k.Role), "the "+string(k.Role)+" key "+k.Fingerprint[24:])
}

// signer answers for the signer. A gpg-agent is only answered with what is at hand:
// else its own pinentry asks.
func (p *passphrases) signer(ctx context.Context, k keyring.Key) keyring.Passphrases {
	out := keyring.Passphrases{File: func() ([]byte, error) { return p.key(ctx, k) }}
	if b, ok, err := p.given(string(k.Role)); ok || err != nil {
		out.Agent = func() ([]byte, error) { return b, err }
	}
	return out
}

// choose gives the passphrase of a new key; nil is none, which must be asked for.
func (p *passphrases) choose(ctx context.Context, role, what string) ([]byte, error) {
	b, ok, err := p.given(role)
	if ok || err != nil {
		return b, err
	}
	for {
		b, err = ui.Secret(ctx, "New passphrase for "+what+": ")
		if errs.Is(err, errs.Denied) {
			return nil, errs.E(errs.Denied, "no passphrase to protect "+what+" with", errs.Hint(noPassphrase), errs.Hint("--no-passphrase keeps keys that whoever reads the file can use"))
		}
		if err != nil {
			return nil, err
		}
		again, err := ui.Secret(ctx, "Again: ")
		if err != nil {
			return nil, err
		}
		if len(b) > 0 && bytes.Equal(b, again) {
			return b, nil
		}
	}
}
