package cycle

import (
	"context"
	"io"
	"strings"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/errs"
)

// leave lists what a build left beside its packages, with the evidence of its checks,
// as checks read it.
func (w *Workspace) leave(b Build) []check.Artifact {
	var out []check.Artifact
	add := func(all []distro.Artifact) {
		for _, a := range all {
			if a.Class == distro.Packages || a.Digest == "" {
				continue
			}
			out = append(out, check.Artifact{Artifact: a, Key: strings.ReplaceAll(a.Name, "-"+string(b.Version), ""),
				Open: func(ctx context.Context) (io.ReadCloser, error) { return w.Blobs.Open(ctx, a.Digest) }})
		}
	}
	add(b.Artifacts)
	for _, c := range b.Candidate.Checks {
		add(c.Evidence)
	}
	return out
}

// before gives a bed what the build of the base release left, and its images.
func (w *Workspace) before(ctx context.Context, bed *check.Bed, b Build) error {
	own := b
	own.Candidate.Checks = nil // of an earlier test of the same candidate
	bed.Artifacts = w.leave(own)
	bed.Growth = check.Growth{Percent: w.Definition.Gate.Growth.Percent, Bytes: int64(w.Definition.Gate.Growth.KiB) << 10}
	for _, l := range w.Definition.Gate.Limits {
		bed.Limits = append(bed.Limits, check.Limit{Package: l.Package, Image: l.Image, Bytes: l.Bytes()})
	}
	if b.Base == "" {
		return nil
	}
	r, err := w.Release(ctx, b.Base)
	if err != nil {
		return err
	}
	base, err := w.Build(ctx, string(r.Build))
	if r.Build == "" || errs.Is(err, errs.NotFound) || errs.Is(err, errs.Invalid) { // adopted: nobody built it here
		return nil
	}
	if err != nil {
		return err
	}
	bed.BaseArtifacts = w.leave(base)
	bed.BaseContents, err = w.imageContents(ctx, base)
	return err
}
