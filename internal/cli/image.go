package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"slipway/internal/compose"
	"slipway/internal/cycle"
	"slipway/internal/errs"
	"slipway/internal/ui"
)

func (a *app) imageCmd() *cobra.Command {
	var image, format, to string
	build := &cobra.Command{Use: "build BOARD", Short: "compose an image of the open candidate, else of the last release", Args: cobra.ExactArgs(1),
		Example: "  slipway image build qemux86-64\n  slipway image build qemux86-64 --format oci --to ./images",
		Long: `Build installs the image's packages from the signed feed by dnf, verifies them by
digest, and makes a disk with a root file system (ext4 in a GPT), or with
--format oci a container image. The same packages give the same bytes. The
manifest beside it (FILE.json) names every package.`,
		RunE: func(c *cobra.Command, args []string) error {
			if format != "" && format != "ext4" && format != "oci" {
				return errs.E(errs.Invalid, fmt.Sprintf("no image format %q", format), errs.Hint("--format ext4, or --format oci"))
			}
			return a.with(c.Context(), write, func(ctx context.Context, w *cycle.Workspace) error {
				t := a.talk().Step("image for " + args[0])
				m, path, err := w.ComposeOne(ctx, args[0], image, format, to)
				if err != nil {
					t.Failed("")
					return err
				}
				t.Done(fmt.Sprintf("%d packages", len(m.Packages)))
				type result struct {
					Path string `json:"path"`
					compose.Manifest
				}
				return a.print(result{path, m}, func(out io.Writer) {
					fmt.Fprintf(out, "%s  %s, sha256 %s\n", path, ui.Size(m.Size), m.Digest.Hex())
					if m.Format != "oci" {
						fmt.Fprintf(out, "next: slipway boot %s\n", path)
					}
				})
			})
		}}
	build.Flags().StringVar(&image, "image", "", "which of the board's images (default: the first)")
	build.Flags().StringVar(&format, "format", "", "ext4 or oci (default: as images/NAME.yaml says)")
	build.Flags().StringVar(&to, "to", ".", "the folder to write to")
	return group("image", "images: build, check", "  slipway image build qemux86-64\n  slipway image check light.img", build, a.imageCheckCmd())
}
