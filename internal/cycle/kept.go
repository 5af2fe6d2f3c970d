package cycle

import (
	"context"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// keptBy gives Bed.Kept: what the build that brought a package kept under a name, as
// evidence of the check abi or as an artifact of the builder, of a package's source.
func (w *Workspace) keptBy(releases []Release, b Build) func(ctx context.Context, r distro.PackageRecord, name string) ([]byte, bool, error) {
	brought := map[distro.Digest]distro.BuildID{} // header -> build
	for _, r := range releases {
		for _, p := range r.Packages {
			if _, ok := brought[p.HeaderDigest]; !ok && !p.Kept {
				brought[p.HeaderDigest] = r.Build
			}
		}
	}
	for _, p := range fresh(b.Packages) {
		brought[p.HeaderDigest] = b.ID
	}
	return func(ctx context.Context, r distro.PackageRecord, name string) ([]byte, bool, error) {
		id, ok := brought[r.HeaderDigest]
		if !ok {
			return nil, false, nil
		}
		from, err := w.Build(ctx, string(id))
		if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Invalid) { // adopted: nobody built it here
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		wanted := []string{"test/abi/" + name, "abi/" + r.SourceName + "." + r.Arch + "/" + strings.TrimPrefix(name, r.Name+"."+r.Arch)}
		all := slices.Clone(from.Artifacts)
		for _, c := range from.Candidate.Checks {
			all = append(all, c.Evidence...)
		}
		for _, a := range all {
			if !slices.Contains(wanted, a.Name) || a.Digest == "" {
				continue
			}
			data, err := w.readBlob(ctx, a.Digest)
			if errs.Is(err, errs.NotFound) { // collected
				return nil, false, nil
			}
			return data, err == nil, err
		}
		return nil, false, nil
	}
}
