// Package elfabi reads what the dynamic linker sees of an ELF file: the name that
// programs ask for (soname), what it needs itself, the symbols that it exports and
// imports with their versions, and whether debug information is there. [Compare] says
// what of a library's interface another one lacks.
//
//	old, err := elfabi.Read(f, "libknot.so.1.0")
//	for _, c := range elfabi.Compare(old, now) { fmt.Println(c) }
//
// Every file is a stranger's: whatever bytes it has, Read gives a File or an
// errs.Invalid that says what is wrong. Nothing is allocated on a file's word alone.
//
// The format: the System V ABI's gABI (Object Files, Dynamic Linking) and, for symbol
// versions, the Linux Standard Base, Core, chapter "Symbol Versioning". The headers
// and tables are decoded by Go's debug/elf.
package elfabi

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"slipway/internal/errs"
)

// File is one dynamically linked ELF file. Lists are sorted; none is nil after [Read].
type File struct {
	Machine   string   // "x86_64", "aarch64": the name of debug/elf without its prefix, lower case
	Bits      int      // 32 or 64
	SOName    string   // "libknot.so.1"; "" is a program or a plug-in
	Needed    []string // sonames
	Versions  []string // version nodes that it defines, without that of the file itself
	Exports   []Symbol // what others may use
	Imports   []Symbol // what others must define
	BuildID   string   // hexadecimal; "" is none
	DebugLink string   // file name of its separate debug information; "" is none
	Debug     bool     // it has a .debug_info of its own, with bytes
}

// Symbol is one dynamic symbol.
type Symbol struct {
	Name    string
	Version string // "KNOT_1.0"; "" is none
	Default bool   // of an export: what a newly linked program takes (name@@version)
	Kind    string // "func", "object", "tls", "none"
	Size    uint64 // in bytes; only an object's matters, programs copy it
	Weak    bool   // of an export: templates and inline functions of C++, mostly; of an import: it may be missing
	Library string // of an import with a version: the soname that must have it
}

// String gives name, name@version or name@@version.
func (s Symbol) String() string {
	switch {
	case s.Version == "":
		return s.Name
	case s.Default:
		return s.Name + "@@" + s.Version
	}
	return s.Name + "@" + s.Version
}

// IsELF reports whether bytes begin as an ELF file does; four are enough.
func IsELF(head []byte) bool { return bytes.HasPrefix(head, []byte(elf.ELFMAG)) }

// maxNote is the most that is read of a note or a link: real ones have some 40 bytes.
const maxNote = 4096

// Read reads an ELF file; name stands for it in messages. A file without dynamic
// section (static program, kernel module, separate debug information) has empty
// lists. Errors are errs.Invalid, errs.Unavailable when r fails.
func Read(r io.ReaderAt, name string) (f *File, err error) {
	defer func() {
		if p := recover(); p != nil { // debug/elf is strict; should it ever not be, the file is at fault
			f, err = nil, errs.E(errs.Invalid, fmt.Sprintf("%s is no sound ELF file: %v", name, p))
		}
	}()
	failing := &failures{r: r}
	bad := func(what string, err error) error {
		if failing.err != nil {
			return errs.E(errs.Unavailable, "read "+name, failing.err)
		}
		return errs.E(errs.Invalid, fmt.Sprintf("%s is no sound ELF file: %s", name, what), err)
	}
	e, err := elf.NewFile(failing)
	if err != nil {
		return nil, bad("its headers", err)
	}
	f = &File{Machine: machine(e.Machine), Bits: 32, Needed: []string{}, Versions: []string{}, Exports: []Symbol{}, Imports: []Symbol{}}
	if e.Class == elf.ELFCLASS64 {
		f.Bits = 64
	}
	for _, s := range e.Sections {
		switch {
		case (s.Name == ".debug_info" || s.Name == ".zdebug_info") && s.Type != elf.SHT_NOBITS && s.Size > 0:
			f.Debug = true
		case s.Name == ".gnu_debuglink" && s.Type != elf.SHT_NOBITS:
			b, err := head(s)
			if err != nil {
				return nil, bad("section .gnu_debuglink", err)
			}
			link, _, _ := bytes.Cut(b, []byte{0})
			f.DebugLink = string(link)
		case s.Name == ".note.gnu.build-id" && s.Type != elf.SHT_NOBITS:
			b, err := head(s)
			if err != nil {
				return nil, bad("section .note.gnu.build-id", err)
			}
			f.BuildID = buildID(e, b)
		}
	}
	dynamic := false
	for _, p := range e.Progs {
		dynamic = dynamic || p.Type == elf.PT_DYNAMIC && p.Filesz > 0
	}
	section := e.SectionByType(elf.SHT_DYNAMIC)
	if section == nil || section.Size == 0 {
		if dynamic {
			return nil, bad("it has a dynamic segment and no dynamic section", errors.New("its section headers were taken off"))
		}
		return f, nil
	}
	if e.Type == elf.ET_REL { // a kernel module with such a section is odd, and no library
		return f, nil
	}
	names, err := e.DynString(elf.DT_SONAME)
	if err != nil {
		return nil, bad("its dynamic section", err)
	}
	if len(names) > 0 {
		f.SOName = names[0]
	}
	needed, err := e.DynString(elf.DT_NEEDED)
	if err != nil {
		return nil, bad("its dynamic section", err)
	}
	f.Needed = append(f.Needed, needed...)
	slices.Sort(f.Needed)
	f.Needed = slices.Compact(f.Needed)
	if e.SectionByType(elf.SHT_GNU_VERDEF) != nil {
		versions, err := e.DynamicVersions()
		if err != nil {
			return nil, bad("its version definitions", err)
		}
		for _, v := range versions {
			if v.Flags&elf.VER_FLG_BASE == 0 {
				f.Versions = append(f.Versions, v.Name)
			}
		}
	}
	slices.Sort(f.Versions)
	symbols, err := e.DynamicSymbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return nil, bad("its dynamic symbols", err)
	}
	f.symbols(symbols)
	return f, nil
}

