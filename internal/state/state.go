package state

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"slipway/internal/errs"
)

// Doc is one document as it was read.
type Doc struct {
	Kind, ID string
	Rev      int64  // 1 for the first, one more with every change
	Data     []byte // JSON, as it was written
	Updated  time.Time
}

// Event is one entry of the log.
type Event struct {
	Seq            int64 // from 1, without gaps, in the order of commits
	Time           time.Time
	Kind, ID, Type string // the document that it is about, and what happened
	Data           []byte // JSON; "null" when there is none
}

// Put asks for a document to be written. It becomes revision IfRev+1.
type Put struct {
	Kind, ID string
	IfRev    int64 // the revision that was read; 0: the document must be absent
	Data     any   // encoded as JSON; []byte and json.RawMessage are taken as JSON
}

// NewEvent asks for an event to be logged.
type NewEvent struct {
	Kind, ID, Type string
	Data           any // as Put.Data
}

// Store is the state of a workspace. It is safe for use by several goroutines.
type Store interface {
	// Get reads a document; errs.NotFound when there is none.
	Get(ctx context.Context, kind, id string) (Doc, error)
	// List gives all documents of a kind in the natural order of their ids:
	// numbers count as numbers, so that 1.10 comes after 1.9.
	List(ctx context.Context, kind string) ([]Doc, error)
	// Apply writes all puts and events, or nothing. Documents that are at
	// another revision than IfRev are errs.Conflict, and all of them are named.
	Apply(ctx context.Context, puts []Put, events []NewEvent) error
	// Events gives the events with a higher Seq than after, oldest first, at
	// most limit of them; all when limit is 0.
	Events(ctx context.Context, after int64, limit int) ([]Event, error)
	// Close lets the database go. It changes nothing.
	Close() error
}

// Load reads a document into a T and gives its revision. An absent document is
// errs.NotFound, revision 0.
func Load[T any](ctx context.Context, s Store, kind, id string) (T, int64, error) {
	var v T
	d, err := s.Get(ctx, kind, id)
	if err != nil {
		return v, 0, err
	}
	return v, d.Rev, d.decode(&v)
}

// LoadAll reads all documents of a kind, in the order of [Store].List.
func LoadAll[T any](ctx context.Context, s Store, kind string) ([]T, error) {
	docs, err := s.List(ctx, kind)
	if err != nil {
		return nil, err
	}
	all := make([]T, len(docs))
	for i, d := range docs {
		if err := d.decode(&all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Update reads a document, lets change alter it, and writes it with the events.
// When somebody else was faster it reads and calls change again, so change must
// do nothing but alter its argument. An error of change stops without a write. An
// absent document is errs.NotFound. Update gives the document as it is then.
func Update[T any](ctx context.Context, s Store, kind, id string, change func(*T) error, events ...NewEvent) (T, error) {
	return update(ctx, s, kind, id, false, change, events)
}

// Upsert is Update, but an absent document is made from the zero T.
func Upsert[T any](ctx context.Context, s Store, kind, id string, change func(*T) error, events ...NewEvent) (T, error) {
	return update(ctx, s, kind, id, true, change, events)
}

func update[T any](ctx context.Context, s Store, kind, id string, create bool, change func(*T) error, events []NewEvent) (T, error) {
	// Each lost round is a gain of somebody else's; a hundred in a row is a fault.
	for try := 0; ; try++ {
		v, rev, err := Load[T](ctx, s, kind, id)
		if err != nil && !(create && errs.Is(err, errs.NotFound)) {
			return v, err
		}
		if err := change(&v); err != nil {
			return v, err
		}
		err = s.Apply(ctx, []Put{{kind, id, rev, v}}, events)
		if err == nil || !errs.Is(err, errs.Conflict) || try == 100 {
			return v, err
		}
	}
}

func (d Doc) decode(v any) error {
	if err := json.Unmarshal(d.Data, v); err != nil {
		return errs.E(errs.Internal, fmt.Sprintf("read %s %s from the state", d.Kind, d.ID), err)
	}
	return nil
}

// encodeAll gives the texts of puts and events, or why one cannot be written.
func encodeAll(puts []Put, events []NewEvent) (docs, news []string, err error) {
	docs, news = make([]string, len(puts)), make([]string, len(events))
	for i, p := range puts {
		if p.Kind == "" || p.ID == "" || p.IfRev < 0 {
			return nil, nil, errs.Ef(errs.Internal, "put of a document without kind or id, or with a negative revision: %q %q %d", p.Kind, p.ID, p.IfRev)
		}
		if docs[i], err = encode(p.Kind+" "+p.ID, p.Data); err != nil {
			return nil, nil, err
		}
	}
	for i, e := range events {
		if news[i], err = encode("event "+e.Type+" of "+e.Kind+" "+e.ID, e.Data); err != nil {
			return nil, nil, err
		}
	}
	return docs, news, nil
}

// encode gives the text that is stored for a Data.
func encode(what string, data any) (string, error) {
	b, raw := data.([]byte)
	if m, ok := data.(json.RawMessage); ok {
		b, raw = m, true
	}
	if !raw {
		var err error
		if b, err = json.Marshal(data); err != nil {
			return "", errs.E(errs.Internal, "encode "+what, err)
		}
	}
	if !json.Valid(b) {
		return "", errs.E(errs.Internal, "the data of "+what+" is no JSON")
	}
	return string(b), nil
}
