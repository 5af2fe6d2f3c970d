package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"slipway/internal/cycle"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/sign"
	"slipway/internal/store"
	"slipway/internal/ui"
)

func (a *app) verifyCmd() *cobra.Command {
	var keys []string
	var series string
	c := &cobra.Command{Use: "verify [DIR]", Short: "read a publication as a stranger would: every digest, every signature", Args: maximum(1),
		Example: "  slipway verify\n  slipway verify ./mirror --series 1 --key package.asc --key metadata.asc",
		RunE: func(c *cobra.Command, args []string) error {
			ctx := c.Context()
			var tree store.Tree
			var trusted func() (map[string][]byte, error)
			if len(args) == 0 {
				err := a.with(ctx, read, func(ctx context.Context, w *cycle.Workspace) error {
					series, tree, trusted = w.Definition.Series.Name, w.Tree, w.Public
					return nil
				})
				if err != nil {
					return err
				}
			} else {
				if series == "" || len(keys) == 0 {
					return errs.E(errs.Invalid, "a folder is verified with a series and the keys that you trust", errs.Hint("slipway verify DIR --series 1 --key FILE"))
				}
				tree = store.ReadTree(args[0])
				trusted = func() (map[string][]byte, error) { return readFiles(keys) }
			}
			r, denied := a.verify(ctx, tree, series, trusted)
			if r == nil {
				return denied
			}
			result := struct {
				*feed.Report
				Error json.RawMessage `json:"error,omitempty"`
			}{Report: r}
			if denied != nil {
				result.Error = ui.ErrorJSON(denied)
			}
			if err := a.print(result, func(out io.Writer) {
				for _, f := range r.Findings {
					fmt.Fprintln(out, f)
				}
				if len(r.Findings) == 0 {
					fmt.Fprintf(out, "series %s, release %s, serial %d: %d releases, %d snapshots, %d packages, all as signed\n", r.Series, r.Release, r.Serial, r.Releases, r.Snapshots, r.Packages)
				}
			}); err != nil {
				return err
			}
			if denied != nil && a.json {
				return quietly{denied}
			}
			return denied
		}}
	c.Flags().StringArrayVar(&keys, "key", nil, "a public key that you trust (repeat)")
	c.Flags().StringVar(&series, "series", "", "the series")
	return c
}

// verify reads a publication with progress. With findings it gives the report and
// an error; without a report nothing could be read.
func (a *app) verify(ctx context.Context, tree store.Tree, series string, public func() (map[string][]byte, error)) (*feed.Report, error) {
	armored, err := public()
	if err != nil {
		return nil, err
	}
	var trusted []*sign.Public
	for name, b := range armored {
		k, err := sign.ParsePublic(b)
		if err != nil {
			return nil, errs.Wrap(err, "public key %s", name)
		}
		trusted = append(trusted, k...)
	}
	t := a.talk().Step("verify the publication")
	r, err := feed.Verify(ctx, tree, series, trusted, func(done, total int) { t.Progress(done, total, "packages") })
	if err != nil {
		t.Failed("")
		return nil, err
	}
	if len(r.Findings) > 0 {
		t.Failed(fmt.Sprintf("%d findings", len(r.Findings)))
		return r, errs.E(errs.Denied, fmt.Sprintf("the publication is not what was signed: %d findings", len(r.Findings)),
			errs.Hint("restore the named files from a mirror or with slipway restore; published bytes never change"))
	}
	t.Done(fmt.Sprintf("%d releases, %d packages: every digest and signature", r.Releases, r.Packages))
	return r, nil
}
