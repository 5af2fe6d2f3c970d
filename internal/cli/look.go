package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/cycle"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/sign"
	"slipway/internal/store"
	"slipway/internal/ui"
	"slipway/internal/web"
)

func (a *app) statusCmd() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "where every release and build stands, why, and what comes next", Args: cobra.NoArgs,
		Example: "  slipway status\n  slipway status --json",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				s, err := w.Status(ctx)
				if err != nil {
					return err
				}
				return a.print(s, func(out io.Writer) { writeStatus(out, s) })
			})
		}}
}

func writeStatus(out io.Writer, s cycle.Status) {
	fmt.Fprintf(out, "%s, series %s: ", s.Title, s.Series)
	if s.Head == "" {
		fmt.Fprintln(out, "no release yet")
	} else {
		fmt.Fprintf(out, "release %s, serial %d\n", s.Head, s.Serial)
	}
	if len(s.Releases) > 0 {
		rows := [][]string{}
		for _, r := range s.Releases {
			rows = append(rows, []string{string(r.Version), string(r.Status), fmt.Sprint(r.Serial), fmt.Sprintf("%d (%d new)", r.Packages, r.New), r.Build, r.By, when(r.Approved)})
		}
		fmt.Fprintln(out)
		ui.Table(out, []string{"RELEASE", "STATUS", "SERIAL", "PACKAGES", "CANDIDATE", "APPROVED BY", "WHEN"}, rows)
	}
	if len(s.Builds) > 0 {
		rows := [][]string{}
		for _, b := range s.Builds {
			name := string(b.ID)
			if b.Candidate != "" {
				name = b.Candidate
			}
			rows = append(rows, []string{name, string(b.Status), orNone(b.Base), b.Revision.Short(), when(b.Created), b.Why})
		}
		fmt.Fprintln(out)
		ui.Table(out, []string{"BUILD", "STATUS", "BASE", "REVISION", "STARTED", "WHY"}, rows)
	}
	fmt.Fprintf(out, "\nnext: %s\n", s.Next)
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

func (a *app) logCmd() *cobra.Command {
	var list bool
	c := &cobra.Command{Use: "log [BUILD] [TASK]", Short: "print the console log of a build, or the log of one task", Args: maximum(2),
		Example: "  slipway log 1.2-b1\n  slipway log 1.2-b1 libknot.x86_64\n  slipway log 1.2-b1 --list",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				b, err := w.Build(ctx, first(args))
				if err != nil {
					return err
				}
				if list || a.json {
					logs := w.Logs(b)
					return a.print(logs, func(out io.Writer) {
						rows := [][]string{}
						for _, l := range logs {
							rows = append(rows, []string{strings.TrimSuffix(l.Name, ".log"), string(l.Class), ui.Size(l.Size)})
						}
						ui.Table(out, []string{"TASK", "CLASS", "SIZE"}, rows)
					})
				}
				task := ""
				if len(args) > 1 {
					task = args[1]
				}
				f, err := w.Log(ctx, b, task)
				if err != nil {
					return err
				}
				defer f.Close()
				_, err = io.Copy(a.Out, f)
				return err
			})
		}}
	c.Flags().BoolVar(&list, "list", false, "list the logs")
	return c
}

func (a *app) diffCmd() *cobra.Command {
	return &cobra.Command{Use: "diff A B", Short: "compare two releases or builds: packages, versions, files, dependencies, sizes", Args: cobra.ExactArgs(2),
		Example: "  slipway diff 1.1 1.2\n  slipway diff 1.2 1.3-c1 --json",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				d, err := w.Diff(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				return a.print(d, func(out io.Writer) { writeDiff(out, d) })
			})
		}}
}

