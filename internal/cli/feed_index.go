package cli

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/errs"
	"slipway/internal/feedindex"
	"slipway/internal/rpmmd"
	"slipway/internal/ui"
)

func (a *app) feedIndexCmd() *cobra.Command {
	var keep int
	var compress string
	c := &cobra.Command{Use: "index DIR", Short: "write the metadata of a plain folder of RPMs, as createrepo_c does", Args: cobra.ExactArgs(1),
		Example: "  slipway feed index ./packages\n  slipway feed index ./packages --keep 2 --compress gzip",
		Long: `Index writes DIR/repodata for all *.rpm below DIR, and brings it up to date at the
cost of what changed: new, gone and changed files are told by name, size and time,
as by createrepo_c --update. Nothing new writes nothing. It needs no workspace.

repomd.xml is replaced last, so that clients see the old or the new index; a bad
package leaves it as it was. SOURCE_DATE_EPOCH dates the index, if it is set.`,
		RunE: func(c *cobra.Command, args []string) error {
			at := a.clock()
			if s := os.Getenv("SOURCE_DATE_EPOCH"); s != "" {
				n, err := strconv.ParseInt(s, 10, 64)
				if err != nil || n < 0 {
					return errs.E(errs.Invalid, fmt.Sprintf("SOURCE_DATE_EPOCH=%q is no number of seconds", s))
				}
				at = time.Unix(n, 0)
			}
			step := a.talk().Step("index " + args[0])
			r, err := feedindex.Index(c.Context(), args[0], feedindex.Options{Compression: rpmmd.Compression(compress), Keep: keep, At: at,
				Progress: func(done, total int) { step.Progress(done, total, "packages") }})
			if err != nil {
				step.Failed("the index is as it was")
				return err
			}
			if r.Rebuilt != "" {
				step.Done("made anew from all packages: " + r.Rebuilt)
			} else {
				step.Done("")
			}
			return a.print(r, func(out io.Writer) {
				if !r.Written {
					fmt.Fprintf(out, "%s: %d packages, nothing changed\n", r.Dir, r.Packages)
					return
				}
				fmt.Fprintf(out, "%s: %d packages (%d new, %d changed, %d gone), metadata of %s\n", r.Dir, r.Packages, r.New, r.Changed, r.Gone, ui.Size(r.Bytes))
				if r.Unsigned {
					fmt.Fprintln(out, "repomd.xml.asc signed the index before and was removed: sign repomd.xml again")
				}
			})
		}}
	c.Flags().StringVar(&compress, "compress", "zstd", "zstd, or gzip for clients without zstd")
	c.Flags().IntVar(&keep, "keep", 0, "how many older indexes' files stay, for clients in the middle of a refresh")
	return c
}
