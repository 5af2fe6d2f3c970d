package abi

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/elfabi"
	"slipway/internal/errs"
	"slipway/internal/libabigail"
	"slipway/internal/rpm"
)

// XMLName is the name under which the description of a library's types is kept with the
// build: "usr/lib/libknot.so.1.0.abi.xml" below the package's name and architecture.
func XMLName(name, arch, lib string) string {
	return name + "." + arch + strings.ReplaceAll(lib, "/", "+") + ".abi.xml"
}

// types compares the types of two libraries that differ, when both have debug
// information; that one has none is a finding.
func (c *comparison) types(ctx context.Context, old, now library, owner *opened) error {
	was, whyOld, err := c.run.describe(ctx, c.old, old)
	if err != nil {
		return err
	}
	is, whyNow, err := c.run.describe(ctx, owner, now)
	if err != nil {
		return err
	}
	if was == "" || is == "" {
		if len(c.run.missing) > 0 {
			c.run.mu.Lock()
			c.run.untyped++
			c.run.mu.Unlock()
			return nil
		}
		var why []string
		for _, w := range []struct{ text, in string }{{whyOld, c.since()}, {whyNow, owner.record.EVR()}} {
			if w.text != "" {
				why = append(why, fmt.Sprintf("%s: %s", w.in, w.text))
			}
		}
		c.add(distro.Finding{Level: distro.Warn, Text: fmt.Sprintf("nobody knows whether the types of %s changed: %s", old.elf.SOName, strings.Join(why, "; ")),
			Cure: "build it with debug information (-g), and keep its -dbg or -debuginfo package in the feed"}, "debug:"+old.elf.SOName, c.last != nil)
		return nil
	}
	if c.from == "last" { // kept with the build: the next one need not make it again
		c.keep(is, XMLName(owner.record.Name, owner.record.Arch, now.path))
	}
	diff, err := libabigail.Compare(ctx, was, is)
	if errs.Is(err, errs.Failed) {
		c.add(distro.Finding{Level: distro.Warn, Text: fmt.Sprintf("nobody knows whether the types of %s changed: %v", old.elf.SOName, err)}, "types-error:"+old.elf.SOName, false)
		return nil
	}
	if err != nil || !diff.Changed {
		return err
	}
	report, err := c.run.bed.Transcript(c.evidenceName(old.path, "abidiff.txt"), diff.Report)
	if err != nil {
		return err
	}
	c.res.Evidence = append(c.res.Evidence, report)
	if len(diff.Symbols) == 0 { // removed symbols alone: they have a finding
		return nil
	}
	using, err := c.run.users.of(ctx, old.elf, c.now.record)
	if err != nil {
		return err
	}
	var who []string
	broken := map[string]bool{}
	known := slices.ContainsFunc(diff.Symbols, func(name string) bool { return exports(old.elf, name) }) // C++ has other names in its tables
	for _, u := range using {
		for _, name := range diff.Symbols {
			if known && !u.elf.Uses(old.elf.SOName, elfabi.Symbol{Name: name}) {
				continue
			}
			broken[u.record.NEVRA()] = true
			line := fmt.Sprintf("%s: %s uses %s", u.record.NEVRA(), u.path, name)
			if !known {
				line = fmt.Sprintf("%s: %s needs %s", u.record.NEVRA(), u.path, old.elf.SOName)
			}
			who = append(who, line+c.replacedBy(u.record))
		}
	}
	slices.Sort(who)
	f := distro.Finding{Level: distro.Warn, Log: report.Log, Text: fmt.Sprintf("types of %s changed since %s: %s", old.elf.SOName, c.since(), strings.Join(check.Few(diff.Symbols, 5), ", "))}
	if len(broken) > 0 {
		f.Level, f.Text = distro.Block, f.Text+"; "+breaks(len(broken))
	} else {
		f.Text += "; no published package of the series uses them"
		f.Cure = "nothing, if nobody outside the series uses them; else undo it, or give the library a new soname"
	}
	f.Evidence = append(check.Few(strings.Split(strings.TrimSpace(diff.Report), "\n"), 30), check.Few(slices.Compact(who), 20)...)
	c.add(f, "types:"+old.elf.SOName, false)
	return nil
}

