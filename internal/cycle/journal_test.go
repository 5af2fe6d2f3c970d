package cycle

import (
	"testing"
	"time"

	"slipway/internal/flow"
	"slipway/internal/flow/flowtest"
	"slipway/internal/state"
)

func TestJournalKeepsItsPromises(t *testing.T) {
	t.Parallel()
	flowtest.Journal(t, func(t *testing.T) flow.Journal {
		s, err := state.Open(t.Context(), t.TempDir()+"/state.db", time.Now)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return journal{s}
	})
}
