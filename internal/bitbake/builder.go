package bitbake

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Options say what to build and how.
type Options struct {
	Release string              // Yocto's release of the definition ("wrynose"); "" is not checked
	Conf    string              // the definition's conf, appended to the generated local.conf
	Targets []string            // what to build for every board
	Images  map[string][]string // board -> its images
	// BitBake is a checkout; "" looks for one among the layers: a layer with
	// bin/bitbake, or bitbake/ beside OE-Core's meta.
	BitBake string
	// User is who BitBake runs as; needed by root, as BitBake refuses it.
	User string
	Jobs int      // tasks at once, and make's -j; 0 leaves it to BitBake
	Path []string // folders before all others on PATH
	// Offline sets BB_NO_NETWORK.
	Offline bool
	// SState and Downloads are folders of former releases, used as mirrors; "" is none.
	SState, Downloads string
	// Servers serves the build's fork of the PR and hash databases. nil lets BitBake
	// start servers of its own, over files in topdir/cache.
	Servers func(ctx context.Context, id distro.BuildID) (Servers, error)
	// NoSState lets nothing be taken from a cache: a rebuild that proves something.
	NoSState bool
	// Silence is how long BitBake may say nothing before it is ended as hung; 0 means 6 h.
	Silence time.Duration
	// Grace is how long BitBake may take to end after each of the three requests to (SIGINT,
	// SIGINT, SIGTERM) before it is killed; 0 means 30 s.
	Grace time.Duration
}

// Servers are the endpoints of a build.
type Servers struct {
	Hash  string // for BB_HASHSERVE
	PR    string // for PRSERV_HOST
	Close func() error
}

// Builder builds Yocto layers. It has no state but that in the folder of a
// build: two may work at once in two folders.
type Builder struct{ opt Options }

// New gives a builder. Nothing is started or checked before Pin and Prepare.
func New(opt Options) *Builder {
	if opt.Silence == 0 {
		opt.Silence = 6 * time.Hour
	}
	if opt.Grace == 0 {
		opt.Grace = 30 * time.Second
	}
	return &Builder{opt}
}

// Pin gives the kind and what of this machine decides a build: Python, the
// distribution, and buildtools tarballs on PATH. BitBake itself is a layer of the revision; only one that is
// named by Options.BitBake is pinned here, by its version.
func (b *Builder) Pin(ctx context.Context) (distro.BuilderPin, error) {
	pin := distro.BuilderPin{Kind: "bitbake", Tools: map[string]string{}}
	if b.opt.Release != "" {
		pin.Tools["release"] = b.opt.Release
	}
	// The one that BitBake is started with, not the one of our own PATH.
	out, err := exec.CommandContext(ctx, "/usr/bin/env", "PATH="+b.path(), "python3", "--version").Output()
	if err != nil {
		return pin, errs.E(errs.Unavailable, "BitBake needs Python, and python3 --version gives no answer", err, errs.Hint("apt-get install python3"))
	}
	pin.Tools["python"] = strings.TrimPrefix(strings.TrimSpace(string(out)), "Python ")
	pin.Tools["host"] = hostDistribution("/etc/os-release")
	if tools := buildtools(b.opt.Path); len(tools) > 0 {
		pin.Tools["buildtools"] = strings.Join(tools, ", ")
	}
	if b.opt.BitBake != "" {
		if pin.Tools["bitbake"], err = bitbakeVersion(b.opt.BitBake); err != nil {
			return pin, err
		}
	}
	return pin, nil
}

// path is BitBake's PATH; before the system's are folders of the installation, and more.
func (b *Builder) path(more ...string) string {
	return strings.Join(slices.Concat(b.opt.Path, more, []string{"/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}), ":")
}

// hostDistribution gives "debian-12", as BitBake's NATIVELSBSTRING does.
func hostDistribution(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	v := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			v[key] = strings.Trim(value, `"'`)
		}
	}
	if v["ID"] == "" {
		return "unknown"
	}
	return strings.TrimSuffix(v["ID"]+"-"+v["VERSION_ID"], "-")
}
