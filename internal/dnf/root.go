package dnf

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Repo is one feed as a device's .repo file names it. Its packages and its
// metadata must be signed by one of its keys.
type Repo struct {
	ID       string
	Name     string
	BaseURL  string   // may hold $variables of Options.Vars
	GPGKeys  []string // absolute paths of armoured public keys on this machine
	Priority int      // 0 is dnf's default, 99
	Enabled  bool
}

// Options are what a new root begins with.
type Options struct {
	Repos []Repo
	Vars  map[string]string // dnf's variables; "releasever" is one of them
	Arch  string            // package architecture of the device; "" is this machine's
	// MachineArch is the architecture of the device's machine packages, beside
	// Arch and noarch; "" for none. Several, the most special first, are joined by
	// colons: "wandboard:imx6".
	MachineArch string
}

// Root is an install root. Make it with [Tool.NewRoot] or [Root.Clone].
type Root struct {
	Dir  string // with root/, home/, logs/, ...
	tool *Tool
	// NoPrograms is the caller's knowledge that no scriptlet of the transactions to
	// come is run by a program of the device: then nobody looks, where such programs
	// cannot run.
	NoPrograms bool

	opt     Options
	refresh bool // the feeds changed: cached metadata must be asked for again
	// The cached metadata was verified by the root that this one was cloned from, and
	// is all that is read: see copied.
	verified bool
	count    int // of commands, for the names of transcripts
	// What is installed, as the last transaction left it; known is false when
	// something else may have changed it.
	installed []distro.PackageRecord
	known     bool
}

// Path is the root of the file system that packages are installed into.
func (r *Root) Path() string { return filepath.Join(r.Dir, "root") }

// NewRoot makes an empty root in dir, which must not exist or be empty. It
// installs nothing and reads no feed.
func (t *Tool) NewRoot(ctx context.Context, dir string, opt Options) (*Root, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return nil, errs.E(errs.Conflict, dir+" is not empty", errs.Hint("an install root needs a folder of its own"))
	}
	r := &Root{Dir: dir, tool: t, opt: opt, refresh: true}
	for _, d := range []string{"root/dev", "root/var/lib/rpm", "home", "cache", "logs", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	for _, n := range deviceNodes {
		path := filepath.Join(dir, "root/dev", n.name)
		if t.bind {
			err = os.WriteFile(path, nil, 0o644) // only a place to mount on
		} else {
			err = mknod(path, n.major, n.minor)
		}
		if err != nil {
			return nil, errs.Wrap(err, "make device %s of an install root", n.name)
		}
	}
	if err := r.configure(); err != nil {
		return nil, err
	}
	return r, nil
}

// Clone copies the root, with its packages and cached metadata, to a new folder.
// A base root is made once and cloned for each question. Where all feeds are
// files of this machine, a clone reads the metadata that the first root has
// verified, and no other (dnf -C), until its feeds or variables change: so it is
// not verified again. Packages are, each time.
func (r *Root) Clone(ctx context.Context, dir string) (*Root, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	argv := append(r.tool.entry(), "cp", "--reflink=auto", "-a", r.Dir+"/.", dir)
	if err := start(ctx, argv, r.env(), &out, &out); err != nil {
		return nil, errs.Wrap(err, "copy install root %s: %s", r.Dir, lastLines(out.String(), 2))
	}
	c := &Root{Dir: dir, tool: r.tool, opt: r.opt, refresh: r.refresh, count: r.count, installed: r.installed, known: r.known}
	c.verified = !r.refresh && r.local()
	if err := c.configure(); err != nil {
		return nil, err
	}
	return c, nil
}

// Remove deletes the root, read-only folders included.
func (r *Root) Remove() error {
	var out bytes.Buffer
	argv := append(r.tool.entry(), "rm", "-rf", "--one-file-system", "--", r.Dir)
	if err := start(context.Background(), argv, r.env(), &out, &out); err != nil {
		return errs.Wrap(err, "remove install root %s: %s", r.Dir, lastLines(out.String(), 2))
	}
	return nil
}

// SetRepos replaces the feeds; the next command asks for their metadata anew.
func (r *Root) SetRepos(repos []Repo) error {
	r.opt.Repos, r.refresh, r.verified = repos, true, false
	return r.configure()
}

// SetVars replaces all variables; the next command asks for metadata anew.
func (r *Root) SetVars(vars map[string]string) error {
	r.opt.Vars, r.refresh, r.verified = vars, true, false
	return r.configure()
}

// local tells whether every feed that is read is a folder of this machine, so that
// a package needs no download.
func (r *Root) local() bool {
	for _, repo := range r.opt.Repos {
		url := os.Expand(repo.BaseURL, func(name string) string { return r.opt.Vars[name] })
		if repo.Enabled && !strings.HasPrefix(url, "file:///") {
			return false
		}
	}
	return true
}

