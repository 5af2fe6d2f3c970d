package feed

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
	"slipway/internal/sign"
	"slipway/internal/store"
)

// Unsigned is a package for [Publisher.AddPackages].
type Unsigned struct {
	Record distro.PackageRecord // its header digest is the tested one
	// Open gives the file; the publisher closes it.
	Open func(ctx context.Context) (store.Blob, error)
}

// AddPackages signs packages and writes them to the pool, dated at. It gives the
// records of the signed files, in the order of list. Each is verified first, and its
// header digest must be the tested one. Signer and disk are asked for many at a time;
// after an error some may be in the pool, and the same call again finishes.
func (p *Publisher) AddPackages(ctx context.Context, list []Unsigned, at time.Time) ([]distro.PackageRecord, error) {
	out := make([]distro.PackageRecord, 0, len(list))
	for len(list) > 0 {
		c := addition{p: p, at: at}
		n, err := c.prepare(ctx, list)
		if err == nil {
			err = c.finish(ctx)
		}
		c.close()
		if err != nil {
			return nil, err
		}
		for _, a := range c.packages {
			out = append(out, a.record)
		}
		list = list[n:]
	}
	return out, nil
}

// AddPackage is AddPackages for one whose file is at hand.
func (p *Publisher) AddPackage(ctx context.Context, r distro.PackageRecord, src io.ReaderAt, size int64, at time.Time) (distro.PackageRecord, error) {
	out, err := p.AddPackages(ctx, []Unsigned{{r, func(context.Context) (store.Blob, error) {
		return unclosed{io.NewSectionReader(src, 0, size)}, nil
	}}}, at)
	if err != nil {
		return r, err
	}
	return out[0], nil
}

// unclosed is a file that its owner closes.
type unclosed struct{ *io.SectionReader }

func (unclosed) Close() error { return nil }

// What an addition has open, and in memory, at once.
const (
	maxAddition = 64
	maxSigned   = 8 << 20 // bytes of headers
)

// addition is a part of the packages on their way into the pool.
type addition struct {
	p        *Publisher
	at       time.Time
	packages []*added
}

type added struct {
	record distro.PackageRecord
	file   store.Blob
	*rpm.Signing
	signed *rpm.Package // as it was written
}

// prepare opens and checks the first packages of list, and says how many.
func (c *addition) prepare(ctx context.Context, list []Unsigned) (int, error) {
	room := maxSigned
	for i, u := range list {
		if i == maxAddition || room < 0 {
			return i, nil
		}
		f, err := u.Open(ctx)
		if err != nil {
			return 0, err
		}
		a := &added{record: u.Record, file: f}
		c.packages = append(c.packages, a)
		if a.Signing, err = rpm.Prepare(f, f.Size()); err == nil && a.Package.HeaderDigest != a.record.HeaderDigest {
			err = errs.E(errs.Denied, fmt.Sprintf("%s is not what was tested: header %s, tested %s", a.record.File, a.Package.HeaderDigest.Short(), a.record.HeaderDigest.Short()),
				errs.Hint("the artifact store was changed; build again"))
		}
		if err != nil {
			return 0, errs.Wrap(err, "sign and store %s", a.record.File)
		}
		a.record.SignedBy = c.p.SignedBy
		if a.record.KeyEpoch = 0; c.p.epoch() > KeyEpoch {
			a.record.KeyEpoch = c.p.epoch()
		}
		room -= len(a.Header())
	}
	return len(list), nil
}

// finish signs what is prepared, and writes it.
func (c *addition) finish(ctx context.Context) error {
	headers, names := make([][]byte, len(c.packages)), make([]string, len(c.packages))
	for i, a := range c.packages {
		headers[i], names[i] = a.Header(), c.p.Layout.Package(a.record)
	}
	sigs, err := sign.All(ctx, c.p.Package, headers, names, c.at)
	if err != nil {
		return errs.Wrap(err, "sign %s", c.what())
	}
	tag := c.p.Package.RPMTag()
	err = store.CreateAll(ctx, c.p.Tree, func(yield func(store.NewFile, error) bool) {
		for i, a := range c.packages {
			hash, count := sha256.New(), &counter{}
			content := &written{ctx: ctx, write: func(w io.Writer) (err error) {
				a.signed, err = a.Write(tee{[]io.Writer{w, hash, count}}, sigs[i], tag)
				return err
			}}
			more := yield(store.NewFile{Name: names[i], Content: content}, nil)
			content.Close() // a store that stopped early must not leave the writing side waiting
			if !more {
				return
			}
			a.record.Digest, a.record.Size = distro.DigestFromSum(hash.Sum(nil)), count.n
		}
	})
	if err != nil {
		return errs.Wrap(err, "store %s", c.what())
	}
	for i, a := range c.packages {
		c.p.remember(names[i], a.signed)
	}
	return nil
}

// what names the packages in messages.
func (c *addition) what() string {
	first := c.packages[0].record.File
	if len(c.packages) == 1 {
		return first
	}
	return fmt.Sprintf("%s and %d more packages", first, len(c.packages)-1)
}

func (c *addition) close() {
	for _, a := range c.packages {
		a.file.Close()
	}
}

type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) { c.n += int64(len(b)); return len(b), nil }
