package feed

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/sign"
)

// OldestAlone gives a signer of packages from one of metadata: a package has room for one
// signature, and in a rotation's overlap devices surely know the oldest key.
func OldestAlone(s Signer) Signer { return oldestAlone{s} }

type oldestAlone struct{ Signer }

func (o oldestAlone) Sign(ctx context.Context, message io.Reader, at time.Time) ([]byte, error) {
	sig, err := o.Signer.Sign(ctx, message, at)
	if err != nil {
		return nil, err
	}
	all, err := sign.Split(sig)
	if err != nil || len(all) == 0 {
		return nil, errs.E(errs.Internal, "the metadata key gave no signature", err)
	}
	return all[len(all)-1].Bytes, nil // signers put the oldest key's last
}

// bridges reports whether a package that its statement calls signed by the metadata key
// may be: only where the keyring has a package key that was revoked or lost. It is told.
func (v *verifier) bridges(name string) bool {
	if v.trust.Ring != nil && !slices.ContainsFunc(v.trust.Ring.Of(keyring.Package), func(k keyring.Key) bool { return k.State != keyring.Current }) {
		return false
	}
	v.report.Notes = append(v.report.Notes, fmt.Sprintf("%s: signed by the metadata key, as its release says: it bridges a package key that was revoked or lost", name))
	return true
}
