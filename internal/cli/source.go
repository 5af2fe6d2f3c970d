package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"slipway/internal/asyncrpc"
	"slipway/internal/bitbake"
	"slipway/internal/cycle"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/hashserv"
	"slipway/internal/hashserv/hashdb"
	"slipway/internal/prserv"
	"slipway/internal/prserv/prdb"
	"slipway/internal/rpmbuild"
	"slipway/internal/source"
	"slipway/internal/ui"
)

func (a *app) sourceCmd() *cobra.Command {
	return group("source", "from binary to source: export, serve, doctor, compare; sources that lie in no layer: lock",
		"  slipway source export 1.2 -o kas --into halyard-1.2\n  slipway source doctor halyard-1.2",
		a.sourceExportCmd(), a.sourceServeCmd(), a.sourceDoctorCmd(), a.sourceCompareCmd(), a.sourceMirrorCmd(), a.sourceLockCmd())
}

func (a *app) sourceExportCmd() *cobra.Command {
	var o source.Options
	var into string
	c := &cobra.Command{Use: "export VERSION", Short: "write a folder from which others build a release: the same bits first", Args: cobra.ExactArgs(1),
		Example: "  slipway source export 1.2 -o kas --into halyard-1.2\n  slipway source export 1.2 -o conf --into halyard-1.2 --hashserv hash.example.org:8686",
		Long: `Export writes all that a BitBake elsewhere needs to come to the bits of a release:
its layers at their commits, its configuration, the addresses of the published cache
and sources, and copies of the PR and hash equivalence databases. Hand the folder
on, or publish it.

Whoever gets it runs ./prepare in it, then slipway source serve, doctor, and builds.
Numbers of his own packages lie below the official ones and never clash with them.

The cache and the sources are named when publish.public lists sstate and downloads;
--sstate and --downloads name others, "none" none.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				v, _, err := distro.ParseVersion(w.Definition.Series.Name, args[0])
				if err != nil {
					return err
				}
				s, err := w.SourceSet(ctx, v)
				if err != nil {
					return err
				}
				o := o
				base := strings.TrimSuffix(w.Definition.Feeds.BaseURL, "/")
				for _, m := range []struct {
					address *string
					class   distro.Class
					folder  string
				}{{&o.SState, distro.SState, source.SStateFolder}, {&o.Downloads, distro.Downloads, source.DownloadsFolder}} {
					if *m.address == "" && w.Definition.IsPublic(m.class) {
						*m.address = base + "/" + m.folder
					} else if *m.address == "none" {
						*m.address = ""
					}
				}
				if into == "" {
					into = filepath.Join(w.Dir, ".slipway", "source", string(v)+"-"+o.Format)
				}
				t := a.talk().Step("export release " + string(v))
				x, err := source.Export(ctx, s, o, into)
				if err != nil {
					t.Failed("")
					return err
				}
				t.Done(fmt.Sprintf("%d layers, %d packages, %d numbers, %d unihashes", len(x.Layers), x.Packages, x.Numbers, x.Unihash))
				return a.print(x, func(out io.Writer) {
					fmt.Fprintf(out, "%s is ready, for %s\n", x.Dir, x.Format)
					for _, n := range x.Notes {
						fmt.Fprintf(out, "note: %s\n", n)
					}
					fmt.Fprintf(out, "next, as the user who builds: %s/prepare\n", x.Dir)
				})
			})
		}}
	f := c.Flags()
	f.StringVarP(&o.Format, "format", "o", source.Kas, "kas, bitbake-setup, or conf: plain files")
	f.StringVar(&into, "into", "", "the folder, new or empty (default: .slipway/source/<version>-<format>)")
	f.StringVar(&o.SState, "sstate", "", "address of the published cache (default: that of the publication, when it is public)")
	f.StringVar(&o.Downloads, "downloads", "", "address of the published sources (default: as above)")
	f.StringVar(&o.HashServer, "hashserv", "", "public hash equivalence server, instead of the copy in the folder")
	f.StringVar(&o.PRServer, "prserv", "", "PR server of the distribution that its users can reach, and nobody else, instead of the copy")
	f.IntVar(&o.Port, "port", source.DefaultPort, "port of the user's own PR server, on his machine; hash equivalence takes the next one")
	return c
}

func (a *app) sourceServeCmd() *cobra.Command {
	c := &cobra.Command{Use: "serve [DIR]", Short: "serve your own PR numbers, below those of an exported release, and its hash equivalence", Args: maximum(1),
		Example: "  slipway source serve halyard-1.2",
		Long: `Serve runs on your machine, for your builds of an exported release, until Ctrl-C:
your own PR server, whose numbers lie below the official ones, and a read-only
hash equivalence server of what was released. They listen on the loopback alone.
Your numbers are in own/prserv.sqlite3 of the folder: keep that file.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.sourceServe(c.Context(), exported(args))
		}}
	return c
}

// exported is the folder that a command is about.
func exported(args []string) string {
	if len(args) == 0 {
		return "."
	}
	return args[0]
}

