// Package inspect looks at what a build left: its logs, the packages' headers, the
// build history that BitBake wrote, its images. It says what a person would want to
// know before a release: new warnings, packages that changed and why, new programs with
// special rights, new services and users, other licences, sizes that jump.
//
// It installs and runs nothing. Logs are read as streams, whatever their size.
package inspect

import (
	"context"
	"strings"

	"slipway/internal/check"
	"slipway/internal/distro"
)

// New gives the check.
func New() check.Check { return inspect{} }

type inspect struct{}

func (inspect) Spec() distro.CheckSpec {
	return distro.CheckSpec{ID: "inspect", Level: distro.Warn,
		Asks: "is everything that changed since the last release meant: warnings, contents, rights, services, users, licences, sizes?",
		Cure: "look at it; if it was not meant, mend the recipe or spec"}
}

// Run asks once for each log, each package that changed, each recipe and image.
func (inspect) Run(ctx context.Context, bed *check.Bed) (check.Result, error) {
	var res check.Result
	in := &inspection{bed: bed, res: &res}
	var notes []string
	for _, part := range []func(context.Context) (string, error){in.logs, in.packages, in.history, in.images, in.limits} {
		note, err := part(ctx)
		if err != nil {
			return res, err
		}
		if note != "" {
			notes = append(notes, note)
		}
	}
	res.Note = strings.Join(notes, "; ")
	if res.Asked == 0 && res.Note == "" {
		res.Note = "there is nothing to look at: no logs, and no package with new content"
	}
	return res, nil
}

// inspection is one run.
type inspection struct {
	bed *check.Bed
	res *check.Result
}

func (in *inspection) add(f distro.Finding) { in.res.Findings = append(in.res.Findings, f) }
