package feed

import (
	"testing"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/sign"
	"slipway/internal/tlog"
)

func (b *bed) logSigner(k *sign.Key) (tlog.Signer, tlog.Verifier) {
	b.t.Helper()
	public, ok := k.Public().Ed25519()
	if !ok {
		b.t.Fatal("no Ed25519 key")
	}
	s, err := tlog.NewSigner("test", public, k.SignPlain)
	if err != nil {
		b.t.Fatal(err)
	}
	v, err := tlog.NewVerifier("test", public)
	if err != nil {
		b.t.Fatal(err)
	}
	return s, v
}

// A log that begins late takes in what came before; then each serial adds its leaves,
// once; and it never goes on without its key.
func TestWriteLog(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	edition := func(serial int) Edition {
		return Edition{Serial: serial, Release: distro.NewVersion("1", serial), At: testStart.Add(time.Duration(serial) * time.Hour)}
	}
	b.release(1, [3]string{"a", "1.0", "one"})
	if err := b.p.WriteLog(ctx, edition(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.tree.Stat(ctx, tlog.CheckpointFile); !errs.Is(err, errs.NotFound) {
		t.Fatalf("a log without a log key: %v", err)
	}
	b.release(2, [3]string{"a", "1.1", "two"})
	var verifier tlog.Verifier
	b.p.Log, verifier = b.logSigner(b.key)
	for range 2 {
		if err := b.p.WriteLog(ctx, edition(2)); err != nil {
			t.Fatal(err)
		}
	}
	b.release(3, [3]string{"a", "1.2", "three"})
	if err := b.p.WriteLog(ctx, edition(3)); err != nil {
		t.Fatal(err)
	}
	l, r, err := tlog.Verify(ctx, b.tree, []tlog.Verifier{verifier}, nil)
	if err != nil || len(r.Findings) > 0 || len(r.Unlogged) > 0 || r.Size != 6 {
		t.Fatalf("%+v, %v", r, err)
	}
	if x := l.Leaves[4]; x.Type != tlog.Release || x.Version != "1.3" || !x.At.Equal(testStart.Add(3*time.Hour)) {
		t.Errorf("%+v", x)
	}
	b.p.Log = nil
	if err := b.p.WriteLog(ctx, edition(3)); !errs.Is(err, errs.Denied) {
		t.Errorf("without the key: %v", err)
	}
}
