package layers

import (
	"context"
	"errors"
	"strings"

	"slipway/internal/errs"
)

// Fetchable tells whether a remote layer's repository has a commit in one of its
// branches or tags as they are now, so that everybody who can reach its address gets
// it: the mirror below .slipway/layers may still have what was pushed away. A
// repository that does not answer is Unavailable.
func Fetchable(ctx context.Context, workspace string, l Layer, commit string) (bool, error) {
	mirror, err := repository(ctx, workspace, l)
	if err != nil {
		return false, err
	}
	// With a branch that cannot be, the mirror is brought up to date and nothing is found.
	asked := Layer{Name: l.Name, URL: l.URL, Branch: "slipway/none"}
	if _, err := fetch(ctx, workspace, mirror, asked); err != nil && !errs.Is(err, errs.NotFound) {
		return false, errs.Wrap(err, "layer %s", l.Name)
	}
	out, err := program{dir: mirror}.line(ctx, "for-each-ref", "--count=1", "--contains="+commit, "--format=%(refname)", "refs/heads", "refs/tags")
	var g *gitError
	if errors.As(err, &g) && strings.Contains(g.talk, "no such commit") {
		return false, nil
	}
	return out != "" && err == nil, errs.Wrap(err, "layer %s", l.Name)
}

// Public tells whether an address is one that others can reach: no path and no file
// of this machine.
func Public(url string) bool {
	return strings.Contains(url, ":") && !strings.HasPrefix(url, "file:")
}