func writeDiff(out io.Writer, d cycle.Diff) {
	fmt.Fprintf(out, "from %s to %s: %d packages changed, %d the same\n", d.A, d.B, len(d.Packages), d.Same)
	for _, p := range d.Packages {
		switch p.Change {
		case "added":
			fmt.Fprintf(out, "\n+ %s.%s %s, %s\n", p.Name, p.Arch, p.New, ui.Size(p.NewSize))
		case "gone":
			fmt.Fprintf(out, "\n- %s.%s %s\n", p.Name, p.Arch, p.Old)
		default:
			fmt.Fprintf(out, "\n  %s.%s %s -> %s", p.Name, p.Arch, p.Old, p.New)
			if p.OldSize != p.NewSize {
				fmt.Fprintf(out, ", %s -> %s (%+d bytes)", ui.Size(p.OldSize), ui.Size(p.NewSize), p.NewSize-p.OldSize)
			}
			fmt.Fprintln(out)
		}
		for _, l := range []struct {
			mark string
			list []string
		}{{"+", p.FilesAdded}, {"-", p.FilesGone}, {"~", p.FilesChanged}, {"+", p.DepsAdded}, {"-", p.DepsGone}, {"~ script", p.Scripts}} {
			for _, x := range l.list {
				fmt.Fprintf(out, "    %s %s\n", l.mark, x)
			}
		}
	}
}

func (a *app) feedCmd() *cobra.Command {
	var url, pin string
	repofile := &cobra.Command{Use: "repofile", Short: "print the .repo file that a device's dnf needs", Args: cobra.NoArgs,
		Example: "  slipway feed repofile\n  slipway feed repofile --url http://127.0.0.1:8080 --pin 1.1",
		Long: `Repofile prints <distribution>.repo with both signature checks on. Without --url and
--pin it holds the variables $slipway_url and $slipway_snapshot, which dnf reads
from /etc/dnf/vars.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				text, err := w.RepoFile(ctx, url, distro.Version(pin))
				if err != nil {
					return err
				}
				return a.print(map[string]string{"repofile": text}, func(out io.Writer) { io.WriteString(out, text) })
			})
		}}
	repofile.Flags().StringVar(&url, "url", "", "where the publication is served, instead of $slipway_url")
	repofile.Flags().StringVar(&pin, "pin", "", "a release to stay at, instead of $slipway_snapshot")
	list := &cobra.Command{Use: "list", Short: "list the feeds of the current snapshot and their packages", Args: cobra.NoArgs,
		Example: "  slipway feed list",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				l, err := w.FeedList(ctx)
				if err != nil {
					return err
				}
				return a.print(l, func(out io.Writer) {
					rows := [][]string{}
					for _, p := range l {
						rows = append(rows, []string{p.Scope, p.Name, p.EVR, string(p.Since), ui.Size(p.Size)})
					}
					ui.Table(out, []string{"FEED", "PACKAGE", "VERSION", "SINCE RELEASE", "SIZE"}, rows)
				})
			})
		}}
	return group("feed", "the feeds: repofile, list, index, export", "  slipway feed list\n  slipway feed repofile\n  slipway feed index ./packages", repofile, list, a.feedIndexCmd(), a.feedExportCmd())
}

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

func (a *app) serveCmd() *cobra.Command {
	var listen string
	c := &cobra.Command{Use: "serve", Short: "serve the publication over HTTP", Args: cobra.NoArgs,
		Example: "  slipway serve\n  slipway serve --listen 127.0.0.1:9000",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				if listen == "" {
					listen = w.Settings.Serve.Listen
				}
				err := web.Serve(ctx, listen, web.Handler(w.Settings.PublicationDir()), func(addr string) {
					fmt.Fprintf(a.Err, "serving %s at http://%s/ (Ctrl-C ends it)\n", w.Settings.PublicationDir(), addr)
				})
				if ctx.Err() != nil {
					return nil
				}
				return err
			})
		}}
	c.Flags().StringVar(&listen, "listen", "", "address and port (default: settings.yaml, 127.0.0.1:8080)")
	return c
}
