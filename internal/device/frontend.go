package device

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/timestamp"
)

// operation is what a transaction is to reach.
type operation struct {
	security bool // only packages with a security advisory, and up only
	erasing  bool // packages may be removed
}

// frontend is the device's package manager, on the feeds that writeFeeds left.
type frontend interface {
	// configure writes what the package manager needs beside the feeds.
	configure() error
	// resolve fetches metadata and gives the plan as the package manager shows
	// it, and how many bytes it would download. plan is "" when nothing is to do.
	resolve(ctx context.Context, op operation) (plan string, size int64, err error)
	// download fetches the packages of the plan and installs nothing.
	download(ctx context.Context, op operation) error
	// apply runs the transaction from what is downloaded; offline when it can.
	apply(ctx context.Context, op operation) error
	// reinstall installs packages (NEVRAs) again, with their scriptlets; other
	// installed versions of them go.
	reinstall(ctx context.Context, nevras []string) error
	// verify checks the signatures of what download has fetched, where apply
	// would not refuse all of it before it begins.
	verify(ctx context.Context) error
	// repomd gives the fetched repomd.xml of a feed.
	repomd(id string) (string, error)
}

func (d *Device) frontend() frontend {
	if d.conf.Frontend == "zypper" {
		return zypper{d}
	}
	return dnf{d}
}

// writeFeeds writes the .repo files that an update uses: the device's own, with
// the distribution's feeds at one snapshot.
func (d *Device) writeFeeds(serial int) error {
	vars := map[string]string{snapshotVariable: fmt.Sprintf("snapshots/%d", serial)}
	var b strings.Builder
	for _, f := range d.conf.Feeds {
		fmt.Fprintf(&b, "[%s]\n", f.ID)
		for _, l := range f.Lines {
			k, v, _ := strings.Cut(l, "=")
			if strings.TrimSpace(k) == "gpgkey" { // of this device, not of the machine that works on it
				l = "gpgkey=" + strings.ReplaceAll(v, "file:///", "file://"+strings.TrimSuffix(d.root, "/")+"/")
			}
			b.WriteString(expand(l, vars) + "\n")
		}
		if f.Scope != "" && d.conf.Frontend == "zypper" {
			b.WriteString("autorefresh=0\nkeeppackages=1\n") // refresh is asked for
		}
		b.WriteString("\n")
	}
	if err := os.MkdirAll(d.path(stateDir+"/repos.d"), 0o755); err != nil {
		return err
	}
	if err := d.write(stateDir+"/repos.d/slipway.repo", []byte(b.String())); err != nil {
		return err
	}
	return d.frontend().configure()
}

// verifyFeeds compares each feed that the client has fetched with the snapshot.
func (d *Device) verifyFeeds(f frontend, s timestamp.Snapshot) error {
	var bad errs.List
	for _, feed := range d.conf.Feeds {
		if feed.Scope == "" {
			continue
		}
		var want distro.Digest
		for _, x := range s.Feeds {
			if x.Scope == feed.Scope {
				want = x.Repomd
			}
		}
		if want == "" {
			bad = append(bad, errs.E(errs.NotFound, fmt.Sprintf("snapshot %d has no feed %s", s.Serial, feed.Scope), errs.Hintf("section %s of the .repo file asks for it", feed.ID)))
			continue
		}
		path, err := f.repomd(feed.ID)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		if got := distro.DigestOf(b); got != want {
			bad = append(bad, mismatch("repomd.xml of "+feed.ID, fmt.Sprintf("snapshot %d", s.Serial), got, want))
		}
	}
	return bad.Err()
}

// run starts a program and gives what it said. The talk shows it too, when show.
// In a process group of its own, so that Ctrl-C at a terminal does not stop a
// transaction in its middle; when ctx ends before, the program gets SIGTERM.
func (d *Device) run(ctx context.Context, show bool, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(append(os.Environ(), "LC_ALL=C", "TERM=dumb"), d.env...)
	var out bytes.Buffer
	cmd.Stdout = &out
	if show {
		cmd.Stdout = io.MultiWriter(&out, d.talk)
	}
	cmd.Stderr = cmd.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	err := cmd.Run()
	if ctx.Err() != nil {
		return out.String(), context.Cause(ctx)
	}
	return out.String(), err
}

func code(err error) int {
	if x, ok := err.(*exec.ExitError); ok {
		return x.ExitCode()
	}
	return -1
}

// failed says why a program failed, in its own last words; that a signature or a
// digest did not fit is a refusal.
func failed(command, out string, err error) error {
	var lines []string
	for l := range strings.Lines(out) {
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, l)
		}
	}
	said := strings.Join(lines[max(0, len(lines)-6):], "\n")
	if refused.MatchString(out) {
		return &refusal{Signature, errs.E(errs.Denied, fmt.Sprintf("%s: %s", command, said), err, errs.Hint("use another mirror; if all say so, tell the distribution's security contact"))}
	}
	return errs.E(errs.Failed, fmt.Sprintf("%s: %s", command, said), err)
}

var refused = regexp.MustCompile(`(?i)GPG check FAILED|repomd\.xml GPG signature verification error|Bad GPG signature|GPG signature is not available|Signature verification failed|not signed|checksum doesn't match|is corrupted|Digest verification failed`)

type dnf struct{ d *Device }

