package selfupgrades

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"slipway/internal/dnf"
	"slipway/internal/errs"
)

// line is what an administrator adds; only to files that have such lines already.
const line = "# edited by the administrator of this device"

const editList = "/run/slipway-edit"

// edit adds a line to every file that is marked config(noreplace) and knows
// comments that begin with "#".
func (d *device) edit(ctx context.Context) error {
	out, err := d.shell.Run(ctx, `/usr/bin/rpm -qa --qf '[%{FILEFLAGS} %{FILENAMES}\n]'`)
	if err != nil {
		return err
	}
	if err := d.shell.Upload(ctx, editList, 0o600, []byte(strings.Join(noReplace(out.Stdout), "\n")+"\n")); err != nil {
		return err
	}
	out, err = d.sh(ctx, `while read -r f; do if [ -f "$f" ] && grep -q '^#' "$f"; then echo '`+line+`' >> "$f" && echo "$f"; fi; done < `+editList)
	d.edited = strings.Split(strings.TrimSpace(out.Stdout), "\n")
	return err
}

// noReplace picks the configuration files that an upgrade must keep from lines
// "FLAGS PATH", sorted.
func noReplace(text string) []string {
	const config, noReplace, ghost = 1 << 0, 1 << 4, 1 << 6 // rpmfiles.h
	var all []string
	for l := range strings.Lines(text) {
		word, path, _ := strings.Cut(strings.TrimRight(l, "\n"), " ")
		flags, err := strconv.Atoi(word)
		if err == nil && flags&(config|noReplace) == config|noReplace && flags&ghost == 0 {
			all = append(all, path)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// whole asks what must hold after each way: the edits are kept, and rpm -V finds
// nothing else in the packages; none means all of them.
func (d *device) whole(ctx context.Context, way string, packages ...string) error {
	if err := d.shell.Upload(ctx, editList, 0o600, []byte(strings.Join(d.edited, "\n")+"\n")); err != nil {
		return err
	}
	// What no package owns any more may lie beside, as .rpmsave.
	out, err := d.sh(ctx, `while read -r f; do grep -qsF '`+line+`' "$f" "$f.rpmsave" || echo "lost $f"; done < `+editList)
	if err != nil {
		return err
	}
	d.asked += len(d.edited)
	for l := range strings.Lines(out.Stdout) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(l), "lost "); ok {
			d.find(way+":"+path, "mark the file %config(noreplace), in both versions of the package", "the device's edits in %s are lost", path).Object = path
		}
	}
	lines, err := d.verify(ctx, packages)
	if err != nil {
		return err
	}
	d.asked++
	for _, v := range lines {
		object := v.Path
		if object == "" {
			object = v.Problem
		}
		d.find(way+":verify:"+object, "", "rpm -V on the device: %s", v.String()).Object = object
	}
	return nil
}

// verify gives what rpm -V says but for configuration and ghosts, which are the
// device's own business.
func (d *device) verify(ctx context.Context, packages []string) ([]dnf.Verify, error) {
	command := "/usr/bin/rpm -Va"
	if len(packages) > 0 {
		command = "/usr/bin/rpm -V " + strings.Join(packages, " ")
	}
	out, err := d.sh(ctx, command)
	if err != nil && !errs.Is(err, errs.Failed) {
		return nil, err
	}
	return slices.DeleteFunc(dnf.ParseVerify(out.Stdout), func(v dnf.Verify) bool {
		return v.Problem == "" && !v.Missing && (v.Attr == "c" || v.Attr == "g")
	}), nil
}

// unsigned reads dnf.conf and .repo files, one after the other, and names the
// feeds that are on and do not check both signatures.
func unsigned(text string) []string {
	type feed struct {
		id                    string
		off, packages, header bool
	}
	main := feed{}
	var all []feed
	at := &main
	for l := range strings.Lines(text) {
		l = strings.TrimSpace(l)
		if strings.HasPrefix(l, "[") && strings.HasSuffix(l, "]") {
			at = &main
			if id := strings.Trim(l, "[]"); id != "main" {
				all = append(all, feed{id: id, packages: main.packages, header: main.header})
				at = &all[len(all)-1]
			}
			continue
		}
		key, value, _ := strings.Cut(l, "=")
		on := slices.Contains([]string{"1", "yes", "true", "on"}, strings.ToLower(strings.TrimSpace(value)))
		switch strings.TrimSpace(key) {
		case "enabled":
			at.off = !on
		case "gpgcheck":
			at.packages = on
		case "repo_gpgcheck":
			at.header = on
		}
	}
	var out []string
	for _, f := range all {
		if !f.off && !(f.packages && f.header) {
			out = append(out, f.id)
		}
	}
	return out
}
