package abi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/elfabi"
	"slipway/internal/errs"
	"slipway/internal/rpm"
)

// library is a shared library of a package.
type library struct {
	path string // as installed
	file string // unpacked
	elf  *elfabi.File
}

// libraryName: libknot.so.1.0, libc-2.36.so. What is no ELF file of a name like that
// (a linker script) is passed by.
var libraryName = regexp.MustCompile(`\.so(\.[0-9A-Za-z_.]+)?$`)

func isLibrary(f rpm.File) bool {
	return f.IsRegular() && f.Flags&rpm.FileGhost == 0 && libraryName.MatchString(path.Base(f.Path)) && !forDebuggingPath(f.Path)
}

func forDebuggingPath(p string) bool {
	return strings.Contains(p, "/.debug/") || strings.HasPrefix(p, "/usr/lib/debug/")
}

// libraries gives the package's libraries that have a soname, by path. They are
// unpacked into a folder of its own.
func (r *run) libraries(ctx context.Context, o *opened) ([]library, error) {
	if o.looked {
		return o.libs, nil
	}
	o.looked = true
	if !slices.ContainsFunc(o.header.Files, isLibrary) {
		return nil, nil
	}
	var err error
	if o.dir, err = r.folder(o.record.NEVRA()); err != nil {
		return nil, err
	}
	err = r.unpack(ctx, o.record, o.dir, isLibrary, func(p, file string) error {
		e, err := readELF(file, o.record.NEVRA()+": "+p)
		if err != nil {
			return err
		}
		if e != nil && e.SOName != "" {
			o.libs = append(o.libs, library{p, file, e})
		}
		return nil
	})
	slices.SortFunc(o.libs, func(a, b library) int { return strings.Compare(a.path, b.path) })
	return o.libs, err
}

// unpack writes the files of a package that are wanted below dir, and calls do.
func (r *run) unpack(ctx context.Context, p distro.PackageRecord, dir string, want func(rpm.File) bool, do func(path, file string) error) error {
	return visit(ctx, r.bed.Open, p, want, func(f rpm.File, data io.Reader) error {
		file := filepath.Join(dir, filepath.FromSlash(path.Clean("/"+f.Path)))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		w, err := os.Create(file)
		if err != nil {
			return err
		}
		if _, err := io.Copy(w, data); err != nil {
			w.Close()
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		return do(f.Path, file)
	})
}

// readELF reads an unpacked file; nil is none of ELF.
func readELF(file, name string) (*elfabi.File, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, 4)
	if _, err := io.ReadFull(f, head); err != nil || !elfabi.IsELF(head) {
		return nil, nil // shorter than any
	}
	return elfabi.Read(f, name)
}

// libraries compares the libraries of two versions.
func (c *comparison) libraries(ctx context.Context) error {
	old, err := c.run.libraries(ctx, c.old)
	if err == nil && len(old) > 0 {
		_, err = c.run.libraries(ctx, c.now)
	}
	if err != nil {
		return c.unreadable(err)
	}
	for _, l := range old {
		c.res.Asked++
		if err := c.library(ctx, l); err != nil {
			return c.unreadable(err)
		}
	}
	return nil
}

// unreadable makes a finding of a file that is unsound; other errors end the check.
func (c *comparison) unreadable(err error) error {
	if !errs.Is(err, errs.Invalid) {
		return err
	}
	c.res.Asked++
	c.add(distro.Finding{Text: fmt.Sprintf("a library cannot be read, so nobody knows what it offers: %v", err), Cure: "an ELF file with a soname needs sound headers and sections: build it again"}, "unreadable", false)
	return nil
}

func (c *comparison) library(ctx context.Context, old library) error {
	now := heir(c.now, old)
	owner := c.now
	if now == nil {
		other, err := c.run.feed.provider(ctx, old.elf, c.now.record)
		if err != nil {
			return err
		}
		if other == nil {
			return c.lost(ctx, old)
		}
		// It moved to another package of the candidate.
		if owner, err = c.run.open(ctx, *other); err != nil {
			return err
		}
		defer owner.close()
		libs, err := c.run.libraries(ctx, owner)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(libs, func(l library) bool { return l.elf.SOName == old.elf.SOName })
		if i < 0 {
			return c.lost(ctx, old)
		}
		now = &libs[i]
	}
	if err := c.symbols(ctx, old, *now); err != nil {
		return err
	}
	same, err := sameBytes(old.file, now.file)
	if err != nil || same {
		return err
	}
	return c.types(ctx, old, *now, owner)
}

// heir finds the library of the same soname in another version of the package.
func heir(in *opened, old library) *library {
	for i, l := range in.libs {
		if l.elf.SOName == old.elf.SOName && l.elf.Machine == old.elf.Machine && l.elf.Bits == old.elf.Bits {
			return &in.libs[i]
		}
	}
	return nil
}

