package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/sign"
	"slipway/internal/sstate"
)

func (a *app) sstateCmd() *cobra.Command {
	return group("sstate", "the build cache of BitBake: sign, verify", "  slipway sstate sign ./sstate-cache\n  slipway sstate verify ./sstate-cache", a.sstateSignCmd(), a.sstateVerifyCmd())
}

func (a *app) sstateSignCmd() *cobra.Command {
	var p passphrases
	c := &cobra.Command{Use: "sign DIR", Short: "sign every archive that has no signature, as SSTATE_VERIFY_SIG expects", Args: cobra.ExactArgs(1),
		Example: "  slipway sstate sign ./sstate-cache",
		Long: `Sign writes <archive>.sig beside each archive of an SSTATE_DIR that has none, by the
distribution's sstate key. Archives with a signature that is not good are listed and
left alone.`,
		RunE: func(c *cobra.Command, args []string) error {
			ctx := c.Context()
			def, dir, err := a.keyDir()
			if err != nil {
				return err
			}
			ring, _, err := keyring.Folder{Dir: dir}.Load(def.Distribution)
			if err != nil {
				return err
			}
			s, err := a.signers(ctx, dir, def.Distribution, p, keyring.SState)
			if err != nil {
				return err
			}
			defer s.Close()
			key, err := s.Role(ctx, keyring.SState, a.clock())
			if err != nil {
				return err
			}
			rep, err := sstate.Sign(ctx, args[0], cores(), key, byRing(ring), a.clock())
			if err != nil {
				return err
			}
			return a.sstateReport(rep, fmt.Sprintf("%d archives, %d signed now", rep.Archives, rep.Signed))
		}}
	p.flag(c)
	return c
}

func (a *app) sstateVerifyCmd() *cobra.Command {
	var keys []string
	c := &cobra.Command{Use: "verify DIR", Short: "check every archive's signature, as BitBake would", Args: cobra.ExactArgs(1),
		Example: "  slipway sstate verify ./sstate-cache\n  slipway sstate verify ./sstate-cache --key halyard-sstate.asc",
		RunE: func(c *cobra.Command, args []string) error {
			trusted, err := a.sstateTrust(keys)
			if err != nil {
				return err
			}
			rep, err := sstate.Verify(c.Context(), args[0], cores(), trusted)
			if err != nil {
				return err
			}
			return a.sstateReport(rep, fmt.Sprintf("%d archives, all as signed", rep.Archives))
		}}
	c.Flags().StringArrayVar(&keys, "key", nil, "a public key that you trust, instead of the workspace's (repeat)")
	return c
}

func (a *app) sstateTrust(files []string) (sstate.Check, error) {
	if len(files) == 0 {
		def, dir, err := a.keyDir()
		if err != nil {
			return nil, err
		}
		ring, _, err := keyring.Folder{Dir: dir}.Load(def.Distribution)
		if err != nil {
			return nil, err
		}
		return byRing(ring), nil
	}
	var publics []*sign.Public
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, errs.E(errs.NotFound, "public key "+f, err)
		}
		list, err := sign.ParsePublic(b)
		if err != nil {
			return nil, errs.Wrap(err, "public key %s", f)
		}
		publics = append(publics, list...)
	}
	return func(message io.Reader, sig []byte) error {
		_, err := sign.Verify(publics, message, sig)
		return err
	}, nil
}

func byRing(ring *keyring.Keyring) sstate.Check {
	return func(message io.Reader, sig []byte) error {
		_, err := ring.Verify(keyring.SState, message, sig)
		return err
	}
}

func (a *app) sstateReport(rep sstate.Report, good string) error {
	if err := a.print(rep, func(out io.Writer) {
		for _, f := range rep.Findings {
			fmt.Fprintf(out, "%s: %s: %s\n", f.Path, f.Reason, f.Detail)
		}
		if len(rep.Findings) == 0 {
			fmt.Fprintln(out, good)
		}
	}); err != nil || len(rep.Findings) == 0 {
		return err
	}
	err := errs.E(errs.Denied, fmt.Sprintf("%d of %d archives: BitBake would not take what is listed", len(rep.Findings), rep.Archives),
		errs.Hint("remove what is tampered or foreign, BitBake builds it again; slipway sstate sign signs what is missing"))
	if a.json {
		return quietly{err}
	}
	return err
}
