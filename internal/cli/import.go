package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"slipway/internal/cycle"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/sign"
)

// handover are the flags of a command that takes what another CI built.
type handover struct {
	dir      string
	parts    []string
	signedBy []string
}

func (h *handover) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&h.dir, "import", "", "the build folder that another CI left (builder: {kind: import})")
	f.StringArrayVar(&h.parts, "part", nil, "with --import: PART=PATH, what lies elsewhere (repeat)")
	f.StringArrayVar(&h.signedBy, "signed-by", nil, "with --import: public key of packages that are signed (repeat)")
}

// handed reads the flags; nil is no import.
func (h *handover) handed() (*cycle.Handed, error) {
	if h.dir == "" {
		for name, given := range map[string][]string{"part": h.parts, "signed-by": h.signedBy} {
			if len(given) > 0 {
				return nil, errs.E(errs.Invalid, "--"+name+" goes with --import", errs.Hint("slipway build --import DIR"))
			}
		}
		return nil, nil
	}
	out := &cycle.Handed{Dir: h.dir, Parts: map[string]string{}}
	for _, p := range h.parts {
		name, path, ok := strings.Cut(p, "=")
		if !ok || name == "" || path == "" {
			return nil, errs.E(errs.Invalid, fmt.Sprintf("--part %q names no part and its path", p), errs.Hint("--part downloads=/srv/downloads"))
		}
		if _, twice := out.Parts[name]; twice {
			return nil, errs.E(errs.Invalid, "--part "+name+" is there twice", errs.Hint("a part lies in one place"))
		}
		out.Parts[name] = path
	}
	files, err := readFiles(h.signedBy)
	if err != nil {
		return nil, err
	}
	for _, name := range h.signedBy {
		keys, err := sign.ParsePublic(files[name])
		if err != nil {
			return nil, errs.Wrap(err, "public key %s", name)
		}
		out.Signers = append(out.Signers, keys...)
	}
	return out, nil
}

// nextBuild is the result of next.
type nextBuild struct {
	Version distro.Version `json:"version"`
	Dir     string         `json:"dir,omitempty"` // with --into
	Files   []string       `json:"files,omitempty"`
}

func (a *app) nextCmd() *cobra.Command {
	var into string
	c := &cobra.Command{Use: "next", Short: "the version that the next build is for, and the configuration of a BitBake elsewhere", Args: cobra.NoArgs,
		Example: "  slipway next\n  slipway next --into /srv/ci/build/slipway",
		Long: `Next prints the version of the next build. It stays the same until a release of that
version is approved: builds that are rejected do not use it up.

With --into it writes what a BitBake elsewhere needs for it into a folder, the folder
"slipway" of its build folder: slipway.conf, which local.conf there requires at its end,
and feed-configuration/, the device's .repo file, keys and variables, for the recipe of
meta-slipway.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				v, err := w.NextVersion(ctx)
				if err != nil {
					return err
				}
				out := nextBuild{Version: v}
				if into != "" {
					if out.Dir, err = filepath.Abs(into); err == nil {
						out.Files, err = writeNext(w, v, out.Dir)
					}
					if err != nil {
						return err
					}
				}
				return a.print(out, func(o io.Writer) { fmt.Fprintln(o, v) })
			})
		}}
	c.Flags().StringVar(&into, "into", "", "also write slipway.conf and feed-configuration/ into this folder")
	return c
}

// writeNext writes the configuration for a build of v; slipway.conf comes last. Files that
// are there already are replaced.
func writeNext(w *cycle.Workspace, v distro.Version, dir string) ([]string, error) {
	files, err := w.FeedConfiguration()
	if err != nil {
		return nil, err
	}
	var names []string
	put := func(name string, data []byte) error {
		path := filepath.Join(dir, filepath.FromSlash(name))
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path+".partial", data, 0o644)
		}
		if err == nil {
			err = os.Rename(path+".partial", path)
		}
		if err != nil {
			return errs.E(errs.Unavailable, "write "+path, err)
		}
		names = append(names, name)
		return nil
	}
	for name, data := range files {
		if err := put("feed-configuration/"+name, data); err != nil {
			return nil, err
		}
	}
	slices.Sort(names)
	err = put("slipway.conf", []byte(fmt.Sprintf(`# Written by slipway next for build %s. local.conf says, at its end: require slipway/slipway.conf
DISTRO_VERSION:forcevariable = "%s"
IMAGE_VERSION_SUFFIX = "-%s"
SLIPWAY_FEED_CONFIG = "${TOPDIR}/slipway/feed-configuration"
BB_BASEHASH_IGNORE_VARS:append = " SLIPWAY_FEED_CONFIG"
`, v, v, v)))
	return names, err
}
