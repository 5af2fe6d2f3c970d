package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"slipway/internal/config"
	"slipway/internal/cycle"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/store"
	"slipway/internal/store/s3"
	"slipway/internal/ui"
)

// uploads is how many files go to an object store at once.
const uploads = 16

func (a *app) feedExportCmd() *cobra.Command {
	var from, release string
	var o feed.ExportOptions
	var object config.ObjectStorage
	c := &cobra.Command{Use: "export [DIR | s3://BUCKET/PREFIX]", Short: "copy the publication to a folder for a static host, or to an object store", Args: maximum(1),
		Example: "  slipway feed export /srv/www/halyard\n  slipway feed export ./copy --series 1\n  slipway feed export ./halyard-1.1 --release 1.1\n  slipway feed export s3://feeds/halyard --endpoint https://s3.example.org",
		Long: `Export copies what is published: first all that is written once, then the pointers,
in the order of a publish. The copy is whole at every moment; an export that was cut
off is finished by the next, and repeating it writes nothing. Devices need nothing
but another $slipway_url.

--release copies one release alone, or one snapshot, as --pin of feed repofile names it:
its index, the packages, images, statements and keys that it needs, each held against
its digest first. The same release gives the same bytes at any time. A device that
follows current has that release when its $slipway_url names the copy. slipway-device
does not take it: no pointer in it says that it is the newest.

Without a place it goes to object_storage.publication of settings.yaml, as after
each slipway publish. Credentials of an object store come from AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials.`,
		RunE: func(c *cobra.Command, args []string) error {
			export := func(ctx context.Context, tree store.Tree, place string, object config.ObjectStorage, trust func(string) (feed.Trust, error)) error {
				if o.Trust = trust; release != "" {
					return a.exportRelease(ctx, tree, place, object, o, release)
				}
				done, err := a.export(ctx, tree, place, object, o)
				if err != nil {
					return err
				}
				return a.print(done, func(out io.Writer) {
					fmt.Fprintf(out, "%s: %d files, %d new (%s copied), %d pointers switched\n", place, done.Files, done.New, ui.Size(done.Bytes), done.Pointers)
				})
			}
			if from != "" {
				if len(args) == 0 {
					return errs.E(errs.Invalid, "no place to export to", errs.Hint("slipway feed export DIR --from "+from))
				}
				return export(c.Context(), store.ReadTree(from), args[0], object, a.strangersTrust(c.Context(), from))
			}
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				place, in := first(args), w.Settings.ObjectStorage
				if release != "" {
					if len(o.Series) == 0 {
						o.Series = []string{w.Definition.Series.Name}
					}
					if place == "" {
						return errs.E(errs.Invalid, "no place to export release "+release+" to", errs.Hintf("slipway feed export DIR --release %s: a place of its own", release))
					}
				}
				if place == "" {
					place = in.Publication
				}
				if place == "" {
					return errs.E(errs.Invalid, "no place to export to", errs.Hint("slipway feed export DIR; or object_storage.publication in settings.yaml"))
				}
				if object.Endpoint != "" {
					in.Endpoint = object.Endpoint
				}
				if object.Region != "" {
					in.Region = object.Region
				}
				return a.exclusive(ctx, w, func() error { return export(ctx, w.Tree, place, in, ownTrust(w)) })
			})
		}}
	c.Flags().StringVar(&from, "from", "", "a publication's folder (default: the workspace's)")
	c.Flags().StringSliceVar(&o.Series, "series", nil, "only this series; may be repeated")
	c.Flags().StringVar(&release, "release", "", "only this release (1.1), or the snapshot of a day (2026-12-24) or a serial (snapshots/17)")
	c.Flags().BoolVar(&o.Link, "link", false, "hard links instead of copies: what changes the copy changes the publication")
	c.Flags().BoolVar(&o.Check, "check", false, "compare what is there already byte by byte")
	c.Flags().StringVar(&object.Endpoint, "endpoint", "", "address of the object store (default: settings.yaml, else Amazon's)")
	c.Flags().StringVar(&object.Region, "region", "", "region of the bucket (default: settings.yaml, AWS_REGION, us-east-1)")
	return c
}

// ownTrust gives the keys that removals of the workspace's publication are checked with.
func ownTrust(w *cycle.Workspace) func(string) (feed.Trust, error) {
	return func(string) (feed.Trust, error) {
		t, err := workspaceTrust(w, nil)
		return t.Trust, err
	}
}

// strangersTrust is what slipway verify would trust a folder with.
func (a *app) strangersTrust(ctx context.Context, dir string) func(string) (feed.Trust, error) {
	return func(string) (feed.Trust, error) {
		place, err := placeOf(dir)
		if err != nil {
			return feed.Trust{}, err
		}
		t, err := a.trust(ctx, store.ReadTree(dir), place, nil)
		if t.note != "" && err == nil {
			fmt.Fprintln(a.Err, t.note)
		}
		return t.Trust, err
	}
}

