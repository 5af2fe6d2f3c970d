package device

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"slipway/internal/errs"
)

// nevra is how dnf, zypper and this package name one version of a package.
const nevra = `%{NAME}-%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}.%{ARCH}`

func (d *Device) rpm(ctx context.Context, args ...string) (string, error) {
	argv := []string{"rpm"}
	if d.root != "/" {
		argv = append(argv, "--root", d.root)
	}
	return d.run(ctx, false, append(argv, args...)...)
}

// keyFiles are the public keys that the feeds' sections name, files of this device.
func (d *Device) keyFiles() []string {
	var out []string
	for _, f := range d.conf.Feeds {
		for _, k := range strings.Fields(f.value("gpgkey")) {
			if path, ok := strings.CutPrefix(k, "file://"); ok && f.Scope != "" && !slices.Contains(out, path) {
				out = append(out, path)
			}
		}
	}
	for i, path := range out {
		out[i] = d.path(path)
	}
	return out
}

// installed lists what the rpm database holds, sorted. Imported keys are no packages.
func (d *Device) installed(ctx context.Context) ([]string, error) {
	out, err := d.rpm(ctx, "-qa", "--qf", nevra+`\n`)
	if err != nil {
		return nil, failed("rpm -qa", out, err)
	}
	var all []string
	for l := range strings.Lines(out) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "gpg-pubkey-") && !strings.HasPrefix(l, "warning:") {
			all = append(all, l)
		}
	}
	slices.Sort(all)
	return all, nil
}

// lockWait is how long another program may hold the rpm database.
const lockWait = time.Minute

// checkDatabase rebuilds the rpm database when it is damaged. One that another program
// has locked is not: after slipway-device alone was killed, its dnf may still be ending.
func (d *Device) checkDatabase(ctx context.Context) error {
	argv := func(what string) []string {
		if d.root == "/" {
			return []string{"rpmdb", what}
		}
		return []string{"rpmdb", "--root", d.root, what}
	}
	out, err := d.run(ctx, false, argv("--verifydb")...)
	for end := time.Now().Add(lockWait); err != nil && strings.Contains(out, "transaction lock") && strings.Contains(out, "Resource temporarily unavailable"); {
		if time.Now().After(end) {
			return errs.E(errs.Locked, fmt.Sprintf("another program holds the rpm database: %s", strings.TrimSpace(out)),
				errs.Hint("let it end (ps ax | grep -E 'dnf|zypper|rpm'), then slipway-device resume"))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		out, err = d.run(ctx, false, argv("--verifydb")...)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	fmt.Fprintf(d.talk, "the rpm database is damaged (%s): rebuilding it\n", strings.TrimSpace(out))
	if out, err := d.run(ctx, false, argv("--rebuilddb")...); err != nil {
		return failed("rpmdb --rebuilddb", out, err)
	}
	if out, err := d.run(ctx, false, argv("--verifydb")...); err != nil {
		return failed("rpmdb --verifydb", out, err)
	}
	return nil
}

// downloads are the package files in the cache.
func (d *Device) downloads() ([]string, error) { return rpmsBelow(d.path(cacheDir)) }

// rpmsBelow lists the package files of a folder that need not exist, sorted.
func rpmsBelow(dir string) ([]string, error) {
	var all []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && strings.HasSuffix(path, ".rpm") {
			all = append(all, path)
		}
		return err
	})
	if os.IsNotExist(err) {
		return nil, nil
	}
	slices.Sort(all)
	return all, err
}

// incoming reads the downloaded packages: their names, and the files that they bring.
func (d *Device) incoming(ctx context.Context) (plan []string, files []incomingFile, err error) {
	rpms, err := d.downloads()
	if err != nil || len(rpms) == 0 {
		return nil, nil, err
	}
	out, err := d.run(ctx, false, append([]string{"rpm", "-qp", "--nosignature", "--nodigest", "--qf", "P" + nevra + `\n[F%{FILESIZES} %{FILENAMES}\n]`}, rpms...)...)
	if err != nil {
		return nil, nil, failed("rpm -qp", out, err)
	}
	for l := range strings.Lines(out) {
		l = strings.TrimRight(l, "\n")
		switch {
		case strings.HasPrefix(l, "P"):
			plan = append(plan, l[1:])
		case strings.HasPrefix(l, "F"):
			var f incomingFile
			if n, _ := fmt.Sscanf(l[1:], "%d", &f.size); n == 1 {
				_, f.path, _ = strings.Cut(l, " ")
				files = append(files, f)
			}
		}
	}
	slices.Sort(plan)
	return plan, files, nil
}

// leftover is the name of a file that rpm had not yet given its own name.
var leftover = regexp.MustCompile(`^(.+);[0-9a-f]{8}$`)

// sweep removes files that an interrupted rpm left beside those of packages.
func (d *Device) sweep(ctx context.Context, nevras []string) error {
	if len(nevras) == 0 {
		return nil
	}
	out, err := d.rpm(ctx, append([]string{"-q", "--qf", `[%{FILENAMES}\n]`}, nevras...)...)
	if err != nil && ctx.Err() != nil {
		return err
	}
	owned, dirs := map[string]bool{}, map[string]bool{}
	for l := range strings.Lines(out) {
		if l = strings.TrimSpace(l); strings.HasPrefix(l, "/") {
			owned[l], dirs[filepath.Dir(l)] = true, true
		}
	}
	for dir := range dirs {
		entries, err := os.ReadDir(d.path(dir))
		if err != nil {
			continue // a folder that only an excluded file would need
		}
		for _, e := range entries {
			name := filepath.Join(dir, e.Name())
			if m := leftover.FindStringSubmatch(name); m != nil && owned[m[1]] && !owned[name] && !e.IsDir() {
				if err := os.Remove(d.path(name)); err != nil {
					return errs.E(errs.Unavailable, "remove what was left of "+m[1], err)
				}
			}
		}
	}
	return nil
}
