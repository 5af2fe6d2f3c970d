package state_test

import (
	"path/filepath"
	"testing"
	"time"

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