func (a *app) sourceServe(ctx context.Context, dir string) (err error) {
	m, err := source.ReadManifest(dir)
	if err != nil {
		return err
	}
	log, err := a.logger("WARNING")
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var closing []io.Closer
	done := make(chan error, 3)
	running := 0
	defer func() {
		stop()
		for range running {
			if e := <-done; err == nil {
				err = e
			}
		}
		for i := len(closing) - 1; i >= 0; i-- {
			if e := closing[i].Close(); err == nil {
				err = e
			}
		}
	}()
	start := func(serve func(context.Context, ...*asyncrpc.Listener) error, address string) (string, error) {
		l, err := asyncrpc.Listen(ctx, address, false)
		if err != nil {
			return "", err
		}
		running++
		go func() { done <- serve(ctx, l); stop() }()
		return l.Address(), nil
	}
	upstream := m.PR.Upstream
	if m.PR.Database != "" {
		copied, err := officialCopy(ctx, dir, m.PR.Database, func(ctx context.Context, to, from string) error {
			db, err := prdb.Open(to, false)
			if err != nil {
				return err
			}
			_, err = db.Import(ctx, from)
			return errors.Join(err, db.Close())
		})
		if err != nil {
			return err
		}
		db, err := prdb.Open(copied, true)
		if err != nil {
			return err
		}
		closing = append(closing, db)
		s, err := prserv.New(prserv.Options{DB: db, ReadOnly: true, Log: log})
		if err != nil {
			return err
		}
		if upstream, err = start(s.Serve, "127.0.0.1:0"); err != nil {
			return err
		}
	}
	own := filepath.Join(dir, filepath.FromSlash(m.PR.Own))
	if err := os.MkdirAll(filepath.Dir(own), 0o755); err != nil {
		return errs.E(errs.Unavailable, "make "+filepath.Dir(own), err)
	}
	db, err := prdb.Open(own, false)
	if err != nil {
		return err
	}
	closing = append(closing, db)
	pr, err := prserv.New(prserv.Options{DB: db, Upstream: upstream, Log: log})
	if err != nil {
		return err
	}
	at, err := start(pr.Serve, m.PR.Address)
	if err != nil {
		return taken(err, m.PR.Address)
	}
	fmt.Fprintf(a.Err, "your PR numbers at %s, below those of %s %s\n", at, m.Distribution, m.Version)
	if m.Hash.Database != "" {
		copied, err := officialCopy(ctx, dir, m.Hash.Database, func(ctx context.Context, to, from string) error {
			db, err := hashdb.Open(to, hashdb.Options{IndexBytes: -1})
			if err != nil {
				return err
			}
			_, err = db.Import(ctx, from)
			return errors.Join(err, db.Close())
		})
		if err != nil {
			return err
		}
		db, err := hashdb.Open(copied, hashdb.Options{ReadOnly: true})
		if err != nil {
			return err
		}
		closing = append(closing, db)
		s, err := hashserv.New(ctx, hashserv.Options{DB: db, ReadOnly: true, AnonPerms: []string{"@read"}, Log: log})
		if err != nil {
			return err
		}
		if at, err = start(s.Serve, m.Hash.Address); err != nil {
			return taken(err, m.Hash.Address)
		}
		fmt.Fprintf(a.Err, "hash equivalence of %s %s at %s (Ctrl-C ends both)\n", m.Distribution, m.Version, at)
	}
	<-ctx.Done()
	return nil
}

// officialCopy makes, once, a database of our servers out of one of the export, which
// is in BitBake's form: own/official-<name>. It is whole or not there.
func officialCopy(ctx context.Context, dir, name string, fill func(ctx context.Context, to, from string) error) (string, error) {
	from := filepath.Join(dir, filepath.FromSlash(name))
	to := filepath.Join(dir, "own", "official-"+filepath.Base(name))
	if _, err := os.Stat(to); err == nil {
		return to, nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return "", errs.E(errs.Unavailable, "make "+filepath.Dir(to), err)
	}
	tmp := to + ".partial"
	for _, left := range []string{tmp, tmp + "-wal", tmp + "-shm"} {
		if err := os.Remove(left); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", errs.E(errs.Unavailable, "remove "+left, err)
		}
	}
	if err := fill(ctx, tmp, from); err != nil {
		return "", errs.Wrap(err, "read %s", from)
	}
	if err := os.Rename(tmp, to); err != nil {
		return "", errs.E(errs.Unavailable, "make "+to, err)
	}
	return to, nil
}

// taken explains a port that is in use.
func taken(err error, address string) error {
	_, port, _ := net.SplitHostPort(address)
	n, _ := strconv.Atoi(port)
	return errs.E(errs.KindOf(err), "listen at "+address, err, errs.Hintf("is it served already? else export with --port %d", n+100))
}

