package flow_test

import (
	"testing"

	"slipway/internal/flow"
	"slipway/internal/flow/flowtest"
)

func TestMemoryJournal(t *testing.T) {
	t.Parallel()
	flowtest.Journal(t, func(t *testing.T) flow.Journal { return flow.NewMemory() })
}
