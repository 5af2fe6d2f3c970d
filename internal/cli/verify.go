package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"slipway/internal/cycle"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/keyring"
	"slipway/internal/sign"
	"slipway/internal/store"
	"slipway/internal/tlog"
	"slipway/internal/ui"
)

// readers is how many packages a verification reads at once.
const readers = 8

// verified is what verify prints.
type verified struct {
	*feed.Report
	Place string          `json:"place,omitempty"`
	Trust string          `json:"trust"` // given, remembered, faith; workspace: its own keys
	Error json.RawMessage `json:"error,omitempty"`
}

func (a *app) verifyCmd() *cobra.Command {
	var keys []string
	var series, file string
	c := &cobra.Command{Use: "verify [URL | DIR]", Short: "read a publication as a stranger would: every digest, every signature", Args: maximum(1),
		Example: "  slipway verify\n  slipway verify https://feeds.example.org/halyard --key root.asc\n  slipway verify ./mirror --series 1 --key package.asc --key metadata.asc\n  slipway verify https://feeds.example.org/halyard --package ./libknot-2.0-1.x86_64.rpm",
		Long: `Verify reads all that is published, with nothing but the public tree: pointers,
release statements, snapshots, every index, every package (digest, header, signature)
and the transparency log, and names every difference at once. Without a place it reads
the workspace's publication with the workspace's public keys.

--key names what you trust: the distribution's root key (then its keyring says which
key is for what), or public keys one by one. Without it the keys are those that you
verified this place with before; the first time they are taken from the publication's
own keys/, on faith, and remembered in $XDG_STATE_HOME/slipway/known.

--package asks about one package file: which release published it, where it is now,
and that no release gives its name to anything else. Then only that package of the pool
is read.

What the network did is exit 1 and decides nothing; findings are exit 4.`,
		RunE: func(c *cobra.Command, args []string) error {
			result := verified{Trust: "workspace"}
			var report *feed.Report
			var denied error
			if len(args) == 0 {
				err := a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
					t, err := workspaceTrust(w, keys)
					if err != nil {
						return err
					}
					report, denied = a.inspect(ctx, w.Tree, w.Definition.Series.Name, t, file)
					return nil
				})
				if err != nil {
					return err
				}
			} else {
				place, err := placeOf(args[0])
				if err != nil {
					return err
				}
				tree, err := feed.Open(place)
				if err != nil {
					return err
				}
				if series, err = oneSeries(c.Context(), tree, series); err != nil {
					return err
				}
				t, err := a.trust(c.Context(), tree, place, keys)
				if err != nil {
					return err
				}
				result.Place, result.Trust = place, t.how
				if t.note != "" {
					fmt.Fprintln(a.Err, t.note)
				}
				report, denied = a.inspect(c.Context(), tree, series, t, file)
				if report != nil && denied == nil {
					if report.Logged > 0 {
						t.log = report.LogOrigin
					}
					if err := t.remember(c.Context(), place); err != nil {
						return err
					}
				}
			}
			if report == nil {
				return denied
			}
			if result.Report = report; denied != nil {
				result.Error = ui.ErrorJSON(denied)
			}
			if err := a.print(result, func(out io.Writer) { writeVerified(out, report) }); err != nil {
				return err
			}
			if denied != nil && a.json {
				return quietly{denied}
			}
			return denied
		}}
	c.Flags().StringArrayVar(&keys, "key", nil, "a public key that you trust: the root key, or one of a role (repeat)")
	c.Flags().StringVar(&series, "series", "", "the series (default: the publication's only one)")
	c.Flags().StringVar(&file, "package", "", "a package file to ask about")
	return c
}

func writeVerified(out io.Writer, r *feed.Report) {
	for _, n := range r.Notes {
		fmt.Fprintln(out, "note:", n)
	}
	for _, g := range r.Removed {
		fmt.Fprintf(out, "removed by law: %s (%s), on %s by %s: %s\n", g.File, g.Notice, g.At[:10], g.By, g.Why)
	}
	for _, f := range r.Findings {
		fmt.Fprintln(out, f)
	}
	if len(r.Findings) > 0 {
		return
	}
	if p := r.Package; p != nil {
		fmt.Fprintf(out, "%s is %s, published by release %s on %s (snapshot %d), now in %s\n", p.File, p.Name, p.Release, when(p.At), p.Serial, p.Where)
		if p.Size > 0 {
			fmt.Fprintf(out, "stated by %s, entry %d of the log of %d\n", p.Statement, p.Leaf, p.Size)
		} else {
			fmt.Fprintf(out, "stated by %s; there is no transparency log\n", p.Statement)
		}
	}
	packages, log := fmt.Sprintf("%d packages", r.Packages), ""
	if r.Package != nil {
		packages = "1 package read"
	}
	if r.Logged > 0 {
		log = fmt.Sprintf(", %d entries of the log", r.Logged)
	}
	fmt.Fprintf(out, "series %s, release %s, serial %d: %d releases, %d snapshots, %s%s, all as signed\n", r.Series, r.Release, r.Serial, r.Releases, r.Snapshots, packages, log)
}

