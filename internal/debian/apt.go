package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// apt is an apt of our own for one architecture: own package lists, nothing
// installed. It lies in the cache folder:
//
//	apt/<debian arch>/lists/, status, cache/, apt.conf, updated, answers/
//	apt/<debian arch>.lock   held while it is used
//	debs/<sha256>            downloads
type apt struct {
	arch  distro.Arch
	dir   string // apt/<debian arch>
	debs  string
	fresh bool // the lists were read from the mirrors by this call
	why   string
	lock  *os.File
}

// listsAge is how long package lists are used without asking the mirrors again,
// as long as they name what is wanted.
const listsAge = 24 * time.Hour

func openAPT(ctx context.Context, arch distro.Arch, opt Options) (*apt, error) {
	cache := opt.Cache
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, errs.E(errs.Unavailable, "there is no cache folder for downloads", err, errs.Hint("set XDG_CACHE_HOME or HOME"))
		}
		cache = filepath.Join(user, "slipway")
	}
	cache, err := filepath.Abs(cache)
	if err != nil || strings.ContainsAny(cache, "\"\n;") {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("apt cannot work in the folder %q", cache), err)
	}
	a := &apt{arch: arch, dir: filepath.Join(cache, "apt", arch.Debian), debs: filepath.Join(cache, "debs")}
	for _, d := range []string{a.dir + "/lists/partial", a.dir + "/cache/archives/partial", a.dir + "/answers", a.debs} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, errs.E(errs.Unavailable, "the cache folder for downloads cannot be written", err, errs.Hint("set XDG_CACHE_HOME to a folder that can"))
		}
	}
	if err := a.hold(ctx); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`#clear APT::Architectures;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Architecture "%[1]s";
APT::Architectures { "%[1]s"; };
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Dir::State "%[2]s";
Dir::State::lists "lists";
Dir::State::status "%[2]s/status";
Dir::Cache "%[2]s/cache";
Dir::Cache::archives "archives";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
`, arch.Debian, a.dir) + opt.conf
	for name, text := range map[string]string{"apt.conf": conf, "status": ""} {
		if err := os.WriteFile(filepath.Join(a.dir, name), []byte(text), 0o644); err != nil {
			a.close()
			return nil, errs.E(errs.Unavailable, "configure apt", err)
		}
	}
	return a, nil
}

// hold waits until no other process uses this apt.
func (a *apt) hold(ctx context.Context) error {
	f, err := os.OpenFile(a.dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return errs.E(errs.Unavailable, "lock the cache of downloads", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			a.lock = f
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return errs.E(errs.Unavailable, "lock the cache of downloads", err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (a *apt) close() { a.lock.Close() }

func (a *apt) String() string { return fmt.Sprintf("%s (%s)", a.arch.Debian, a.arch.Name) }

// run starts apt-get or apt-cache in dir and gives what it said. Cancelling the
// context stops it. A failed command is no error here: its words are judged.
func (a *apt) run(ctx context.Context, dir, conf string, argv ...string) (stdout, stderr string, ok bool, err error) {
	cmd := exec.CommandContext(ctx, argv[0], append([]string{"-q", "-c", filepath.Join(a.dir, conf)}, argv[1:]...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
	// A group of its own: apt's methods are processes beside it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var out, msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &msg
	err = cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return "", "", false, errs.E(errs.Unavailable, "there is no "+argv[0]+": sources of Debian packages need a Debian host", err)
	}
	if ctx.Err() != nil {
		return "", "", false, context.Cause(ctx)
	}
	return out.String(), msg.String(), err == nil, nil
}

// lists makes sure that there are package lists. When the mirrors do not answer,
// old ones do.
func (a *apt) lists(ctx context.Context) error {
	if st, err := os.Stat(filepath.Join(a.dir, "updated")); err == nil && time.Since(st.ModTime()) < listsAge && a.haveLists() {
		return nil
	}
	return a.update(ctx)
}

func (a *apt) haveLists() bool {
	found, _ := filepath.Glob(filepath.Join(a.dir, "lists", "*_Packages*"))
	return len(found) > 0
}

func (a *apt) update(ctx context.Context) error {
	a.fresh = true
	conf, err := os.ReadFile(filepath.Join(a.dir, "apt.conf"))
	if err != nil {
		return errs.E(errs.Unavailable, "configure apt", err)
	}
	// The host may want icons and contents of packages too: nobody reads them here.
	for _, t := range []string{"DEP-11", "DEP-11-icons", "DEP-11-icons-small", "DEP-11-icons-large", "DEP-11-icons-hidpi", "Contents-deb", "CNF"} {
		conf = fmt.Appendf(conf, "Acquire::IndexTargets::deb::%s::DefaultEnabled \"false\";\n", t)
	}
	if err := os.WriteFile(filepath.Join(a.dir, "update.conf"), conf, 0o644); err != nil {
		return errs.E(errs.Unavailable, "configure apt", err)
	}
	if err := os.RemoveAll(filepath.Join(a.dir, "answers")); err != nil {
		return errs.E(errs.Unavailable, "forget what apt said before", err)
	}
	_, said, ok, err := a.run(ctx, a.dir, "update.conf", "apt-get", "update")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(a.dir, "answers"), 0o755); err != nil {
		return errs.E(errs.Unavailable, "the cache folder for downloads cannot be written", err)
	}
	a.why = complaints(said)
	if ok && !strings.Contains(said, "Failed to fetch") {
		if err := os.WriteFile(filepath.Join(a.dir, "updated"), nil, 0o644); err != nil {
			return errs.E(errs.Unavailable, "note the time of the package lists", err)
		}
	}
	if !a.haveLists() {
		hint := errs.Hint("is there a network, and do the mirrors in /etc/apt/sources.list* have " + a.arch.Debian + "?")
		return errs.E(errs.Unavailable, "apt has no package lists for "+a.String()+a.said(), hint)
	}
	return nil
}

// said gives what the last update complained of, for messages.
func (a *apt) said() string {
	if a.why == "" {
		return ""
	}
	return ": " + a.why
}

// complaints picks apt's errors, or else its warnings; at most three lines.
func complaints(text string) string {
	for _, mark := range []string{"E: ", "W: ", "N: "} {
		var lines []string
		for l := range strings.Lines(text) {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(l), mark); ok {
				lines = append(lines, rest)
			}
		}
		if len(lines) > 0 {
			return strings.Join(lines[:min(3, len(lines))], "; ")
		}
	}
	return ""
}