var (
	repoID  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]*$`)
	varName = regexp.MustCompile(`^[A-Za-z0-9_]+$`)
)

// configure writes every configuration file of the root.
func (r *Root) configure() error {
	files := map[string]string{
		"home/.rpmmacros": rpmMacros,
		"dnf.conf":        r.mainConf(),
	}
	for _, repo := range r.opt.Repos {
		if !repoID.MatchString(repo.ID) || repo.BaseURL == "" || len(repo.GPGKeys) == 0 || strings.ContainsAny(repo.Name+repo.BaseURL, "\n\r") {
			return errs.E(errs.Invalid, fmt.Sprintf("feed %q needs an id, an address and a key", repo.ID))
		}
		files["repos.d/"+repo.ID+".repo"] = repo.stanza(r.tool, !r.verified)
	}
	vars := map[string]string{}
	for k, v := range r.opt.Vars {
		if !varName.MatchString(k) || strings.ContainsAny(v, "\n\r") {
			return errs.E(errs.Invalid, fmt.Sprintf("%q is no variable of dnf", k))
		}
		vars[k] = v
	}
	if a := r.opt.arches(); a != "" {
		for one := range strings.SplitSeq(a, ":") {
			if !varName.MatchString(one) {
				return errs.E(errs.Invalid, fmt.Sprintf("%q is no architecture", a))
			}
		}
		vars["arch"] = a
		files["home/.rpmrc"] = r.opt.rpmrc()
	}
	for k, v := range vars {
		files["vars/"+k] = v + "\n"
	}
	for _, d := range []string{"repos.d", "vars"} {
		if err := os.RemoveAll(filepath.Join(r.Dir, d)); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(r.Dir, d), 0o755); err != nil {
			return err
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(r.Dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Debian's rpm keeps its database in the user's home, others in other places;
// every device of ours has it here. The rest are rpm's own defaults, said again
// because the host's /etc/rpm could say otherwise.
const rpmMacros = `%_dbpath /var/lib/rpm
%_keyring rpmdb
%_pkgverify_level digest
%_excludedocs 0
%_install_langs %{nil}
%_netsharedpath %{nil}
%__gpg /usr/bin/gpg
`

// mainConf: the history database costs twenty fsyncs a transaction and decides
// nothing that is asked here. dnf puts the root before cachedir and logdir, so ".." keeps cache and
// logs out of the device's file system, where /var/log may be a package's link.
func (r *Root) mainConf() string {
	return `[main]
gpgcheck=1
` + r.tool.gpgcheck() + `repo_gpgcheck=1
localpkg_gpgcheck=1
reposdir=` + filepath.Join(r.Dir, "repos.d") + `
varsdir=` + filepath.Join(r.Dir, "vars") + `
cachedir=/../cache
logdir=/../logs
plugins=0
pluginpath=/nonexistent
pluginconfpath=/nonexistent
protected_packages=
history_record=0
ignorearch=1
metadata_expire=-1
max_parallel_downloads=4
color=never
`
}

// gpgcheck gives the name that dnf5 has for the option, where it is dnf5.
func (t *Tool) gpgcheck() string {
	if strings.HasPrefix(t.Version, "5") {
		return "pkg_gpgcheck=1\n"
	}
	return ""
}

func (repo Repo) stanza(t *Tool, checkMetadata bool) string {
	var b strings.Builder
	name := repo.Name
	if name == "" {
		name = repo.ID
	}
	fmt.Fprintf(&b, "[%s]\nname=%s\nbaseurl=%s\n", repo.ID, name, repo.BaseURL)
	bit := map[bool]int{true: 1}
	fmt.Fprintf(&b, "enabled=%d\ngpgcheck=1\n%srepo_gpgcheck=%d\nskip_if_unavailable=0\n", bit[repo.Enabled], t.gpgcheck(), bit[checkMetadata])
	for i, k := range repo.GPGKeys {
		u := (&url.URL{Scheme: "file", Path: k}).String()
		if i == 0 {
			b.WriteString("gpgkey=")
		} else {
			b.WriteString("       ")
		}
		b.WriteString(strings.ReplaceAll(u, ",", "%2C") + "\n")
	}
	if repo.Priority != 0 {
		fmt.Fprintf(&b, "priority=%d\n", repo.Priority)
	}
	return b.String()
}

// entry gives the command that other commands run under; it is a fresh slice.
func (t *Tool) entry() []string { return append([]string(nil), t.prefix...) }

// inRoot gives the command line that runs argv where the root's devices are there.
func (r *Root) inRoot(argv ...string) []string {
	all := r.tool.entry()
	if r.tool.bind {
		all = append(all, "sh", "-c", `for d in null zero full random urandom; do
  if [ -e "$0/dev/$d" ]; then mount --bind "/dev/$d" "$0/dev/$d" || exit 125; fi
done
exec "$@"`, r.Path())
	}
	return append(all, argv...)
}

func (r *Root) env() []string {
	return []string{"PATH=" + searchPath, "LC_ALL=C", "TZ=UTC", "HOME=" + filepath.Join(r.Dir, "home"), "TMPDIR=" + filepath.Join(r.Dir, "tmp"),
		"GNUPGHOME=" + filepath.Join(r.Dir, "home"), "DNF_DISABLE_ALIASES=1", "COLUMNS=200", "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1"}
}

func sortRecords(p []distro.PackageRecord) {
	sort.Slice(p, func(i, j int) bool {
		a, b := p[i], p[j]
		if a.Name != b.Name {
			return a.Name < b.Name
		}
		if a.Arch != b.Arch {
			return a.Arch < b.Arch
		}
		return a.CompareEVR(b) < 0
	})
}