// exclusive lets one export of a workspace run at a time: an older one must not
// switch the pointers of a copy back.
func (a *app) exclusive(ctx context.Context, w *cycle.Workspace, f func() error) error {
	lock, err := store.Acquire(ctx, filepath.Join(w.Dir, ".slipway", "export.lock"), store.Self(a.command(), a.clock()), a.wait, nil)
	if err != nil {
		return err
	}
	defer lock.Release()
	return f()
}

// exportRelease copies one release.
func (a *app) exportRelease(ctx context.Context, from store.Tree, place string, object config.ObjectStorage, o feed.ExportOptions, what string) error {
	if len(o.Series) > 1 {
		return errs.E(errs.Invalid, "--release is of one series")
	}
	series, err := oneSeries(ctx, from, first(o.Series))
	if err != nil {
		return err
	}
	t := a.talk().Step(fmt.Sprintf("export %s to %s", what, place))
	to, workers, err := openCopy(ctx, place, object)
	var done feed.Exported
	var doc feed.ExportedRelease
	if err == nil {
		o.Workers = workers
		o.Progress = func(n, total int) { t.Progress(n, total, "files") }
		done, doc, err = feed.ExportRelease(ctx, from, to, series, what, o)
	}
	if err != nil {
		t.Failed("")
		return err
	}
	t.Done(fmt.Sprintf("release %s, serial %d", doc.Release, doc.Serial))
	return a.print(struct {
		feed.ExportedRelease
		feed.Exported
	}{doc, done}, func(out io.Writer) {
		fmt.Fprintf(out, "%s: release %s as of serial %d, %d files, %d new (%s copied)\n", place, doc.Release, doc.Serial, done.Files, done.New, ui.Size(done.Bytes))
	})
}

// openCopy opens the place that a copy goes to, and says how many files go there at once.
func openCopy(ctx context.Context, place string, object config.ObjectStorage) (store.Tree, int, error) {
	if strings.HasPrefix(place, "s3://") {
		b, err := bucket(ctx, place, object, write)
		if err != nil {
			return nil, 0, err
		}
		return b.Tree(), uploads, nil
	}
	t, err := store.OpenTree(place)
	return t, readers, err
}

// export copies a publication to a folder or an object store.
func (a *app) export(ctx context.Context, from store.Tree, place string, object config.ObjectStorage, o feed.ExportOptions) (feed.Exported, error) {
	t := a.talk().Step("export to " + place)
	to, workers, err := openCopy(ctx, place, object)
	if workers == uploads {
		o.Workers = workers
	}
	var done feed.Exported
	if err == nil {
		o.Progress = func(n, total int) { t.Progress(n, total, "files") }
		done, err = feed.Export(ctx, from, to, o)
	}
	if err != nil {
		t.Failed("the copy shows what it showed before")
		return done, err
	}
	t.Done(fmt.Sprintf("%d files, %d new", done.Files, done.New))
	return done, nil
}

// bucket opens a place in an object store.
func bucket(ctx context.Context, place string, object config.ObjectStorage, m mode) (*s3.Bucket, error) {
	at, err := s3.ParseLocation(place)
	if err != nil {
		return nil, err
	}
	o := s3.Options{Endpoint: object.Endpoint, Region: object.Region}
	if m == read {
		return s3.Read(at, o)
	}
	return s3.Open(ctx, at, o)
}

// openBlobs opens the artifact store, in a folder or an object store.
func openBlobs(ctx context.Context, s *config.Settings, m mode) (store.Blobs, error) {
	place := s.StoreDir()
	switch {
	case strings.HasPrefix(place, "s3://"):
		b, err := bucket(ctx, place, s.ObjectStorage, m)
		if err != nil {
			return nil, errs.Wrap(err, "artifact store")
		}
		return b.Blobs(), nil
	case m == read:
		return store.ReadBlobs(place), nil
	}
	return store.OpenBlobs(place)
}

// copyOut brings a release to where object_storage.publication says.
func (a *app) copyOut(ctx context.Context, w *cycle.Workspace) error {
	object := w.Settings.ObjectStorage
	if object.Publication == "" {
		return nil
	}
	err := a.exclusive(ctx, w, func() error {
		_, err := a.export(ctx, w.Tree, object.Publication, object, feed.ExportOptions{Trust: ownTrust(w)})
		return err
	})
	if err != nil {
		return errs.E(errs.KindOf(err), "published in "+w.Settings.PublicationDir()+", but not copied to "+object.Publication, err,
			errs.Hint("clients of the copy see what was there before; slipway feed export goes on when the cause is gone"))
	}
	return nil
}