// lost tells of a soname that nothing brings any more. rpm's dependencies keep a
// program together with its library, so that only who is not replaced breaks.
func (c *comparison) lost(ctx context.Context, old library) error {
	using, err := c.run.users.of(ctx, old.elf, c.now.record)
	if err != nil {
		return err
	}
	var stay, replaced []string
	for _, u := range using {
		if by := c.run.feed.replaces(u.record); by != "" {
			replaced = append(replaced, fmt.Sprintf("%s needs it, and is replaced by %s", u.record.NEVRA(), by))
		} else {
			stay = append(stay, fmt.Sprintf("%s: %s needs it, and nothing replaces it", u.record.NEVRA(), u.path))
		}
	}
	f := distro.Finding{Level: distro.Warn, Text: fmt.Sprintf("%s (%s, %s) is in no package of the candidate any more", old.elf.SOName, old.path, c.since())}
	if now := c.sonames(); len(now) > 0 {
		f.Text += ", which has " + strings.Join(now, ", ")
	}
	if len(stay) > 0 {
		f.Level, f.Text = distro.Block, fmt.Sprintf("%s: %s", f.Text, breaks(len(stay)))
		f.Cure = "keep the old library in a package of its own beside the new one, or build what needs it again"
	} else {
		f.Cure = "nothing, if that was meant; programs that others built against it need the old library"
	}
	f.Evidence = check.Few(append(stay, replaced...), 40)
	c.add(f, "soname:"+old.elf.SOName, c.last != nil && heir(c.last, old) == nil)
	return nil
}

func breaks(n int) string {
	if n == 1 {
		return "1 published package breaks"
	}
	return fmt.Sprintf("%d published packages break", n)
}

func (c *comparison) sonames() []string {
	var out []string
	for _, l := range c.now.libs {
		out = append(out, l.elf.SOName)
	}
	return out
}

// symbols compares what both export.
func (c *comparison) symbols(ctx context.Context, old, now library) error {
	changes := elfabi.Compare(old.elf, now.elf)
	if len(changes) == 0 {
		return nil
	}
	var before []elfabi.Change // that the last release had made already
	if c.last != nil {
		if l := heir(c.last, old); l != nil {
			before = elfabi.Compare(old.elf, l.elf)
		}
	}
	using, err := c.run.users.of(ctx, old.elf, c.now.record)
	if err != nil {
		return err
	}
	var lines, who []string
	broken := map[string]bool{}
	older := true
	for _, ch := range changes {
		older = older && slices.Contains(before, ch)
		lines = append(lines, ch.String())
		for _, u := range using {
			if u.elf.Uses(old.elf.SOName, ch.Symbol) {
				broken[u.record.NEVRA()] = true
				who = append(who, fmt.Sprintf("%s: %s uses %s%s", u.record.NEVRA(), u.path, ch.Symbol.Name, c.replacedBy(u.record)))
			}
		}
	}
	f := distro.Finding{Level: distro.Warn, Text: fmt.Sprintf("%s lacks what %s has: %s", old.elf.SOName, c.since(), amount(changes))}
	if len(broken) > 0 {
		f.Level = distro.Block
		f.Text += "; " + breaks(len(broken))
	} else {
		f.Text += "; no published package of the series uses it"
		f.Cure = "nothing, if nobody outside the series can use it; else bring it back, or give the library a new soname"
	}
	slices.Sort(who)
	f.Evidence = append(check.Few(lines, 20), check.Few(slices.Compact(who), 20)...)
	if len(lines) > 20 || len(who) > 20 {
		file, err := c.run.bed.Transcript(c.evidenceName(old.path, "symbols.txt"), strings.Join(append(lines, who...), "\n")+"\n")
		if err != nil {
			return err
		}
		f.Log = file.Log
		c.res.Evidence = append(c.res.Evidence, file)
	}
	c.add(f, "symbols:"+old.elf.SOName, older)
	return nil
}

func (c *comparison) replacedBy(p distro.PackageRecord) string {
	if by := c.run.feed.replaces(p); by != "" {
		return " (the candidate has " + by + ")"
	}
	return ""
}

// amount is "1 removed (knot_old)", "3 removed (a, b, c), 1 size (d)".
func amount(changes []elfabi.Change) string {
	var parts []string
	for _, kind := range []string{"removed", "version", "kind", "size"} {
		var names []string
		for _, ch := range changes {
			if ch.Kind == kind {
				names = append(names, ch.Symbol.String())
			}
		}
		if len(names) > 0 {
			parts = append(parts, fmt.Sprintf("%d %s (%s)", len(names), map[string]string{"removed": "removed", "version": "without version", "kind": "of another kind", "size": "of another size"}[kind], strings.Join(check.Few(names, 3), ", ")))
		}
	}
	return strings.Join(parts, ", ")
}

// evidenceName names a file of this comparison.
func (c *comparison) evidenceName(lib, what string) string {
	return fmt.Sprintf("%s.%s%s-%s-%s", c.now.record.Name, c.now.record.Arch, strings.ReplaceAll(lib, "/", "+"), c.from, what)
}

func sameBytes(a, b string) (bool, error) {
	x, err := os.ReadFile(a)
	if err != nil {
		return false, err
	}
	y, err := os.ReadFile(b)
	return bytes.Equal(x, y), err
}
