package state_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/internal/errs"
	"slipway/internal/state"
	"slipway/internal/state/statetest"
)

func TestSQLite(t *testing.T) {
	t.Parallel()
	statetest.Run(t, func(t *testing.T, clock func() time.Time) state.Store {
		s, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"), clock)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	})
}

func TestOverlay(t *testing.T) {
	t.Parallel()
	none := func(t *testing.T, clock func() time.Time) state.Store {
		s, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"), clock)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	statetest.Run(t, func(t *testing.T, clock func() time.Time) state.Store {
		return state.Overlay(none(t, clock), nil, clock)
	})
	base := none(t, time.Now)
	for _, id := range []string{"1.9", "1.10", "1.11"} {
		if err := base.Apply(t.Context(), []state.Put{{Kind: "k", ID: id, Data: id}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	over := state.Overlay(base, func(d state.Doc) bool { return d.ID == "1.10" }, time.Now)
	if _, err := over.Get(t.Context(), "k", "1.10"); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	for _, p := range []state.Put{{Kind: "k", ID: "1.10", Data: "mine"}, {Kind: "k", ID: "1.9", IfRev: 1, Data: "mine"}, {Kind: "k", ID: "1.2", Data: "mine"}} {
		if err := over.Apply(t.Context(), []state.Put{p}, []state.NewEvent{{Kind: "k", ID: p.ID, Type: "t"}}); err != nil {
			t.Error(err)
		}
	}
	if err := over.Apply(t.Context(), []state.Put{{Kind: "k", ID: "1.11", Data: "x"}}, nil); !errs.Is(err, errs.Conflict) {
		t.Error(err)
	}
	for s, want := range map[state.Store]string{over: `1.2 "mine" 1, 1.9 "mine" 2, 1.10 "mine" 1, 1.11 "1.11" 1`, base: `1.9 "1.9" 1, 1.10 "1.10" 1, 1.11 "1.11" 1`} {
		docs, err := s.List(t.Context(), "k")
		var got []string
		for _, d := range docs {
			got = append(got, fmt.Sprintf("%s %s %d", d.ID, d.Data, d.Rev))
		}
		if err != nil || strings.Join(got, ", ") != want {
			t.Errorf("%v: %v, want %s", err, got, want)
		}
	}
	if events, err := base.Events(t.Context(), 0, 0); err != nil || len(events) != 0 {
		t.Errorf("%v: %v", err, events)
	}
}