const dnfConf = stateDir + "/dnf.conf"

// configure writes the device's own dnf.conf with what an update needs instead.
// By file, because with --installroot dnf puts the root before a cachedir of the
// file, but before one of the command line only sometimes.
func (f dnf) configure() error {
	text, err := os.ReadFile(f.d.path("etc/dnf/dnf.conf"))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	main := []string{"[main]"}
	for _, s := range sections(string(text)) {
		for _, l := range s.Lines {
			switch k, _, _ := strings.Cut(l, "="); strings.TrimSpace(k) {
			case "cachedir", "keepcache", "metadata_expire", "skip_if_unavailable", "best", "reposdir":
			default:
				if s.ID == "main" {
					main = append(main, l)
				}
			}
		}
	}
	main = append(main, "cachedir=/"+cacheDir, "keepcache=1", "metadata_expire=-1", "skip_if_unavailable=0", "best=1", "")
	return f.d.write(dnfConf, []byte(strings.Join(main, "\n")))
}

func (f dnf) args(more ...string) []string {
	d := f.d
	// The folder of feeds on the command line: from the file dnf would look inside the root first.
	argv := []string{"dnf", "-y", "--config=" + d.path(dnfConf), "--setopt=reposdir=" + d.path(stateDir+"/repos.d"), "--color=never"}
	if d.root != "/" {
		argv = append(argv, "--installroot="+d.root, "--releasever="+d.conf.Series, "--setopt=varsdir="+d.path("etc/dnf/vars"))
	}
	return append(argv, more...)
}

func (op operation) dnf() []string {
	verb := []string{"distro-sync"}
	if op.security {
		verb = []string{"upgrade", "--security"}
	}
	if op.erasing {
		verb = append(verb, "--allowerasing")
	}
	return verb
}

func (f dnf) resolve(ctx context.Context, op operation) (string, int64, error) {
	out, err := f.d.run(ctx, false, f.args(append(op.dnf(), "--refresh", "--assumeno")...)...)
	switch {
	case err == nil && strings.Contains(out, "Nothing to do."):
		return "", 0, nil
	case code(err) == 1 && strings.Contains(out, "Operation aborted."):
	case ctx.Err() != nil:
		return "", 0, err
	default:
		return "", 0, failed("dnf "+op.dnf()[0], out, err)
	}
	_, plan, _ := strings.Cut(out, "Dependencies resolved.\n")
	plan, _, _ = strings.Cut(plan, "Operation aborted.")
	return strings.TrimSpace(plan) + "\n", sizeIn(plan), nil
}

var downloadSize = regexp.MustCompile(`(?m)^(?:Total download size|Overall download size): ([0-9.]+) ?([kKMG]?)i?B?`)

// sizeIn reads the download size of a plan; 0 when it does not say.
func sizeIn(plan string) int64 {
	m := downloadSize.FindStringSubmatch(plan)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(m[1], 64)
	return int64(n * map[string]float64{"": 1, "k": 1 << 10, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[m[2]])
}

func (f dnf) download(ctx context.Context, op operation) error {
	out, err := f.d.run(ctx, false, f.args(append(op.dnf(), "--downloadonly")...)...)
	if err != nil && ctx.Err() == nil {
		return failed("dnf "+op.dnf()[0]+" --downloadonly", out, err)
	}
	return err
}

// verify has nothing to do: gpgcheck=1 looks at every package before the first is installed.
func (f dnf) verify(context.Context) error { return nil }

func (f dnf) apply(ctx context.Context, op operation) error { return f.transact(ctx, op.dnf()...) }

func (f dnf) reinstall(ctx context.Context, nevras []string) error {
	return f.transact(ctx, append([]string{"reinstall"}, nevras...)...)
}

// transact works from the cache; only when something is not there, from the network.
func (f dnf) transact(ctx context.Context, args ...string) error {
	out, err := f.d.run(ctx, true, f.args(append(args, "--cacheonly")...)...)
	if err != nil && ctx.Err() == nil && notCached.MatchString(out) {
		out, err = f.d.run(ctx, true, f.args(args...)...)
	}
	if err != nil && ctx.Err() == nil {
		err = failed("dnf "+args[0], out, err)
		if !strings.Contains(out, "\nRunning transaction\n") { // its test found something
			err = untouched{err}
		}
	}
	return err
}

// untouched is an error of a transaction that had not begun.
type untouched struct{ error }

func (u untouched) Unwrap() error { return u.error }

var notCached = regexp.MustCompile(`Cache-only enabled but no cache|Cannot download|cacheonly|Error downloading packages`)

func (f dnf) repomd(id string) (string, error) {
	return oneFile(f.d.path(cacheDir), id+"-*/repodata/repomd.xml", id)
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// oneFile finds the only file of that pattern: of two nobody could say which one
// the package manager uses.
func oneFile(dir, pattern, id string) (string, error) {
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return "", err
	}
	switch len(found) {
	case 0:
		return "", errs.E(errs.Internal, fmt.Sprintf("the package manager kept no metadata of feed %s in %s", id, dir))
	case 1:
		return found[0], nil
	}
	return "", errs.E(errs.Internal, fmt.Sprintf("metadata of feed %s is there %d times in %s", id, len(found), dir), errs.Hint("remove that folder"))
}
