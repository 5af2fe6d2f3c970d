package device

import (
	"context"
	"path/filepath"
	"regexp"
	"strings"

	"slipway/internal/errs"
)

// zypper is the package manager where there is no dnf. Its lock and its keys are
// rpm's: the distribution's keys are imported first, because it asks nobody.
type zypper struct{ d *Device }

func (f zypper) configure() error { return nil }

// packageDir lies this deep because zypper keeps a package where its href leads to
// from here, and ours begin with ../../../pool.
const packageDir = cacheDir + "/packages/by/feed"

func (f zypper) args(more ...string) []string {
	d := f.d
	argv := []string{"zypper", "--non-interactive", "--no-color", "--no-cd", "--reposd-dir", d.path(stateDir + "/repos.d"), "--cache-dir", d.path(cacheDir), "--pkg-cache-dir", d.path(packageDir), "--releasever", d.conf.Series}
	if d.root != "/" {
		argv = append(argv, "--root", d.root)
	}
	return append(argv, more...)
}

func (op operation) zypper(more ...string) []string {
	if op.security {
		return append([]string{"patch", "--category", "security", "--auto-agree-with-licenses"}, more...)
	}
	// It may always remove: zypper has no transaction that may not.
	return append([]string{"dup", "--allow-downgrade", "--auto-agree-with-licenses"}, more...)
}

func (f zypper) resolve(ctx context.Context, op operation) (string, int64, error) {
	if out, err := f.d.rpm(ctx, append([]string{"--import"}, f.d.keyFiles()...)...); err != nil {
		return "", 0, failed("rpm --import", out, err)
	}
	if out, err := f.d.run(ctx, false, f.args("refresh", "--force")...); err != nil {
		return "", 0, failed("zypper refresh", out, err)
	}
	out, err := f.d.run(ctx, false, f.args(append([]string{"--no-refresh"}, op.zypper("--dry-run", "--details")...)...)...)
	if err != nil && code(err) < 100 { // 100 and more tell of needs (restart), they are no failures
		return "", 0, failed("zypper dup", out, err)
	}
	if strings.Contains(out, "Nothing to do.") {
		return "", 0, nil
	}
	return strings.TrimSpace(out) + "\n", sizeIn(out), nil
}

func (f zypper) download(ctx context.Context, op operation) error {
	return f.transact(ctx, op.zypper("--download-only")...)
}

// verify asks rpm for a good signature of every package:
// zypper takes unsigned ones, once repomd.xml is signed, and finds a damaged one
// only when those before it are installed.
func (f zypper) verify(ctx context.Context) error {
	rpms, err := f.d.downloads()
	if err != nil {
		return err
	}
	var bad errs.List
	for _, path := range rpms {
		if f.unchecked(path) {
			continue
		}
		out, err := f.d.rpm(ctx, "-Kv", path)
		if ctx.Err() != nil {
			return err
		}
		if err != nil || !goodSignature.MatchString(out) {
			bad = append(bad, &refusal{Signature, errs.E(errs.Denied, filepath.Base(path)+" has no good signature: "+wrong(out))})
		}
	}
	return bad.Err()
}

// unchecked tells whether a package is of a feed beside the distribution's, whose
// section says gpgcheck=0.
func (f zypper) unchecked(path string) bool {
	for _, feed := range f.d.conf.Feeds {
		if feed.Scope == "" && feed.value("gpgcheck") == "0" && strings.HasPrefix(path, f.d.path(packageDir+"/"+feed.ID)+"/") {
			return true
		}
	}
	return false
}

var goodSignature = regexp.MustCompile(`(?m)Signature, key ID [0-9a-f]+: OK$`)

// wrong gives the lines of rpm -Kv that are not good.
func wrong(out string) string {
	var lines []string
	for l := range strings.Lines(out) {
		if l = strings.TrimSpace(l); !strings.HasSuffix(l, ": OK") && !strings.HasSuffix(l, ".rpm:") {
			lines = append(lines, l)
		}
	}
	if len(lines) == 0 {
		return "it is not signed"
	}
	return strings.Join(lines, "; ")
}

func (f zypper) apply(ctx context.Context, op operation) error {
	return f.transact(ctx, op.zypper("--download", "in-advance")...)
}

func (f zypper) reinstall(ctx context.Context, nevras []string) error {
	return f.transact(ctx, append([]string{"install", "--force", "--oldpackage", "--allow-downgrade"}, nevras...)...)
}

func (f zypper) transact(ctx context.Context, args ...string) error {
	out, err := f.d.run(ctx, true, f.args(append([]string{"--no-refresh"}, args...)...)...)
	if err != nil && code(err) < 100 && ctx.Err() == nil {
		err = failed("zypper "+args[0], out, err)
		if !zypperBegun.MatchString(out) {
			err = untouched{err}
		}
		return err
	}
	return nil
}

var zypperBegun = regexp.MustCompile(`\([0-9]+/[0-9]+\) (Installing|Removing)`)

func (f zypper) repomd(id string) (string, error) {
	return oneFile(f.d.path(cacheDir), "raw/"+id+"/repodata/repomd.xml", id)
}
