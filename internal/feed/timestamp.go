package feed

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/sign"
	"slipway/internal/timestamp"
)

// Timestamp is the name of the signed pointer with an expiry.
func (l Layout) Timestamp() string { return path.Join(l.Series, "timestamp.json") }

// Support is what the signed pointer says of itself and of the series.
type Support struct {
	Life                      time.Duration // of a pointer; 0 is timestamp.Life
	SecuritySupportEnds, Ends string        // YYYY-MM-DD, or ""
}

// RefreshTimestamp signs the pointer anew, with no new snapshot: issued now, good
// for a whole life again. serial is what the caller's own records say is
// current: a tree that says otherwise was changed from outside, and is not
// signed for (Conflict). Run it well within a pointer's life, or devices find
// the feed frozen.
func (p *Publisher) RefreshTimestamp(ctx context.Context, serial int, now time.Time) (timestamp.Timestamp, error) {
	var none timestamp.Timestamp
	b, err := ReadFile(ctx, p.Tree, p.Layout.Snapshot(serial)+"/snapshot.json")
	if err != nil {
		return none, errs.Wrap(err, "refresh the pointer")
	}
	s, err := timestamp.ParseSnapshot(b)
	if err != nil {
		return none, errs.Wrap(err, "refresh the pointer")
	}
	c := Current{Schema: 1, Series: p.Layout.Series, Serial: serial, Release: s.Release, At: s.At, Snapshot: distro.DigestOf(b)}
	if cur, err := ReadFile(ctx, p.Tree, p.Layout.CurrentJSON()); err != nil {
		return none, err
	} else if s.Serial != serial || !bytes.Equal(cur, distro.CanonicalJSON(c)) {
		return none, errs.E(errs.Conflict, fmt.Sprintf("%s of the publication is not serial %d: the pointer is not signed", p.Layout.CurrentJSON(), serial),
			errs.Hint("the publication was changed from outside, or a publish is unfinished: slipway verify, slipway publish"))
	}
	return p.writeTimestamp(ctx, c, now)
}

// writeTimestamp swaps the signed pointer: what c says, issued then. A pointer of
// the same serial that was issued later stays: a publish that is repeated after a
// refresh takes nothing back.
func (p *Publisher) writeTimestamp(ctx context.Context, c Current, issued time.Time) (timestamp.Timestamp, error) {
	at, err := ReadFile(ctx, p.Tree, p.Layout.AtJSON())
	if err != nil {
		return timestamp.Timestamp{}, err
	}
	if old, ok := p.ownTimestamp(ctx); ok && old.Serial <= c.Serial && old.Issued.After(issued) {
		issued = old.Issued
	}
	life := p.Support.Life
	if life == 0 {
		life = timestamp.Life
	}
	t := timestamp.New(timestamp.Timestamp{Distribution: p.Distribution, Series: p.Layout.Series, Serial: c.Serial, Release: c.Release, At: c.At,
		Snapshot: c.Snapshot, History: distro.DigestOf(at), SecuritySupportEnds: p.Support.SecuritySupportEnds, Ends: p.Support.Ends}, issued, life)
	return t, errs.Wrap(p.swapSigned(ctx, p.Layout.Timestamp(), t.Encode(), t.Issued), "sign the pointer to serial %d", c.Serial)
}

// ownTimestamp reads the pointer that is there, if our own key signed it: else
// somebody else could choose the date of the next.
func (p *Publisher) ownTimestamp(ctx context.Context) (timestamp.Timestamp, bool) {
	var none timestamp.Timestamp
	keys, err := sign.ParsePublic(p.Metadata.PublicArmored())
	if err != nil {
		return none, false
	}
	b, err := ReadFile(ctx, p.Tree, p.Layout.Timestamp())
	if err != nil {
		return none, false
	}
	armored, err := ReadFile(ctx, p.Tree, p.Layout.Timestamp()+".asc")
	if err != nil {
		return none, false
	}
	sig, err := sign.Dearmor(armored)
	if err == nil {
		_, err = sign.Verify(keys, bytes.NewReader(b), sig)
	}
	if err != nil {
		return none, false
	}
	t, err := timestamp.Parse(b)
	return t, err == nil
}

// timestamp checks that the signed pointer says what current.json says. That it
// has expired is no finding here: verify proves bytes, not that somebody still
// publishes.
func (v *verifier) timestamp(cur Current, at []byte) {
	name := v.l.Timestamp()
	if _, err := ReadFile(v.ctx, v.t, name); errs.Is(err, errs.NotFound) {
		v.find("%s: gone", name)
		return
	}
	b := v.signed(name, ".asc")
	if b == nil {
		return
	}
	t, err := timestamp.Parse(b)
	switch {
	case err != nil:
		v.find("%s: %v", name, err)
	case slices.Contains(v.report.Unfinished, t.Serial): // a publish at work writes it before current.json
	case t.Series != cur.Series || t.Serial != cur.Serial || t.Release != cur.Release || t.Snapshot != cur.Snapshot:
		v.find("%s: signed, but not what current.json says: an old pointer was put back?", name)
	case t.History != distro.DigestOf(at) && len(v.report.Unfinished) == 0:
		v.find("%s: at.json is not the one that it states", name)
	}
}
