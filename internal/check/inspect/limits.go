package inspect

import (
	"context"
	"fmt"

	"slipway/internal/check"
	"slipway/internal/distro"
)

// limits asks whether anything is larger than the policy allows, changed or not.
func (in *inspection) limits(ctx context.Context) (string, error) {
	over := func(id, object, source string, boards []string, size int64, l check.Limit, pattern string) {
		in.res.Asked++
		if size > l.Bytes {
			in.add(distro.Finding{ID: "limit:" + id, Level: distro.Block, Object: object, Source: source, Boards: boards,
				Text: fmt.Sprintf("%s has %d bytes; the limit of %s is %d", object, size, pattern, l.Bytes), Cure: "make it smaller, or raise its size in gate: limits: of slipway.yaml"})
		}
	}
	size := map[string]int64{}
	for _, a := range in.bed.Artifacts {
		if a.Class == distro.Images {
			size[a.Name] = a.Size
		}
	}
	for _, c := range in.bed.Contents {
		for _, l := range in.bed.Limits {
			name := c.Board + "/" + c.Image
			if l.Image == "" || !distro.MatchText(l.Image, name) {
				continue
			}
			if _, known := size[c.Name]; !known {
				in.add(distro.Finding{ID: "limit:image:" + name, Level: distro.Block, Object: c.Name, Boards: []string{c.Board}, Text: "the build left no file " + c.Name + ": nobody knows whether it is within its limit", Cure: "slipway log BUILD: what the task says that makes it"})
			} else {
				over("image:"+name, c.Name, "", []string{c.Board}, size[c.Name], l, l.Image)
			}
		}
	}
	for _, p := range check.Binary(in.bed.Packages) {
		for _, l := range in.bed.Limits {
			if l.Package == "" || !distro.MatchText(l.Package, p.Name) || in.bed.Read == nil {
				continue
			}
			header, err := in.bed.Read(ctx, p)
			if err != nil {
				return "", err
			}
			over("package:"+p.Name+"."+p.Arch, p.NEVRA(), p.SourceName, nil, header.InstalledSize, l, l.Package)
		}
	}
	return "", nil
}
