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
	"slipway/internal/layers"
	"slipway/internal/web"
)

// acts are the three releases of the demo: each merges the example's next
// revision and brings it out.
var acts = []struct{ tag, title string }{
	{"revision-1", "Release 1: a new distribution, for two boards"},
	{"revision-2", "Release 2: a security fix in the library"},
	{"revision-3", "Release 3: a newer kernel, a feature, and a package split in two"},
}

const demoPerson = "Demo Person"

// demoExample is the distribution that the demo shows.
const demoExample = "halyard"

func (a *app) demoCmd() *cobra.Command {
	return &cobra.Command{Use: "demo", Short: "live the whole cycle: three releases of the example distribution", Args: cobra.NoArgs,
		Example: "  slipway demo --dir ./demo",
		Long: `Demo makes the example distribution in --dir and brings out three releases of it:
built by rpmbuild, installed and upgraded by dnf, signed and published. Then a
device on release 1 upgrades to 3, and goes back by a pin. Run again on the same
folder it goes on where it stopped, or says that all is done.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if !c.Flag("dir").Changed {
				a.dir = "demo"
			}
			return a.demo(c.Context())
		}}
}

func (a *app) demo(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(a.dir, "slipway.yaml")); err != nil {
		a.talk().Heading("A workspace for Halyard Linux")
		if _, err := a.initExample(ctx, a.dir, demoExample); err != nil {
			return err
		}
	}
	var status cycle.Status
	err := a.with(ctx, write, func(ctx context.Context, w *cycle.Workspace) error {
		if err := isDemo(ctx, w); err != nil {
			return err
		}
		done := true
		for i, act := range acts {
			if published(ctx, w, i+1) {
				continue
			}
			done = false
			a.talk().Heading(act.title)
			if err := layers.FastForward(ctx, w.Dir, act.tag); err != nil {
				return err
			}
			if err := a.demoRelease(ctx, w, i+1); err != nil {
				return err
			}
		}
		if !done {
			a.talk().Heading("A device lives with it")
			if err := a.demoDevice(ctx, w); err != nil {
				return err
			}
			a.talk().Heading("Nothing is lost, nothing was changed")
			if err := a.demoProof(ctx, w); err != nil {
				return err
			}
		} else {
			a.talk().Heading("All three releases of this demo are published already")
		}
		var err error
		status, err = w.Status(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return a.print(status, func(out io.Writer) {
		fmt.Fprintln(out)
		writeStatus(out, status)
		a.demoNext(out)
	})
}

// isDemo refuses a workspace that is not the demo's: its releases are no toys.
func isDemo(ctx context.Context, w *cycle.Workspace) error {
	releases, err := w.Releases(ctx)
	if err != nil {
		return err
	}
	if w.Definition.Distribution == "halyard" && len(releases) <= len(acts) {
		return nil
	}
	return errs.E(errs.Conflict, w.Dir+" is a workspace of your own, not the demo's", errs.Hint("slipway demo --dir ANOTHER-FOLDER"))
}

func version(w *cycle.Workspace, n int) distro.Version {
	return distro.NewVersion(w.Definition.Series.Name, n)
}

func published(ctx context.Context, w *cycle.Workspace, n int) bool {
	r, err := w.Release(ctx, version(w, n))
	return err == nil && r.Status == distro.Published
}

func (a *app) demoRelease(ctx context.Context, w *cycle.Workspace, n int) error {
	v := version(w, n)
	// What an earlier run of the demo left is taken up where it stands.
	if _, err := w.Release(ctx, v); errs.Is(err, errs.NotFound) {
		b, err := w.Build(ctx, "")
		if err != nil || b.Version != v || b.Status != distro.Candidate || b.Candidate.Status == distro.Rejected {
			if b, err = w.Make(ctx, string(v)); err != nil {
				return err
			}
		}
		if b.Candidate.Status != distro.Approved {
			if b, err = w.Test(ctx, string(b.ID), cycle.TestOptions{}); err != nil {
				return err
			}
		}
		if b.Candidate.Status == distro.Blocked {
			return a.verdict(w, b)
		}
		t := a.talk().Step("approve " + b.ID.Candidate())
		if _, err := w.Approve(ctx, string(b.ID), demoPerson, "the demo"); err != nil {
			t.Failed("")
			return err
		}
		t.Done("by " + demoPerson)
	}
	if _, err := w.Publish(ctx, v); err != nil {
		return err
	}
	if n == 1 {
		return nil
	}
	d, err := w.Diff(ctx, string(version(w, n-1)), string(v))
	if err != nil {
		return err
	}
	var changed []string
	for _, p := range d.Packages {
		switch p.Change {
		case "added":
			changed = append(changed, "+ "+p.Name+" "+p.New)
		case "gone":
			changed = append(changed, "- "+p.Name)
		default:
			changed = append(changed, p.Name+" "+p.Old+" -> "+p.New)
		}
	}
	// Of several architectures each has its own.
	slices.Sort(changed)
	changed = slices.Compact(changed)
	t := a.talk().Step(fmt.Sprintf("changed since %s", version(w, n-1)))
	for _, c := range changed {
		t.Step(c).Done("")
	}
	t.Done(fmt.Sprintf("%d packages, %d the same", len(d.Packages), d.Same))
	return nil
}

// demoDevice installs release 1 by dnf from the publication, served over HTTP,
// edits a configuration file, upgrades to the newest, pins release 1 and goes
// back.
func (a *app) demoDevice(ctx context.Context, w *cycle.Workspace) error {
	dir := filepath.Join(w.Dir, ".slipway", "demo")
	if err := os.RemoveAll(dir); err != nil {
		return errs.E(errs.Unavailable, "clear "+dir, err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- web.Serve(ctx, "127.0.0.1:0", web.Handler(w.Settings.PublicationDir()), func(addr string) { ready <- addr })
	}()
	var addr string
	select {
	case addr = <-ready:
	case err := <-ended:
		return err
	}
	d, err := w.NewDevice(ctx, dir, "http://"+addr)
	if err != nil {
		return err
	}
	one, last := version(w, 1), version(w, len(acts))
	conf := filepath.Join(d.Path(), "etc/knot.conf")
	var before, after string
	steps := []struct {
		title string
		do    func() (string, error)
	}{
		{"install release " + string(one) + " with dnf, pinned, signatures checked", func() (string, error) {
			if err := d.Pin(ctx, one); err != nil {
				return "", err
			}
			if _, err := d.Install(ctx, "halyard-release", "halyard-feeds", "knotctl", "rigging-tools", "logline"); err != nil {
				return "", err
			}
			before, err = a.installed(ctx, d)
			return before, err
		}},
		{"the admin edits /etc/knot.conf", func() (string, error) {
			f, err := os.OpenFile(conf, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return "", errs.E(errs.Failed, "edit /etc/knot.conf of the device", err)
			}
			_, err = f.WriteString("# edited on this device\n")
			f.Close()
			return "", err
		}},
		{"dnf upgrade to release " + string(last), func() (string, error) {
			if err := d.Pin(ctx, ""); err != nil {
				return "", err
			}
			if _, err := d.Upgrade(ctx); err != nil {
				return "", err
			}
			if after, err = a.installed(ctx, d); err != nil {
				return "", err
			}
			b, err := os.ReadFile(conf)
			if err != nil || !strings.Contains(string(b), "# edited on this device") {
				return "", errs.E(errs.Failed, "the edited /etc/knot.conf was lost in the upgrade", err)
			}
			return after + "; the edit is kept", nil
		}},
		{"rpm -Va", func() (string, error) { return a.verifyDevice(ctx, d) }},
		{"pin release " + string(one) + ", dnf distro-sync", func() (string, error) {
			if err := d.Pin(ctx, one); err != nil {
				return "", err
			}
			if _, err := d.DistroSync(ctx); err != nil {
				return "", err
			}
			return a.installed(ctx, d)
		}},
		{"rpm -Va", func() (string, error) { return a.verifyDevice(ctx, d) }},
	}
	for _, s := range steps {
		t := a.talk().Step(s.title)
		summary, err := s.do()
		if err != nil {
			t.Failed("")
			return err
		}
		t.Done(summary)
	}
	if err := d.Remove(); err != nil {
		return err
	}
	stop()
	return <-ended
}

// demoProof restores the first release as one set and verifies the publication.
func (a *app) demoProof(ctx context.Context, w *cycle.Workspace) error {
	one := version(w, 1)
	dir := filepath.Join(w.Dir, ".slipway", "restored", string(one))
	if err := os.RemoveAll(dir); err != nil {
		return errs.E(errs.Unavailable, "clear "+dir, err)
	}
	if _, err := w.Restore(ctx, one, dir); err != nil {
		return err
	}
	t, err := workspaceTrust(w, nil)
	if err != nil {
		return err
	}
	_, err = a.inspect(ctx, w.Tree, w.Definition.Series.Name, t, "")
	return err
}

// installed names a few packages of the device that tell where it stands.
func (a *app) installed(ctx context.Context, d *cycle.Device) (string, error) {
	l, err := d.Installed(ctx)
	if err != nil {
		return "", err
	}
	var out []string
	for _, p := range l {
		switch p.Name {
		case "halyard-release", "libknot", "rigging-tools", "rigging-extras":
			out = append(out, p.Name+" "+p.EVR())
		}
	}
	return fmt.Sprintf("%d packages: %s", len(l), strings.Join(out, ", ")), nil
}

// verifyDevice runs rpm -Va; what the admin edited may differ.
func (a *app) verifyDevice(ctx context.Context, d *cycle.Device) (string, error) {
	vs, err := d.VerifyAll(ctx)
	if err != nil {
		return "", err
	}
	for _, v := range vs {
		if v.Attr != "c" {
			return "", errs.E(errs.Failed, "rpm -Va on the device: "+v.String())
		}
	}
	return fmt.Sprintf("clean but for %d edited configuration file", len(vs)), nil
}

func (a *app) demoNext(out io.Writer) {
	slipway := os.Args[0] + " --dir " + a.dir
	fmt.Fprintf(out, `
What to look at next:
  %[1]s diff 1.1 1.3        what changed, file by file
  %[1]s check 1.3-c1        what was asked before the release
  %[1]s verify              every digest and signature, as a stranger would
  %[1]s serve               serves the feeds on 127.0.0.1:8080

Start a device, log in as it says, and end it with Ctrl-C:
  %[3]s boot %[2]s/publication/1/images/qemux86-64/1.3/light-qemux86-64-1.3.img

The publication is plain files in %[2]s/publication; %[2]s/slipway.yaml is the definition.
`, slipway, a.dir, os.Args[0])
}
