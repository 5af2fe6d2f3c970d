// Package flowtest is what every implementation of flow.Journal must pass.
package flowtest

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"slipway/internal/errs"
	"slipway/internal/flow"
)

// Journal tests an implementation; open gives an empty journal, each time another.
func Journal(t *testing.T, open func(t *testing.T) flow.Journal) {
	at := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	rec := flow.Record{Owner: flow.Owner{PID: 7, BootID: "b", StartTime: "1", Command: "slipway build"}, Heartbeat: at, Note: "3 of 7",
		Steps: []flow.StepRecord{{Name: "fetch", Inputs: "x", Status: flow.Done, Started: at, Ended: at, Attempts: 2}, {Name: "build", Inputs: "y", Status: flow.Started, Started: at, Attempts: 1}}}
	t.Run("absent", func(t *testing.T) {
		if _, err := open(t).Load(t.Context(), "build-1.1"); !errs.Is(err, errs.NotFound) {
			t.Errorf("error %v, want kind notfound", err)
		}
	})
	t.Run("saved and loaded", func(t *testing.T) {
		j := open(t)
		for rev := range int64(3) {
			rec := rec
			rec.Rev = rev
			if err := j.Save(t.Context(), "r", rec); err != nil {
				t.Fatal(err)
			}
			got, err := j.Load(t.Context(), "r")
			if err != nil || got.Rev != rev+1 {
				t.Fatalf("revision %d after %d saves, %v", got.Rev, rev+1, err)
			}
			if got.Owner != rec.Owner || !got.Heartbeat.Equal(at) || got.Note != rec.Note || len(got.Steps) != 2 || got.Steps[0].Attempts != 2 ||
				!got.Steps[0].Ended.Equal(at) || !got.Steps[1].Ended.IsZero() || got.Steps[1].Status != flow.Started {
				t.Errorf("loaded %+v", got)
			}
		}
		if _, err := j.Load(t.Context(), "other"); !errs.Is(err, errs.NotFound) {
			t.Errorf("error %v, want kind notfound", err)
		}
	})
	t.Run("another revision is a conflict", func(t *testing.T) {
		j := open(t)
		for range 2 {
			current, _ := j.Load(t.Context(), "r")
			if err := j.Save(t.Context(), "r", current); err != nil {
				t.Fatal(err)
			}
		}
		for _, rev := range []int64{0, 1, 3} {
			rec := rec
			rec.Rev = rev
			if err := j.Save(t.Context(), "r", rec); !errs.Is(err, errs.Conflict) {
				t.Errorf("save at revision %d: error %v, want kind conflict", rev, err)
			}
		}
		if got, err := j.Load(t.Context(), "r"); err != nil || got.Rev != 2 || got.Note != "" {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("one of many wins", func(t *testing.T) {
		j := open(t)
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				err := j.Save(t.Context(), "r", rec)
				if err == nil {
					won.Add(1)
				} else if !errs.Is(err, errs.Conflict) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%d won", won.Load())
		}
	})
}
