package dnf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Result is what a dnf command did. It is given with an error too, as far as
// things went.
type Result struct {
	Output string // stdout and stderr in order, without speeds, times and empty lines
	Log    string // path of the whole transcript
	// What the rpm database says has changed, sorted by name. A changed version of
	// the same name and architecture is in Upgraded or Downgraded, as its new self.
	Installed, Upgraded, Downgraded, Removed []distro.PackageRecord
	Now                                      []distro.PackageRecord // all that is installed afterwards
	Scriptlets                               []string               // lines that tell of failed scriptlets, though dnf may say "Complete!"
	Talk                                     []string               // what scriptlets and rpm said otherwise
	// NotRun names the scriptlets for whose sake none was run: "logline: %pre by
	// /bin/sh". They are of another architecture and nothing here emulates it.
	// It is empty when every scriptlet ran.
	NotRun []string
}

// Install installs packages, by name or name-[epoch:]version-release.arch, with
// all that they require.
func (r *Root) Install(ctx context.Context, specs ...string) (Result, error) {
	return r.transact(ctx, append([]string{"install"}, specs...)...)
}

// Upgrade brings every package to the newest version in the feeds.
func (r *Root) Upgrade(ctx context.Context) (Result, error) { return r.transact(ctx, "upgrade") }

// DistroSync brings every package to the version in the feeds, up or down. It
// may erase packages that stand in the way (a part that was split off later and
// obsoletes its origin): without that dnf refuses to go back over a split.
func (r *Root) DistroSync(ctx context.Context) (Result, error) {
	return r.transact(ctx, "distro-sync", "--allowerasing")
}

// Refresh reads the feeds' metadata and imports their keys, so that clones of
// this root need not.
func (r *Root) Refresh(ctx context.Context) error {
	imported := map[string]bool{}
	for _, repo := range r.opt.Repos {
		for _, k := range repo.GPGKeys {
			if repo.Enabled && !imported[k] {
				imported[k] = true
				if _, err := r.rpm(ctx, "--import", k); err != nil {
					return err
				}
			}
		}
	}
	_, err := r.dnf(ctx, "makecache")
	return err
}

// Repoquery asks the feeds ("dnf repoquery ARGS") and gives the lines of the
// answer that are not empty.
func (r *Root) Repoquery(ctx context.Context, args ...string) ([]string, error) {
	res, err := r.dnf(ctx, append([]string{"repoquery", "--quiet"}, args...)...)
	if err != nil {
		return nil, err
	}
	var lines []string
	for l := range strings.Lines(res.Output) {
		lines = append(lines, strings.TrimRight(l, "\n"))
	}
	return lines, nil
}

// Installed lists what the root's rpm database holds, sorted by name: name,
// version, architecture and header digest.
func (r *Root) Installed(ctx context.Context) ([]distro.PackageRecord, error) {
	out, err := r.rpm(ctx, "-qa", "--qf", PackageFormat)
	if err != nil {
		return nil, err
	}
	p := ParsePackages(out)
	sortRecords(p)
	return p, nil
}

// ConfigFile is a configuration file of an installed package.
type ConfigFile struct {
	Path      string
	Package   string // name.arch
	NoReplace bool   // an edited file is kept by upgrades
	Ghost     bool   // the package owns it and does not bring it
}

// ConfigFiles lists the configuration files of all installed packages.
func (r *Root) ConfigFiles(ctx context.Context) ([]ConfigFile, error) {
	out, err := r.rpm(ctx, "-qa", "--qf", `[%{FILEFLAGS}\t%{=NAME}.%{=ARCH}\t%{FILENAMES}\n]`)
	if err != nil {
		return nil, err
	}
	const config, noReplace, ghost = 1 << 0, 1 << 4, 1 << 6 // rpmfiles.h
	var all []ConfigFile
	for line := range strings.Lines(out) {
		f := strings.SplitN(strings.TrimRight(line, "\n"), "\t", 3)
		if flags, err := strconv.Atoi(f[0]); err == nil && len(f) == 3 && flags&config != 0 {
			all = append(all, ConfigFile{Path: f[2], Package: f[1], NoReplace: flags&noReplace != 0, Ghost: flags&ghost != 0})
		}
	}
	return all, nil
}

// VerifyAll compares every installed file with what its package says
// ("rpm -Va"). An empty answer means that all is as it was installed.
func (r *Root) VerifyAll(ctx context.Context) ([]Verify, error) {
	var out bytes.Buffer
	// rpm exits with 1 when it has found something: only its words count.
	err := start(ctx, r.inRoot("rpm", "--root", r.Path(), "-Va"), r.env(), &out, &out)
	if ctx.Err() != nil {
		return nil, err
	}
	all := ParseVerify(out.String())
	if err != nil && len(all) == 0 {
		return nil, errs.E(errs.Failed, "rpm -Va says nothing", err)
	}
	return all, nil
}

// Run runs a command inside the root and gives what it said. An exit code other
// than 0 is errs.Failed.
func (r *Root) Run(ctx context.Context, argv ...string) (string, error) {
	r.known = false
	var out bytes.Buffer
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=/"}
	if err := start(ctx, r.inRoot(append([]string{"chroot", r.Path()}, argv...)...), env, &out, &out); err != nil {
		return out.String(), failed(ctx, err, strings.Join(argv, " "), lastLines(out.String(), 5))
	}
	return out.String(), nil
}

func (r *Root) rpm(ctx context.Context, args ...string) (string, error) {
	var out, msg bytes.Buffer
	if err := start(ctx, r.inRoot(append([]string{"rpm", "--root", r.Path()}, args...)...), r.env(), &out, &msg); err != nil {
		return out.String(), failed(ctx, err, "rpm "+args[0], lastLines(msg.String(), 5))
	}
	return out.String(), nil
}

