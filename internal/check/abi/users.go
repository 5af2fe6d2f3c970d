package abi

import (
	"context"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/elfabi"
	"slipway/internal/errs"
	"slipway/internal/rpm"
)

// user is an ELF file of a published package that needs a library.
type user struct {
	record distro.PackageRecord
	path   string
	elf    *elfabi.File
}

// users finds who needs a library, among all packages that were ever published.
type users struct {
	bed *check.Bed

	mu   sync.Mutex
	read map[distro.Digest][]user // by header: the ELF files that need something
}

// of gives who needs the library of one of p's versions. Those are left out that p's
// own package brings, and those that require p in their own exact version: they are
// replaced together with it.
func (u *users) of(ctx context.Context, lib *elfabi.File, p distro.PackageRecord) ([]user, error) {
	seen := map[distro.Digest]bool{}
	var out []user
	for _, r := range check.Binary(slices.Concat(u.bed.History, u.bed.Base)) {
		if seen[r.HeaderDigest] || r.Name == p.Name || forDebugging(r.Name) {
			continue
		}
		seen[r.HeaderDigest] = true
		h, err := u.bed.Read(ctx, r)
		if err != nil {
			return nil, err
		}
		if !mayNeed(h, lib.SOName) || tied(h, p) {
			continue
		}
		files, err := u.files(ctx, r, h)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if f.elf.Machine == lib.Machine && f.elf.Bits == lib.Bits && slices.Contains(f.elf.Needed, lib.SOName) {
				out = append(out, f)
			}
		}
	}
	return out, nil
}

// mayNeed reports whether a package may hold a program that needs a soname. Those that
// were made with rpm's dependencies of sonames say so; the others must be looked into.
func mayNeed(h *rpm.Package, soname string) bool {
	automatic := false
	for _, d := range h.Requires {
		if rest, ok := strings.CutPrefix(d.Name, soname); ok && (rest == "" || rest[0] == '(') {
			return true
		}
		automatic = automatic || strings.Contains(d.Name, ".so") && strings.HasSuffix(d.Name, ")")
	}
	return !automatic && slices.ContainsFunc(h.Files, mayBeELF)
}

// mayBeELF reports whether a file may be a program or a library, by its name and mode.
func mayBeELF(f rpm.File) bool {
	return f.IsRegular() && f.Flags&(rpm.FileGhost|rpm.FileConfig|rpm.FileDoc) == 0 && !forDebuggingPath(f.Path) && (f.Mode&0o111 != 0 || libraryName.MatchString(path.Base(f.Path)))
}

// tied reports whether a package requires p's package in one exact version.
func tied(h *rpm.Package, p distro.PackageRecord) bool {
	return slices.ContainsFunc(h.Requires, func(d rpm.Dep) bool { return d.Name == p.Name && d.Op() == "=" })
}

// files reads the ELF files of a package, once.
func (u *users) files(ctx context.Context, r distro.PackageRecord, h *rpm.Package) ([]user, error) {
	u.mu.Lock()
	got, ok := u.read[r.HeaderDigest]
	u.mu.Unlock()
	if ok {
		return got, nil
	}
	var out []user
	err := visit(ctx, u.bed.Open, r, mayBeELF, func(f rpm.File, data io.Reader) error {
		head := make([]byte, 4)
		if _, err := io.ReadFull(data, head); err != nil || !elfabi.IsELF(head) {
			return nil
		}
		b, err := io.ReadAll(io.MultiReader(strings.NewReader(string(head)), data))
		if err != nil {
			return err
		}
		e, err := elfabi.Read(strings.NewReader(string(b)), r.NEVRA()+": "+f.Path)
		if errs.Is(err, errs.Invalid) {
			return nil // the linker could not read it either
		}
		if err == nil && len(e.Needed) > 0 {
			out = append(out, user{r, f.Path, e})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.read == nil {
		u.read = map[distro.Digest][]user{}
	}
	u.read[r.HeaderDigest] = out
	return out, nil
}

// visit reads the payload of a package.
func visit(ctx context.Context, open func(context.Context, distro.PackageRecord) (check.Package, error), p distro.PackageRecord, want func(rpm.File) bool, do func(rpm.File, io.Reader) error) error {
	f, err := open(ctx, p)
	if err != nil {
		return err
	}
	defer f.Close()
	return errs.Wrap(rpm.Visit(f, f.Size(), want, func(file rpm.File, data io.Reader) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return do(file, data)
	}), "package %s", p.NEVRA())
}

// feed knows what the candidate offers; it reads headers when it is first asked.
type feed struct {
	bed *check.Bed

	once     sync.Once
	err      error
	provides map[string][]distro.PackageRecord
	files    map[string]bool
}

func (f *feed) load(ctx context.Context) error {
	f.once.Do(func() {
		f.provides, f.files = map[string][]distro.PackageRecord{}, map[string]bool{}
		for _, p := range check.Binary(f.bed.Packages) {
			h, err := f.bed.Read(ctx, p)
			if err != nil {
				f.err = err
				return
			}
			for _, d := range h.Provides {
				f.provides[d.Name] = append(f.provides[d.Name], p)
			}
			for _, file := range h.Files {
				f.files[file.Path] = true
			}
		}
	})
	return f.err
}

// provider finds another package of the candidate, for the same devices, that provides
// a library's soname.
func (f *feed) provider(ctx context.Context, lib *elfabi.File, p distro.PackageRecord) (*distro.PackageRecord, error) {
	if err := f.load(ctx); err != nil {
		return nil, err
	}
	name := lib.SOName
	if lib.Bits == 64 {
		name += "()(64bit)"
	}
	for _, q := range f.provides[name] {
		if q.Arch == p.Arch && q.Name != p.Name {
			return &q, nil
		}
	}
	return nil, nil
}

// replaces gives the newer version that the candidate offers of a published package;
// "" is none: a device that has it keeps it.
func (f *feed) replaces(p distro.PackageRecord) string {
	for _, q := range f.bed.Packages {
		if q.Name == p.Name && q.Arch == p.Arch && q.CompareEVR(p) > 0 {
			return q.NEVRA()
		}
	}
	return ""
}