func (a *app) sourceDoctorCmd() *cobra.Command {
	var targets []string
	var quick bool
	c := &cobra.Command{Use: "doctor [DIR]", Short: "ask all that an exported release names, and how much of the cache a build would find", Args: maximum(1),
		Example: "  slipway source doctor halyard-1.2\n  slipway source doctor halyard-1.2 --target core-image-minimal",
		Long: `Doctor asks the servers for something that they must know, the mirrors for files that
must be there, and looks at the keys. In the build's environment (README.md of the
folder) it then has BitBake count what it would find in the cache, which takes as
long as parsing does and builds nothing. What would build something wrong, or not
at all, ends with exit code 1.`,
		RunE: func(c *cobra.Command, args []string) error {
			q := source.Questions{Targets: targets}
			if !quick && bitbake.HasEnvironment() {
				q.Predict = bitbake.Predict
			}
			t := a.talk().Step("ask what the export names")
			d, err := source.Diagnose(c.Context(), exported(args), q)
			if err != nil {
				t.Failed("")
				return err
			}
			t.Done(fmt.Sprintf("%d answers", len(d.Answers)))
			if err := a.print(d, func(out io.Writer) { writeDiagnosis(out, d) }); err != nil || !d.Blocks() {
				return err
			}
			return quietly{errs.E(errs.Failed, "a build would be wrong, or fail")}
		}}
	c.Flags().StringArrayVar(&targets, "target", nil, "what you want to build, instead of the release's targets (repeat)")
	c.Flags().BoolVar(&quick, "quick", false, "do not ask BitBake")
	return c
}

func writeDiagnosis(out io.Writer, d source.Diagnosis) {
	rows := [][]string{}
	for _, x := range d.Answers {
		said := map[distro.Level]string{distro.Info: "ok", distro.Warn: "warn", distro.Block: "BAD"}[x.Level]
		rows = append(rows, []string{said, x.ID, x.Text})
	}
	ui.Table(out, []string{"", "ABOUT", "ANSWER"}, rows)
	for _, x := range d.Answers {
		if x.Cure != "" {
			fmt.Fprintf(out, "\n%s: %s", x.ID, x.Cure)
		}
	}
	fmt.Fprintln(out)
}

func (a *app) sourceCompareCmd() *cobra.Command {
	c := &cobra.Command{Use: "compare [DIR] [DEPLOY]", Short: "say which packages of your build are the published ones, bit for bit", Args: maximum(2),
		Example: "  slipway source compare halyard-1.2\n  slipway source compare halyard-1.2 /fast/tmp/deploy/rpm",
		Long: `Compare reads every package of your build (build/tmp/deploy/rpm of the folder, or
DEPLOY). One is the published one when header and payload are, which a signature
does not change. One of the same name and number with other bytes ends with exit
code 1: it must not be published anywhere.`,
		RunE: func(c *cobra.Command, args []string) error {
			dir := exported(args)
			deploy := filepath.Join(dir, "build", "tmp", "deploy", "rpm")
			if len(args) > 1 {
				deploy = args[1]
			}
			r, err := source.Compare(c.Context(), dir, deploy)
			if err != nil {
				return err
			}
			if err := a.print(r, func(out io.Writer) {
				fmt.Fprintln(out, r)
				for _, n := range r.Different {
					fmt.Fprintf(out, "differs  %s\n", n)
				}
				for _, n := range r.Own {
					fmt.Fprintf(out, "own      %s\n", n)
				}
			}); err != nil || len(r.Different) == 0 {
				return err
			}
			return quietly{errs.E(errs.Failed, "packages have a published number and other content")}
		}}
	return c
}

func (a *app) sourceMirrorCmd() *cobra.Command {
	return &cobra.Command{Use: "mirror", Short: "put the cache, signed, and the sources of all releases into the publication", Args: cobra.NoArgs,
		Example: "  slipway source mirror",
		Long: `Publish does this for each release when publish.public lists sstate and downloads;
mirror does it for those that were published before.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), write, func(ctx context.Context, w *cycle.Workspace) error {
				m, err := w.PublishMirrors(ctx)
				if err != nil {
					return err
				}
				return a.print(m, func(out io.Writer) { fmt.Fprintln(out, m) })
			})
		}}
}

func (a *app) sourceLockCmd() *cobra.Command {
	return &cobra.Command{Use: "lock", Short: "take the sources of the runtime from this machine again and write sources.lock", Args: cobra.NoArgs,
		Example: "  slipway source lock && git commit -m \"newer runtime\" sources.lock",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), write, func(ctx context.Context, w *cycle.Workspace) error {
				missing, err := lockSources(ctx, w.Definition, w.Dir, func(r io.Reader) (distro.Digest, int64, error) { return w.Blobs.Put(ctx, r) })
				if err == nil && len(missing) > 0 {
					err = missing[0].Err
				}
				if err != nil {
					return err
				}
				pins, err := rpmbuild.ReadLock(filepath.Join(w.Dir, "sources.lock"))
				if err != nil {
					return err
				}
				return a.print(pins, func(out io.Writer) {
					for _, p := range pins {
						fmt.Fprintf(out, "%s/%s  %s  %s\n", p.Spec, p.Name, p.Origin, p.Digest.Short())
					}
				})
			})
		}}
}
