// Package told has the checks of a series that BitBake builds whose answers the cycle
// has gathered before: what the builder said of its configuration, whether the layers
// can be fetched by everybody, and whether every class of artifact is there.
package told

import (
	"context"
	"slices"

	"slipway/internal/check"
	"slipway/internal/distro"
)

// The checks' ids.
const (
	Settings  = "bitbake-settings"
	Layers    = "layers"
	Artifacts = "artifacts"
)

// All gives the three checks.
func All() []check.Check {
	return []check.Check{
		told{distro.CheckSpec{ID: Settings, Level: distro.Block, Asks: "does the configuration of every board make packages that can be published and updated?",
			Cure: "mend conf in slipway.yaml, or the distribution's own file in a layer"}},
		told{distro.CheckSpec{ID: Layers, Level: distro.Block, Asks: "can everybody fetch each layer's commit from its address?",
			Cure: "push the commit to a branch or tag of that repository, or name the repository that has it"}},
		told{distro.CheckSpec{ID: Artifacts, Level: distro.Block, Asks: "is every class of artifact there that this build should have left?",
			Cure: "slipway log BUILD: what the task says that makes it"}},
	}
}

// told reports what Bed.Told has for its id.
type told struct{ spec distro.CheckSpec }

func (t told) Spec() distro.CheckSpec { return t.spec }

// Run gives the gathered answers; none is "nothing was asked", which the gate knows.
func (t told) Run(_ context.Context, bed *check.Bed) (check.Result, error) {
	got, ok := bed.Told[t.spec.ID]
	if !ok {
		return check.Result{Note: "nobody was asked"}, nil
	}
	return check.Result{Asked: got.Asked, Note: got.Note, Findings: slices.Clone(got.Findings)}, nil
}
