// Package statetest is what every implementation of state.Store must pass.
package statetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/internal/errs"
	"slipway/internal/state"
)

type ship struct {
	Name  string
	Knots int
}

func wantKind(t *testing.T, err error, kind errs.Kind) {
	t.Helper()
	if !errs.Is(err, kind) {
		t.Errorf("error %v, want kind %s", err, kind)
	}
}

// Run tests an implementation; open gives an empty store with that clock, each
// time another.
func Run(t *testing.T, open func(t *testing.T, clock func() time.Time) state.Store) {
	at := time.Date(2026, 12, 1, 10, 0, 0, 123456789, time.FixedZone("", 3600))
	clock := func() time.Time { return at }
	apply := func(t *testing.T, s state.Store, puts ...state.Put) {
		t.Helper()
		if err := s.Apply(t.Context(), puts, nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("empty", func(t *testing.T) {
		s := open(t, clock)
		_, err := s.Get(t.Context(), "build", "1.1")
		wantKind(t, err, errs.NotFound)
		if err == nil || !strings.Contains(err.Error(), "build 1.1") {
			t.Errorf("the error does not name the document: %v", err)
		}
		if docs, err := s.List(t.Context(), "build"); len(docs) != 0 || err != nil {
			t.Error(docs, err)
		}
		if ev, err := s.Events(t.Context(), 0, 0); len(ev) != 0 || err != nil {
			t.Error(ev, err)
		}
		if err := s.Apply(t.Context(), nil, nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("put and get", func(t *testing.T) {
		s := open(t, clock)
		apply(t, s, state.Put{Kind: "ship", ID: "a/b 'ü\"", Data: ship{"Halyard", 7}})
		d, err := s.Get(t.Context(), "ship", "a/b 'ü\"")
		if err != nil || d.Kind != "ship" || d.ID != "a/b 'ü\"" || d.Rev != 1 || string(d.Data) != `{"Name":"Halyard","Knots":7}` {
			t.Errorf("%+v %s, %v", d, d.Data, err)
		}
		if !d.Updated.Equal(at) || d.Updated.Location() != time.UTC {
			t.Errorf("updated %s", d.Updated)
		}
		raw := "{ \"kept\":\n  \"as it is <&>\" }"
		apply(t, s, state.Put{Kind: "ship", ID: "a/b 'ü\"", IfRev: 1, Data: []byte(raw)})
		if d, err = s.Get(t.Context(), "ship", "a/b 'ü\""); err != nil || d.Rev != 2 || string(d.Data) != raw {
			t.Errorf("%+v %s, %v", d, d.Data, err)
		}
	})
	t.Run("natural order", func(t *testing.T) {
		s := open(t, clock)
		want := []string{"1.1", "1.2", "1.9", "1.10", "1.10-c2", "1.10-c10", "2.1", "a"}
		for _, i := range []int{3, 7, 1, 5, 0, 6, 2, 4} {
			apply(t, s, state.Put{Kind: "build", ID: want[i], Data: i}, state.Put{Kind: "other", ID: want[i], Data: i})
		}
		docs, err := s.List(t.Context(), "build")
		var got []string
		for _, d := range docs {
			got = append(got, d.ID)
		}
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s, %v", got, err)
		}
		all, err := state.LoadAll[int](t.Context(), s, "build")
		if err != nil || fmt.Sprint(all) != "[0 1 2 3 4 5 6 7]" {
			t.Errorf("%v, %v", all, err)
		}
	})
	t.Run("compare and set", func(t *testing.T) {
		s := open(t, clock)
		apply(t, s, state.Put{Kind: "k", ID: "a", Data: 1})
		apply(t, s, state.Put{Kind: "k", ID: "a", IfRev: 1, Data: 2})
		for _, p := range []state.Put{
			{Kind: "k", ID: "a", IfRev: 0, Data: 9}, {Kind: "k", ID: "a", IfRev: 1, Data: 9}, {Kind: "k", ID: "a", IfRev: 3, Data: 9},
			{Kind: "k", ID: "none", IfRev: 1, Data: 9},
		} {
			err := s.Apply(t.Context(), []state.Put{{Kind: "k", ID: "with", Data: 0}, p}, []state.NewEvent{{Type: "never"}})
			wantKind(t, err, errs.Conflict)
			if err == nil || !strings.Contains(err.Error(), p.Kind+" "+p.ID) || len(errs.Hints(err)) == 0 {
				t.Errorf("the conflict does not name the document, or no cure: %v", err)
			}
		}
		err := s.Apply(t.Context(), []state.Put{{Kind: "k", ID: "a", Data: 9}, {Kind: "k", ID: "none", IfRev: 4, Data: 9}}, nil)
		if err == nil || !strings.Contains(err.Error(), "k a") || !strings.Contains(err.Error(), "k none") {
			t.Errorf("not all conflicts are named: %v", err)
		}
		_, err = s.Get(t.Context(), "k", "with")
		wantKind(t, err, errs.NotFound)
		if ev, err := s.Events(t.Context(), 0, 0); len(ev) != 0 || err != nil {
			t.Error(ev, err)
		}
		if v, rev, err := state.Load[int](t.Context(), s, "k", "a"); v != 2 || rev != 2 || err != nil {
			t.Error(v, rev, err)
		}
	})
	t.Run("events", func(t *testing.T) {
		s := open(t, clock)
		for i := range 5 {
			err := s.Apply(t.Context(), nil, []state.NewEvent{{Kind: "build", ID: "1.1", Type: "started", Data: i}, {Kind: "build", ID: "1.1", Type: "ended"}})
			if err != nil {
				t.Fatal(err)
			}
		}
		ev, err := s.Events(t.Context(), 0, 0)
		if err != nil || len(ev) != 10 {
			t.Fatal(ev, err)
		}
		for i, e := range ev {
			if e.Seq != int64(i+1) || !e.Time.Equal(at) || e.Kind != "build" || e.ID != "1.1" {
				t.Errorf("%+v", e)
			}
		}
		if string(ev[2].Data) != "1" || ev[2].Type != "started" || string(ev[3].Data) != "null" {
			t.Errorf("%+v %+v", ev[2], ev[3])
		}
		if ev, err := s.Events(t.Context(), 7, 2); err != nil || len(ev) != 2 || ev[0].Seq != 8 {
			t.Error(ev, err)
		}
	})
	t.Run("bad data", func(t *testing.T) {
		s := open(t, clock)
		for _, p := range []state.Put{
			{Kind: "", ID: "a", Data: 1}, {Kind: "k", ID: "", Data: 1}, {Kind: "k", ID: "a", IfRev: -1, Data: 1},
			{Kind: "k", ID: "a", Data: []byte("{")}, {Kind: "k", ID: "a", Data: make(chan int)},
		} {
			wantKind(t, s.Apply(t.Context(), []state.Put{p}, nil), errs.Internal)
		}
		apply(t, s, state.Put{Kind: "k", ID: "a", Data: "text"})
		_, _, err := state.Load[int](t.Context(), s, "k", "a")
		wantKind(t, err, errs.Internal)
	})
	t.Run("update and upsert", func(t *testing.T) {
		s := open(t, clock)
		faster := func(v *ship) error { v.Knots++; return nil }
		_, err := state.Update(t.Context(), s, "ship", "a", faster)
		wantKind(t, err, errs.NotFound)
		for want := 1; want <= 3; want++ {
			v, err := state.Upsert(t.Context(), s, "ship", "a", faster, state.NewEvent{Kind: "ship", ID: "a", Type: "faster"})
			if err != nil || v.Knots != want {
				t.Errorf("%+v, %v", v, err)
			}
		}
		boom := errors.New("boom")
		if _, err := state.Update(t.Context(), s, "ship", "a", func(v *ship) error { v.Knots = 99; return boom }); err != boom {
			t.Error(err)
		}
		v, rev, err := state.Load[ship](t.Context(), s, "ship", "a")
		if v.Knots != 3 || rev != 3 || err != nil {
			t.Error(v, rev, err)
		}
		if ev, err := s.Events(t.Context(), 0, 0); len(ev) != 3 || err != nil {
			t.Error(ev, err)
		}
	})
	t.Run("update tries again", func(t *testing.T) {
		s := open(t, clock)
		apply(t, s, state.Put{Kind: "ship", ID: "a", Data: ship{}})
		calls := 0
		v, err := state.Update(t.Context(), s, "ship", "a", func(v *ship) error {
			if calls++; calls == 1 {
				apply(t, s, state.Put{Kind: "ship", ID: "a", IfRev: 1, Data: ship{"other", 5}})
			}
			v.Knots++
			return nil
		})
		if err != nil || calls != 2 || v != (ship{"other", 6}) {
			t.Error(v, calls, err)
		}
	})
	t.Run("no update is lost", func(t *testing.T) {
		s := open(t, clock)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 5 {
					_, err := state.Upsert(t.Context(), s, "n", "n", func(n *int) error { *n++; return nil }, state.NewEvent{Type: "up"})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		n, rev, err := state.Load[int](t.Context(), s, "n", "n")
		ev, everr := s.Events(t.Context(), 0, 0)
		if n != 40 || rev != 40 || len(ev) != 40 || err != nil || everr != nil {
			t.Error(n, rev, len(ev), err, everr)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		s := open(t, clock)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wantKind(t, s.Apply(ctx, []state.Put{{Kind: "k", ID: "a", Data: 1}}, nil), errs.Interrupted)
		_, err := s.Get(ctx, "k", "a")
		wantKind(t, err, errs.Interrupted)
		apply(t, s, state.Put{Kind: "k", ID: "a", Data: 1})
	})
}
