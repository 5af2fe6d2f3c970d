// Package settings tells what was found in the configuration that BitBake built
// with: what a binary distribution needs of it, by the Yocto release at hand
// (bitbake.Assert asks). What blocks has stopped the build, unless the policy says
// that this check only warns.
package settings

import (
	"context"
	"slices"

	"slipway/internal/check"
	"slipway/internal/distro"
)

// ID is the check's, and that of the builder's findings.
const ID = "bitbake-settings"

// New gives the check.
func New() check.Check { return settings{} }

type settings struct{}

func (settings) Spec() distro.CheckSpec {
	return distro.CheckSpec{ID: ID, Level: distro.Block, Asks: "does the configuration of every board make packages that can be published and updated?",
		Cure: "mend conf in slipway.yaml, or the distribution's own file in a layer"}
}

// Run asks once a board; the answers were given when the build was prepared.
func (settings) Run(_ context.Context, bed *check.Bed) (check.Result, error) {
	res := check.Result{Asked: len(bed.Boards), Findings: slices.Clone(bed.Settings)}
	if res.Asked == 0 {
		res.Note = "the series has no boards"
	}
	return res, nil
}