// placeOf gives the one name of a place, under which its keys are remembered.
func placeOf(arg string) (string, error) {
	if dir, ok := strings.CutPrefix(arg, "file://"); ok {
		arg = strings.TrimPrefix(dir, "localhost")
	}
	if strings.Contains(arg, "://") {
		return strings.TrimRight(arg, "/"), nil
	}
	dir, err := filepath.Abs(arg)
	if err != nil {
		return "", errs.E(errs.Invalid, arg, err)
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return "", errs.E(errs.NotFound, arg+" is no folder", errs.Hint("name the folder or the address that holds distribution.json"))
	}
	return dir, nil
}

// oneSeries checks the series that was asked for, or finds the only one.
func oneSeries(ctx context.Context, tree store.Tree, asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	all, err := feed.SeriesOf(ctx, tree)
	if err != nil {
		return "", err
	}
	if len(all) != 1 {
		return "", errs.E(errs.Invalid, fmt.Sprintf("the publication has %d series: %s", len(all), strings.Join(all, ", ")), errs.Hint("--series NAME verifies one"))
	}
	return all[0], nil
}

// workspaceTrust gives the workspace's own public keys, or those that are named.
func workspaceTrust(w *cycle.Workspace, files []string) (trusted, error) {
	// Each workspace has a log of its own, even when two bear one name, as demos do.
	t := trusted{how: "workspace", roles: true, seen: filepath.Join(w.Dir, ".slipway", "log.checkpoint")}
	parse := func(armored []byte, what string) ([]*sign.Public, error) {
		k, err := sign.ParsePublic(armored)
		return k, errs.Wrap(err, "public key %s", what)
	}
	if len(files) > 0 {
		t.roles = false
		texts, err := readFiles(files)
		if err != nil {
			return t, err
		}
		for _, f := range files {
			k, err := parse(texts[f], f)
			if err != nil {
				return t, err
			}
			t.Package = append(t.Package, k...)
		}
		t.Metadata, t.Log = t.Package, t.Package
		return t, nil
	}
	public, err := w.Public()
	if err != nil {
		return t, err
	}
	if t.Package, err = parse(public[string(keyring.Package)], "package"); err != nil {
		return t, err
	}
	if t.Metadata, err = parse(public[string(keyring.Metadata)], "metadata"); err != nil {
		return t, err
	}
	dir, err := w.Settings.KeysDir(w.Definition.Distribution)
	if err != nil {
		return t, err
	}
	ring, _, err := keyring.Folder{Dir: dir}.Load(w.Definition.Distribution)
	if err == nil {
		t.Ring = ring
		if b := ring.Armored(keyring.Log); len(b) > 0 {
			t.Log, err = parse(b, "log")
		}
	}
	if errs.Is(err, errs.NotFound) {
		err = nil
	}
	return t, err
}

// inspect reads a publication with progress. With findings it gives the report and
// an error; without a report nothing was decided.
func (a *app) inspect(ctx context.Context, tree store.Tree, series string, t trusted, file string) (*feed.Report, error) {
	o := feed.Inspection{Workers: readers, LogOrigin: t.log, LogOptional: !t.roles && t.log == "",
		SeenLog: func(origin string) string {
			if t.seen != "" {
				return t.seen
			}
			return tlog.SeenFile(os.Getenv, origin)
		}}
	if file != "" {
		dir, name := filepath.Split(file)
		f, err := store.ReadTree(filepath.Clean(dir+".")).Open(ctx, name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		o.File, o.FileName = f, file
	}
	step := a.talk().Step("verify the publication")
	o.Progress = func(done, total int) { step.Progress(done, total, "packages") }
	r, err := feed.Inspect(ctx, tree, series, t.Trust, o)
	if err != nil {
		step.Failed("")
		return nil, err
	}
	if len(r.Findings) > 0 {
		step.Failed(fmt.Sprintf("%d findings", len(r.Findings)))
		if file != "" {
			return r, errs.E(errs.Denied, fmt.Sprintf("%s is not proved: %d findings", file, len(r.Findings)), errs.Hint("fetch it again from the distribution's own feed; slipway verify without --package reads the whole publication"))
		}
		return r, errs.E(errs.Denied, fmt.Sprintf("the publication is not what was signed: %d findings", len(r.Findings)),
			errs.Hint("restore the named files from a mirror or with slipway restore; published bytes never change"))
	}
	step.Done(fmt.Sprintf("%d releases, %d packages: every digest and signature", r.Releases, r.Packages))
	return r, nil
}
