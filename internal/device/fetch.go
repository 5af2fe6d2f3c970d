package device

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/sign"
	"slipway/internal/timestamp"
)

// Check is what the signed pointer says, once it is trusted.
type Check struct {
	Pointer timestamp.Timestamp `json:"pointer"`
	// Server is the server's own clock, unsigned: only good to tell whose clock
	// is wrong. The zero time when it does not say.
	Server time.Time `json:"-"`
}

// Check fetches the pointer, and tells whether it is to be followed. When it is,
// its serial is remembered; not by a user who may not write, nor while another
// process holds the device's lock. Errors: Unavailable when nothing can be
// fetched; Denied with a [Reason].
func (d *Device) Check(ctx context.Context) (Check, error) {
	release, err := d.lock()
	if err == nil {
		defer release()
	}
	return d.trusted(ctx, err == nil)
}

// trusted is Check for who holds the lock, if remember.
func (d *Device) trusted(ctx context.Context, remember bool) (Check, error) {
	st, err := d.readState()
	if err != nil {
		return Check{}, err
	}
	c, err := d.check(ctx, st.Seen)
	if err != nil || !remember {
		return c, err
	}
	if seen := st.Seen.After(c.Pointer); seen != st.Seen || st.Pointer != c.Pointer {
		st.Seen, st.Pointer = seen, c.Pointer
		err = d.writeJSON(stateFile, st)
	}
	return c, err
}

func (d *Device) check(ctx context.Context, seen timestamp.Seen) (Check, error) {
	b, server, err := d.signed(ctx, d.conf.Series+"/timestamp.json")
	if err != nil {
		return Check{}, err
	}
	p, err := timestamp.Parse(b)
	if err != nil {
		return Check{}, err
	}
	now := d.now()
	err = p.Check(timestamp.Expected{Distribution: d.conf.Distribution, Series: d.conf.Series, Seen: seen, Now: now, NotBefore: d.conf.Made})
	// An expired pointer and a clock that is far ahead look the same from here; the
	// server's clock tells them apart for the person who reads this.
	if Reason(err) == timestamp.Frozen && !server.IsZero() && server.Before(p.Expires) {
		err = &refusal{timestamp.Clock, errs.E(errs.Denied, fmt.Sprintf("the clock is wrong, or the server's: here it is %s, there %s; the pointer is good till %s",
			now.UTC().Format(time.RFC3339), server.UTC().Format(time.RFC3339), p.Expires.Format(time.RFC3339)), errs.Hint("set this machine's clock"))}
	}
	return Check{Pointer: p, Server: server}, err
}

// snapshot fetches the signed index of a serial. want, when not empty, is its digest.
func (d *Device) snapshot(ctx context.Context, serial int, want distro.Digest) (timestamp.Snapshot, error) {
	name := fmt.Sprintf("%s/snapshots/%d/snapshot.json", d.conf.Series, serial)
	b, _, err := d.signed(ctx, name)
	if err != nil {
		return timestamp.Snapshot{}, err
	}
	if got := distro.DigestOf(b); want != "" && got != want {
		return timestamp.Snapshot{}, mismatch(name, "the signed pointer", got, want)
	}
	s, err := timestamp.ParseSnapshot(b)
	if err == nil && (s.Serial != serial || s.Series != d.conf.Series || s.Distribution != d.conf.Distribution) {
		err = &refusal{Mismatch, errs.E(errs.Denied, fmt.Sprintf("%s is signed, but of %s %s, serial %d", name, s.Distribution, s.Series, s.Serial))}
	}
	return s, err
}

// dates fetches at.json, which the pointer vouches for.
func (d *Device) dates(ctx context.Context, p timestamp.Timestamp) (timestamp.At, error) {
	name := d.conf.Series + "/at.json"
	b, _, err := d.get(ctx, name)
	if err != nil {
		return timestamp.At{}, err
	}
	if got := distro.DigestOf(b); got != p.History {
		return timestamp.At{}, mismatch(name, "the signed pointer", got, p.History)
	}
	return timestamp.ParseAt(b)
}

func mismatch(name, by string, got, want distro.Digest) error {
	return &refusal{Mismatch, errs.E(errs.Denied, fmt.Sprintf("%s is not what %s names: %s there, %s named", name, by, got.Short(), want.Short()),
		errs.Hint("the publication is just being switched, or was changed on the way: try again, or another mirror"))}
}

// signed fetches a document and its detached signature and checks it. The two are
// fetched one after the other, and a publisher may switch between: a signature
// that does not fit is asked for again, with its document, before it counts.
func (d *Device) signed(ctx context.Context, name string) (b []byte, server time.Time, err error) {
	for range 3 {
		var armored, sig []byte
		if b, server, err = d.get(ctx, name); err != nil {
			return nil, server, err
		}
		if armored, _, err = d.get(ctx, name+".asc"); err != nil {
			if errs.Is(err, errs.NotFound) {
				err = &refusal{Signature, errs.E(errs.Denied, name+" has no signature", errs.Hint("use another mirror"))}
			}
			return nil, server, err
		}
		if sig, err = sign.Dearmor(armored); err == nil {
			_, err = sign.Verify(d.conf.Keys, bytes.NewReader(b), sig)
		}
		if err == nil {
			return b, server, nil
		}
		err = &refusal{Signature, errs.E(errs.Denied, "signature of "+name, err, errs.Hint("the file was changed, or signed with a key that this device does not have"))}
	}
	return nil, server, err
}

// get fetches a small file of the publication.
func (d *Device) get(ctx context.Context, name string) ([]byte, time.Time, error) {
	address := d.conf.URL + "/" + name
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, time.Time{}, errs.E(errs.Invalid, "slipway_url", err)
	}
	req.Header.Set("Cache-Control", "no-cache") // a proxy's old copy would look like a frozen feed
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, time.Time{}, errs.E(errs.Unavailable, "fetch "+address, err, errs.Hint("is the network up? slipway_url in /etc/dnf/vars names the mirror"))
	}
	defer resp.Body.Close()
	server, _ := http.ParseTime(resp.Header.Get("Date"))
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return nil, server, errs.E(errs.NotFound, "no "+address, errs.Hint("does slipway_url in /etc/dnf/vars name a publication of this distribution?"))
	case resp.StatusCode != http.StatusOK:
		return nil, server, errs.Ef(errs.Unavailable, "fetch %s: %s", address, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, timestamp.MaxSize+1))
	if err != nil {
		return nil, server, errs.E(errs.Unavailable, "fetch "+address, err)
	}
	if len(b) > timestamp.MaxSize {
		return nil, server, errs.Ef(errs.Denied, "%s is larger than %d bytes", address, timestamp.MaxSize)
	}
	return b, server, nil
}
