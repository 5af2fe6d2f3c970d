package inspect

import (
	"context"
	"fmt"
	"slices"

	"slipway/internal/check"
	"slipway/internal/distro"
)

// images compares the lists of packages of the images, and the size of their files.
func (in *inspection) images(context.Context) (string, error) {
	for _, c := range in.bed.Contents {
		i := slices.IndexFunc(in.bed.BaseContents, func(b check.ImageContent) bool { return b.Board == c.Board && b.Image == c.Image })
		if i < 0 || len(in.bed.Base) == 0 {
			continue
		}
		in.res.Asked++
		names := func(l []distro.PackageRecord) []string {
			var out []string
			for _, p := range l {
				out = append(out, p.Name)
			}
			slices.Sort(out)
			return slices.Compact(out)
		}
		old, now := names(in.bed.BaseContents[i].Packages), names(c.Packages)
		if lost, more := missing(old, now), missing(now, old); len(lost)+len(more) > 0 {
			in.add(distro.Finding{ID: c.Board + "/" + c.Image + ":packages", Level: distro.Info, Object: c.Name, Boards: []string{c.Board},
				Text: fmt.Sprintf("image %s of %s has %s more and %s fewer", c.Image, c.Board, check.Count(len(more), "package"), check.Count(len(lost), "package")), Cure: "nothing, if that was meant",
				Evidence: check.Few(append(marked("+ ", more), marked("- ", lost)...), 40)})
		}
	}
	was := map[string]int64{}
	for _, a := range in.bed.BaseArtifacts {
		if a.Class == distro.Images {
			was[a.Key] = a.Size
		}
	}
	for _, a := range in.bed.Artifacts {
		if old := was[a.Key]; a.Class == distro.Images && in.bed.Growth.Exceeded(old, a.Size) {
			in.add(distro.Finding{ID: "image:" + a.Key + ":size", Level: distro.Warn, Object: a.Name,
				Text: fmt.Sprintf("%s grew from %d to %d bytes, by %d %%; the limit is %d %%", a.Name, old, a.Size, (a.Size-old)*100/old, in.bed.Growth.Percent), Cure: "see what came in; raise gate: growth: in slipway.yaml when that is right"})
		}
	}
	return "", nil
}