func exports(e *elfabi.File, name string) bool {
	return slices.ContainsFunc(e.Exports, func(s elfabi.Symbol) bool { return s.Name == name })
}

// keep makes a file evidence, which is stored with the build.
func (c *comparison) keep(file, name string) {
	data, err := os.ReadFile(file)
	if err == nil {
		var f check.File
		if f, err = c.run.bed.Transcript(name, string(data)); err == nil && !slices.ContainsFunc(c.res.Evidence, func(e check.File) bool { return e.Name == name }) {
			c.res.Evidence = append(c.res.Evidence, f)
		}
	}
}

// describe gives a file with the types of a library: what was kept with its build, or
// made now. Without debug information it is "", and why says so.
func (r *run) describe(ctx context.Context, o *opened, l library) (xml, why string, err error) {
	out := filepath.Join(o.dir, "abi.xml"+strings.ReplaceAll(l.path, "/", "+"))
	if _, err := os.Stat(out); err == nil {
		return out, "", nil
	}
	if r.bed.Kept != nil {
		data, ok, err := r.bed.Kept(ctx, o.record, XMLName(o.record.Name, o.record.Arch, l.path))
		if err != nil {
			return "", "", err
		}
		if ok {
			return out, "", os.WriteFile(out, data, 0o644)
		}
	}
	if len(r.missing) > 0 {
		return "", strings.Join(r.missing, ", ") + " is not installed", nil
	}
	found := l.elf.Debug
	for _, p := range r.debugPackages(o.record) {
		if found {
			break
		}
		want := func(f rpm.File) bool { return debugFile(f, l) }
		h, err := r.bed.Read(ctx, p)
		if err != nil {
			return "", "", err
		}
		if !slices.ContainsFunc(h.Files, want) {
			continue
		}
		err = r.unpack(ctx, p, o.dir, want, func(where, file string) error {
			e, err := readELF(file, p.NEVRA()+": "+where)
			if errs.Is(err, errs.Invalid) {
				return nil
			}
			found = found || e != nil && e.Debug
			return err
		})
		if err != nil {
			return "", "", err
		}
	}
	if !found {
		return "", "no debug information, neither in " + l.path + " nor in a -dbg or -debuginfo package", nil
	}
	debug := filepath.Join(o.dir, "usr/lib/debug")
	if _, err := os.Stat(debug); err != nil {
		debug = ""
	}
	part := out + ".part"
	err = libabigail.Describe(ctx, l.file, debug, part)
	if errs.Is(err, errs.Failed) {
		return "", err.Error(), nil
	}
	if err == nil {
		err = os.Rename(part, out)
	}
	return out, "", err
}

// debugPackages gives the packages with debug information of the same source, version
// and architecture, of everything that is known.
func (r *run) debugPackages(p distro.PackageRecord) []distro.PackageRecord {
	var out []distro.PackageRecord
	seen := map[distro.Digest]bool{}
	for _, q := range slices.Concat(r.bed.Packages, r.bed.Base, r.bed.First, r.bed.History) {
		if (strings.HasSuffix(q.Name, "-dbg") || strings.HasSuffix(q.Name, "-debuginfo")) && q.SourceName == p.SourceName && q.Arch == p.Arch && q.EVR() == p.EVR() && !seen[q.HeaderDigest] {
			seen[q.HeaderDigest] = true
			out = append(out, q)
		}
	}
	return out
}

// debugFile reports whether a file is the separate debug information of a library:
// .debug/NAME beside it (OE-Core), or below /usr/lib/debug by path or by build id
// (rpm's find-debuginfo, gdb's "Separate Debug Files").
func debugFile(f rpm.File, l library) bool {
	if !f.IsRegular() {
		return false
	}
	dir, base := path.Split(l.path)
	link := l.elf.DebugLink
	if link == "" {
		link = base
	}
	id := l.elf.BuildID
	switch {
	case f.Path == dir+".debug/"+link, f.Path == dir+".debug/"+base:
		return true
	case strings.HasPrefix(f.Path, "/usr/lib/debug/.dwz/"):
		return true
	case strings.HasPrefix(f.Path, "/usr/lib/debug"+dir+base), f.Path == "/usr/lib/debug"+dir+link:
		return true
	}
	return len(id) > 2 && f.Path == "/usr/lib/debug/.build-id/"+id[:2]+"/"+id[2:]+".debug"
}
