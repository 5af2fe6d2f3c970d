// Package public asks whether an image that is to be published holds a package
// that the policy keeps in. It reads the images' lists of packages only.
package public

import (
	"context"
	"fmt"

	"slipway/internal/check"
	"slipway/internal/distro"
)

// New gives the check.
func New() check.Check { return public{} }

type public struct{}

func (public) Spec() distro.CheckSpec {
	return distro.CheckSpec{ID: "public", Level: distro.Block,
		Asks: "does every image that is published hold public packages only?",
		Cure: "leave it out of the image, or let publish: in slipway.yaml say that it may go out; with a waiver the release goes on without that image"}
}

// Run asks once for each image.
func (public) Run(_ context.Context, bed *check.Bed) (check.Result, error) {
	var res check.Result
	if len(bed.Contents) == 0 {
		res.Note = "the candidate has no images"
		return res, nil
	}
	if ok, why := bed.Public.Public(distro.Images); !ok {
		res.Note = "no image is published: " + why
		return res, nil
	}
	for _, c := range bed.Contents {
		res.Asked++
		for _, p := range c.Packages {
			if why := bed.Public.Excluded(p.Origin()); why != "" {
				res.Findings = append(res.Findings, distro.Finding{ID: c.Board + "/" + c.Image + ":" + p.Name + "." + p.Arch, Object: c.Name, Boards: []string{c.Board}, Source: p.SourceName,
					Text: fmt.Sprintf("image %s of %s holds %s, which is not public: %s", c.Image, c.Board, p.NEVRA(), why)})
			}
		}
	}
	return res, nil
}