// symbols sorts dynamic symbols into exports and imports.
func (f *File) symbols(all []elf.Symbol) {
	const unique = elf.SymBind(10) // STB_GNU_UNIQUE
	for _, s := range all {
		bind, vis := elf.ST_BIND(s.Info), elf.ST_VISIBILITY(s.Other)
		if s.Name == "" || bind != elf.STB_GLOBAL && bind != elf.STB_WEAK && bind != unique {
			continue
		}
		sym := Symbol{Name: s.Name, Version: s.Version, Kind: kind(elf.ST_TYPE(s.Info)), Size: s.Size, Weak: bind != elf.STB_GLOBAL}
		if s.Section == elf.SHN_UNDEF {
			sym.Size, sym.Library = 0, s.Library
			f.Imports = append(f.Imports, sym)
			continue
		}
		if vis != elf.STV_DEFAULT && vis != elf.STV_PROTECTED || s.Section == elf.SHN_ABS && slices.Contains(f.Versions, s.Name) {
			continue // hidden, or a version node itself
		}
		// A program's copy of a library's variable has the library's version, not one of its own.
		sym.Default = slices.Contains(f.Versions, s.Version) && !s.VersionIndex.IsHidden()
		f.Exports = append(f.Exports, sym)
	}
	order := func(a, b Symbol) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Library, b.Library), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Size, b.Size))
	}
	slices.SortStableFunc(f.Exports, order)
	slices.SortStableFunc(f.Imports, order)
}

func kind(t elf.SymType) string {
	switch t {
	case elf.STT_FUNC, elf.STT_GNU_IFUNC:
		return "func"
	case elf.STT_OBJECT, elf.STT_COMMON:
		return "object"
	case elf.STT_TLS:
		return "tls"
	}
	return "none"
}

// failures remembers an error of r that is no end of file: a disk's, not the file's.
type failures struct {
	r   io.ReaderAt
	err error
}

func (x *failures) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, io.EOF
	}
	n, err := x.r.ReadAt(b, off)
	if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		x.err = err
	}
	return n, err
}

// head gives the first bytes of a section.
func head(s *elf.Section) ([]byte, error) {
	b := make([]byte, min(s.FileSize, maxNote))
	n, err := s.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}

// buildID reads a note of name "GNU" and type 3: sizes of name and description, type,
// then both, each padded to four bytes.
func buildID(e *elf.File, b []byte) string {
	if len(b) < 16 || string(b[12:16]) != "GNU\x00" || e.ByteOrder.Uint32(b) != 4 || e.ByteOrder.Uint32(b[8:]) != 3 {
		return ""
	}
	n := e.ByteOrder.Uint32(b[4:])
	if uint64(n) > uint64(len(b)-16) {
		return ""
	}
	return hex.EncodeToString(b[16 : 16+n])
}

func machine(m elf.Machine) string {
	s := m.String()
	if len(s) > 3 && s[:3] == "EM_" {
		s = s[3:]
	}
	return string(bytes.ToLower([]byte(s)))
}
