package layers

import (
	"context"

	"slipway/internal/errs"
)

// FastForward moves the branch and the files of the repository at dir to a tag,
// as `git merge --ff-only TAG` does; being there or beyond already is fine. It
// is the one call that writes into a user's repository: only the demo makes it.
func FastForward(ctx context.Context, dir, tag string) error {
	p := program{dir: dir, isolated: true}
	_, err := p.run(ctx, "merge", "--quiet", "--ff-only", tag)
	return errs.Wrap(err, "go on to %s in %s", tag, dir)
}
