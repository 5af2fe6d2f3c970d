// Package fork gives each build databases of its own, over those of the series.
//
// A series has one file with both databases, hash equivalence and PR numbers
// ([Open]). [Base.Fork] makes a folder with an overlay and serves both protocols
// over it: the build sees all that the series has, and what it adds lies in the
// overlay. [Base.Promote] adds the overlay to the series, both databases in one
// transaction; [Base.Drop] throws it away. Numbers that a build was given are
// burned in the series at that moment: no other build gets them, whatever becomes
// of this one.
//
// A crash leaves an overlay as it was: Fork with the same folder goes on with it,
// and Promote may be repeated.
package fork

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"slipway/internal/asyncrpc"
	"slipway/internal/errs"
	"slipway/internal/hashserv"
	"slipway/internal/hashserv/hashdb"
	"slipway/internal/hashserv/litefile"
	"slipway/internal/prserv"
	"slipway/internal/prserv/prdb"
)

// Base is the databases of a series.
type Base struct {
	f    *litefile.File
	Hash *hashdb.DB
	PR   *prdb.DB
	Log  *slog.Logger // of the servers; nil: silent
}

// Open opens or makes the file with both databases.
func Open(path string) (*Base, error) {
	f, err := litefile.Open(path, litefile.Options{Full: true}, hashdb.Schema(), prdb.Schema())
	if err != nil {
		return nil, err
	}
	h, err := hashdb.New(f, hashdb.Options{})
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Base{f: f, Hash: h, PR: prdb.New(f)}, nil
}

// Close closes the file; the builds must have been closed before.
func (b *Base) Close() error {
	return errors.Join(b.Hash.Close(), b.f.Close())
}

const overlay = "overlay.db"

// Build is a fork that serves a build.
type Build struct {
	HashServer string // for BB_HASHSERVE
	PRServer   string // for PRSERV_HOST

	f    *litefile.File
	hash *hashdb.DB
	stop context.CancelFunc
	done chan error
}

// Fork serves a build over the overlay in dir, which is made if it is not there,
// on free ports of this machine's loopback. It serves until [Build.Close].
func (b *Base) Fork(ctx context.Context, dir string) (_ *Build, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, errs.Wrap(err, "make the folder of a fork")
	}
	x := &Build{done: make(chan error, 2)}
	if err := x.open(dir); err != nil {
		return nil, err
	}
	ctx, x.stop = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			x.stop()
			x.hash.Close()
			x.f.Close()
		}
	}()
	hs, err := hashserv.New(ctx, hashserv.Options{DB: x.hash, Base: b.Hash, Log: b.Log})
	if err != nil {
		return nil, err
	}
	ps, err := prserv.New(prserv.Options{DB: prdb.Fork(x.f, b.PR), Log: b.Log})
	if err != nil {
		return nil, err
	}
	hl, err := asyncrpc.Listen(ctx, "127.0.0.1:0", false)
	if err != nil {
		return nil, err
	}
	pl, err := asyncrpc.Listen(ctx, "127.0.0.1:0", false)
	if err != nil {
		hl.Close()
		return nil, err
	}
	x.HashServer, x.PRServer = hl.Address(), pl.Address()
	go func() { x.done <- hs.Serve(ctx, hl) }()
	go func() { x.done <- ps.Serve(ctx, pl) }()
	return x, nil
}

func (x *Build) open(dir string) (err error) {
	if x.f, err = litefile.Open(filepath.Join(dir, overlay), litefile.Options{Full: true}, hashdb.Schema(), prdb.Schema()); err != nil {
		return err
	}
	if x.hash, err = hashdb.New(x.f, hashdb.Options{}); err != nil {
		x.f.Close()
	}
	return err
}

// Close ends the servers; the overlay stays.
func (x *Build) Close() error {
	x.stop()
	return errors.Join(<-x.done, <-x.done, x.hash.Close(), x.f.Close())
}

// Promoted counts what a promotion added.
type Promoted struct {
	Hashes  int `json:"hashes"`  // rows of the hash equivalence database
	Numbers int `json:"numbers"` // of the PR database
}

// Promote adds the overlay in dir to the series, both databases in one
// transaction, and removes dir's overlay. The build must be closed. After a crash
// the series has all of it or nothing; then call it again.
func (b *Base) Promote(ctx context.Context, dir string) (n Promoted, err error) {
	if _, err := os.Stat(filepath.Join(dir, overlay)); err != nil {
		return n, errs.E(errs.NotFound, "overlay of the databases in "+dir, err)
	}
	var x Build
	if err := x.open(dir); err != nil {
		return n, err
	}
	hashes, err := x.hash.All(ctx)
	var numbers []prdb.Row
	if err == nil {
		numbers, err = prdb.Fork(x.f, b.PR).Own(ctx)
	}
	if err == nil {
		err = b.put(ctx, hashes, numbers)
	}
	if err := errors.Join(err, x.hash.Close(), x.f.Close()); err != nil {
		return n, err
	}
	return Promoted{len(hashes), len(numbers)}, b.Drop(dir)
}

func (b *Base) put(ctx context.Context, hashes []hashdb.Row, numbers []prdb.Row) error {
	return b.f.Write(ctx, func(tx *litefile.Tx) error {
		if err := b.Hash.InsertIn(tx, hashes); err != nil {
			return err
		}
		return b.PR.PutIn(tx, numbers)
	})
}

// Drop removes the overlay in dir. The numbers that its build was given stay burned.
func (b *Base) Drop(dir string) error {
	for _, suffix := range []string{"-wal", "-shm", ""} {
		if err := os.Remove(filepath.Join(dir, overlay+suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return errs.Wrap(err, "remove the overlay in %s", dir)
		}
	}
	return nil
}

// Save writes both databases as they are at one moment to one new file, which
// [Open] opens again. Builds go on meanwhile.
func (b *Base) Save(path string) error {
	if _, err := os.Stat(path); err == nil {
		return errs.E(errs.Conflict, "save the databases to "+path+": the file exists")
	}
	return b.f.CopyTo(path)
}