func failed(ctx context.Context, err error, command, said string) error {
	if ctx.Err() != nil {
		return errs.Wrap(err, "%s", command)
	}
	if said == "" {
		return errs.E(errs.Failed, command, err)
	}
	return errs.E(errs.Failed, command+": "+said)
}

// transact runs a dnf command that changes packages and tells what changed.
func (r *Root) transact(ctx context.Context, args ...string) (Result, error) {
	before, err := r.installed, error(nil)
	if !r.known {
		if before, err = r.Installed(ctx); err != nil {
			return Result{}, err
		}
	}
	r.known = false
	var notRun []string
	if !r.NoPrograms && !r.opt.canRun() {
		if notRun, err = r.foreignScriptlets(ctx, args); err != nil {
			return Result{Now: before}, err
		}
		if len(notRun) > 0 {
			args = append([]string{args[0], "--setopt=tsflags=noscripts"}, args[1:]...)
		}
	}
	res, err := r.dnf(ctx, args...)
	res.NotRun = notRun
	if ctx.Err() != nil {
		return res, err
	}
	after, qerr := r.Installed(ctx)
	if err == nil {
		err = qerr
	}
	r.installed, r.known = after, qerr == nil
	res.Now = after
	res.diff(before, after)
	return res, err
}

func (r *Root) dnf(ctx context.Context, args ...string) (Result, error) {
	argv := []string{"dnf", "-y", "--config", filepath.Join(r.Dir, "dnf.conf"), "--installroot", r.Path(),
		// Said on the command line too: there dnf does not look inside the root first.
		"--setopt=reposdir=" + filepath.Join(r.Dir, "repos.d"), "--setopt=varsdir=" + filepath.Join(r.Dir, "vars")}
	if v := r.opt.Vars["releasever"]; v != "" {
		argv = append(argv, "--releasever="+v)
	} else {
		argv = append(argv, "--releasever=0")
	}
	if r.refresh {
		argv = append(argv, "--refresh")
	}
	if r.verified {
		argv = append(argv, "--cacheonly")
	}
	argv = append(argv, args...)
	r.count++
	res := Result{Log: filepath.Join(r.Dir, "logs", fmt.Sprintf("%03d-%s.log", r.count, args[0]))}
	log, err := os.Create(res.Log)
	if err != nil {
		return res, err
	}
	defer func() { _ = log.Close() }()
	fmt.Fprintf(log, "# %s\n", strings.Join(argv, " "))
	var out, answer bytes.Buffer
	both := io.MultiWriter(log, &out)
	stdout := both
	if args[0] == "repoquery" {
		stdout = &answer // stderr tells of imported keys
	}
	err = r.tool.fork(ctx, filepath.Join(r.Dir, "request.json"), argv, r.env(), stdout, both)
	if errors.Is(err, errNoForkserver) {
		err = start(ctx, r.inRoot(argv...), r.env(), stdout, both)
	}
	if args[0] == "repoquery" {
		_, _ = both.Write(answer.Bytes())
	}
	res.Output = clean(out.String())
	res.Scriptlets, res.Talk = ScriptletLines(out.String())
	command := "dnf " + strings.Join(args, " ")
	if len(command) > 200 {
		command = command[:200] + "..."
	}
	if err != nil {
		why := FailureLines(out.String())
		if ctx.Err() == nil && denied.MatchString(why) {
			return res, errs.E(errs.Denied, command+": "+why, errs.Hint("transcript: "+res.Log))
		}
		if ctx.Err() != nil {
			return res, errs.Wrap(err, "%s", command)
		}
		if why == "" || unusual(err) {
			return res, errs.E(errs.Failed, command, err, errs.Hint("transcript: "+res.Log))
		}
		return res, errs.E(errs.Failed, command+": "+why, errs.Hint("transcript: "+res.Log))
	}
	r.refresh = false
	if args[0] == "repoquery" {
		res.Output = clean(answer.String())
	}
	return res, nil
}

// diff fills in what changed. Several versions of one name and architecture (a
// kernel) only ever come and go.
func (res *Result) diff(before, after []distro.PackageRecord) {
	type key struct{ name, arch string }
	group := func(all []distro.PackageRecord) map[key][]distro.PackageRecord {
		m := map[key][]distro.PackageRecord{}
		for _, p := range all {
			m[key{p.Name, p.Arch}] = append(m[key{p.Name, p.Arch}], p)
		}
		return m
	}
	old, now := group(before), group(after)
	for _, p := range after {
		k := key{p.Name, p.Arch}
		was := old[k]
		if len(was) == 1 && len(now[k]) == 1 {
			switch c := was[0].CompareEVR(p); {
			case c < 0:
				res.Upgraded = append(res.Upgraded, p)
			case c > 0:
				res.Downgraded = append(res.Downgraded, p)
			case was[0].HeaderDigest != p.HeaderDigest:
				res.Installed = append(res.Installed, p) // the same number with other content
			}
			continue
		}
		if !holds(was, p) {
			res.Installed = append(res.Installed, p)
		}
	}
	for _, p := range before {
		k := key{p.Name, p.Arch}
		if (len(old[k]) != 1 || len(now[k]) != 1) && !holds(now[k], p) {
			res.Removed = append(res.Removed, p)
		}
	}
}

func holds(all []distro.PackageRecord, p distro.PackageRecord) bool {
	for _, q := range all {
		if p.CompareEVR(q) == 0 {
			return true
		}
	}
	return false
}
