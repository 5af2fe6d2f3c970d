package state

import (
	"context"
	"slices"
	"sync"
	"time"

	"slipway/internal/errs"
)

// overlay is what was written over a store that stays as it is.
type overlay struct {
	base Store
	hide func(Doc) bool
	now  func() time.Time

	mu     sync.Mutex
	docs   map[[2]string]Doc
	events []Event
}

// Overlay gives a store that reads what base has, but for what hide says (nil hides
// nothing), and keeps what is written in memory: base is never changed, and Close drops
// all of it. Its events are its own alone.
func Overlay(base Store, hide func(Doc) bool, now func() time.Time) Store {
	if hide == nil {
		hide = func(Doc) bool { return false }
	}
	return &overlay{base: base, hide: hide, now: now, docs: map[[2]string]Doc{}}
}

func (o *overlay) Get(ctx context.Context, kind, id string) (Doc, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.get(ctx, kind, id)
}

func (o *overlay) get(ctx context.Context, kind, id string) (Doc, error) {
	if d, ok := o.docs[[2]string{kind, id}]; ok {
		return d, nil
	}
	d, err := o.base.Get(ctx, kind, id)
	if err == nil && o.hide(d) {
		return Doc{}, absent(kind, id)
	}
	return d, err
}

func (o *overlay) List(ctx context.Context, kind string) ([]Doc, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	all, err := o.base.List(ctx, kind)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(d Doc) bool {
		_, mine := o.docs[[2]string{kind, d.ID}]
		return mine || o.hide(d)
	})
	for key, d := range o.docs {
		if key[0] == kind {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b Doc) int { return natural(a.ID, b.ID) })
	return all, nil
}

func (o *overlay) Apply(ctx context.Context, puts []Put, events []NewEvent) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	docs, texts, err := encodeAll(puts, events)
	if err != nil {
		return err
	}
	at := o.now().UTC()
	news := map[[2]string]Doc{}
	var conflicts errs.List
	for i, p := range puts {
		d, err := o.get(ctx, p.Kind, p.ID)
		absent := errs.Is(err, errs.NotFound)
		if err != nil && !absent {
			return err
		}
		if done, ok := news[[2]string{p.Kind, p.ID}]; ok {
			d, absent = done, false
		}
		if d.Rev != p.IfRev {
			conflicts = append(conflicts, conflict(p, d.Rev, absent))
		}
		news[[2]string{p.Kind, p.ID}] = Doc{Kind: p.Kind, ID: p.ID, Rev: p.IfRev + 1, Data: []byte(docs[i]), Updated: at}
	}
	if err := conflicts.Err(); err != nil {
		return err
	}
	for key, d := range news {
		o.docs[key] = d
	}
	for i, e := range events {
		o.events = append(o.events, Event{Seq: int64(len(o.events)) + 1, Time: at, Kind: e.Kind, ID: e.ID, Type: e.Type, Data: []byte(texts[i])})
	}
	return nil
}

func (o *overlay) Events(_ context.Context, after int64, limit int) ([]Event, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := slices.Clone(o.events[min(max(after, 0), int64(len(o.events))):])
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out, nil
}

func (o *overlay) Close() error { return nil }
