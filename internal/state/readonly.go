package state

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"

	"slipway/internal/errs"
)

// reader is a Store that only reads. It opens the database when it is first
// needed and exists, so that a server can start before the first build.
type reader struct {
	path string
	mu   sync.Mutex
	db   *db // kept open, when it can be
}

// OpenReadOnly opens the state in the file at path for reading. It makes and
// changes nothing, does not wait for writers, and sees what is committed at each
// call. While there is no database yet it behaves as an empty one. Apply is
// errs.Denied.
func OpenReadOnly(ctx context.Context, path string) (Store, error) {
	r := &reader{path: path}
	s, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	r.done(s)
	return r, nil
}

// open gives the database for one call, to be followed by done; nil as long as
// there is none.
func (r *reader) open(ctx context.Context) (*db, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.db != nil {
		return r.db, nil
	}
	st, err := os.Stat(r.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && st.Size() == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fault(err, "read", r.path)
	}
	keep := true
	s, v, err := r.try(ctx, "mode=ro")
	if c := code(err); c == codeCantOpen || c == codeReadOnly {
		// In a folder that this user cannot write, SQLite cannot make the shared
		// memory of the write-ahead log. Without a log nobody is writing and the
		// file alone is the whole truth, for now.
		keep = false
		if _, serr := os.Stat(r.path + "-wal"); errors.Is(serr, fs.ErrNotExist) {
			s, v, err = r.try(ctx, "mode=ro&immutable=1")
		}
	}
	if err != nil || s == nil {
		return nil, err
	}
	if know := len(migrations); v > know {
		s.Close()
		return nil, s.newer(v, know)
	} else if v < know {
		s.Close()
		return nil, errs.E(errs.Unavailable, r.path+" was written by an older Slipway and is not up to date yet",
			errs.Hint("any command that writes brings it up to date, for example: slipway build"))
	}
	if keep {
		r.db = s
	}
	return s, nil
}

func (r *reader) done(s *db) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s != nil && s != r.db {
		s.Close()
	}
}

// try opens the file and reads its version; a database that its writer has not
// finished making is none.
func (r *reader) try(ctx context.Context, params string) (*db, int, error) {
	s, err := open(r.path, params, time.Now)
	if err != nil {
		return nil, 0, err
	}
	v, err := s.version(ctx, s)
	if err != nil || v == 0 {
		s.DB.Close()
		return nil, 0, err
	}
	return s, v, nil
}

func (r *reader) Get(ctx context.Context, kind, id string) (Doc, error) {
	s, err := r.open(ctx)
	if err != nil {
		return Doc{}, err
	}
	if s == nil {
		return Doc{}, absent(kind, id)
	}
	defer r.done(s)
	return s.Get(ctx, kind, id)
}

func (r *reader) List(ctx context.Context, kind string) ([]Doc, error) {
	s, err := r.open(ctx)
	if err != nil || s == nil {
		return nil, err
	}
	defer r.done(s)
	return s.List(ctx, kind)
}

func (r *reader) Events(ctx context.Context, after int64, limit int) ([]Event, error) {
	s, err := r.open(ctx)
	if err != nil || s == nil {
		return nil, err
	}
	defer r.done(s)
	return s.Events(ctx, after, limit)
}

func (r *reader) Apply(context.Context, []Put, []NewEvent) error {
	return errs.E(errs.Denied, "the state "+r.path+" is open for reading only")
}

func (r *reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.db == nil {
		return nil
	}
	err := r.db.Close()
	r.db = nil
	return err
}
