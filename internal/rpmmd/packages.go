package rpmmd

import (
	"encoding/xml"
	"io"
	"strconv"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
)

// Identity is what all three files say of a package.
type Identity struct {
	PkgID            string // checksum of the package's file: the key between the three files
	Name             string
	Epoch            int
	Version, Release string
	Arch             string
}

// EVR gives [epoch:]version-release.
func (p Identity) EVR() string { return distro.FormatEVR(p.Epoch, p.Version, p.Release) }

// NEVRA gives name-[epoch:]version-release.arch.
func (p Identity) NEVRA() string { return p.Name + "-" + p.EVR() + "." + p.Arch }

// PrimaryPackage is one package of primary.xml.
type PrimaryPackage struct {
	Identity
	Checksum                                     Checksum // of the file; its Value is PkgID
	Href                                         string   // as written; may begin with "../"
	Base                                         string   // xml:base of the location; "" as a rule
	Summary, Description, Packager, URL          string
	License, Vendor, Group, BuildHost, SourceRPM string
	FileTime, BuildTime                          int64 // seconds since 1970
	Size, InstalledSize, ArchiveSize             int64 // bytes; Size is that of the file
	HeaderStart, HeaderEnd                       int64 // byte range of the main header in the file
	Provides, Requires, Conflicts, Obsoletes     []rpm.Dep
	Recommends, Suggests, Supplements, Enhances  []rpm.Dep
	Files                                        []FileEntry // only those that primary lists
}

// FileEntry is one file of a package. Type is "", "dir" or "ghost".
type FileEntry struct{ Path, Type string }

// FilelistsPackage is one package of filelists.xml.
type FilelistsPackage struct {
	Identity
	Files []FileEntry
}

// OtherPackage is one package of other.xml. Changelogs are in the file's order,
// oldest first when createrepo_c or this package wrote it.
type OtherPackage struct {
	Identity
	Changelogs []rpm.Changelog
}

type xmlVersion struct {
	Epoch string `xml:"epoch,attr"`
	Ver   string `xml:"ver,attr"`
	Rel   string `xml:"rel,attr"`
}

type xmlFile struct {
	Type string `xml:"type,attr"`
	Path string `xml:",chardata"`
}

type xmlDep struct {
	Name  string `xml:"name,attr"`
	Flags string `xml:"flags,attr"`
	Epoch string `xml:"epoch,attr"`
	Ver   string `xml:"ver,attr"`
	Rel   string `xml:"rel,attr"`
	Pre   string `xml:"pre,attr"`
}

type xmlPrimary struct {
	Type     string      `xml:"type,attr"`
	Name     string      `xml:"name"`
	Arch     string      `xml:"arch"`
	Version  xmlVersion  `xml:"version"`
	Checksum xmlChecksum `xml:"checksum"`

	Summary     string `xml:"summary"`
	Description string `xml:"description"`
	Packager    string `xml:"packager"`
	URL         string `xml:"url"`

	Time struct {
		File  int64 `xml:"file,attr"`
		Build int64 `xml:"build,attr"`
	} `xml:"time"`
	Size struct {
		Package   int64 `xml:"package,attr"`
		Installed int64 `xml:"installed,attr"`
		Archive   int64 `xml:"archive,attr"`
	} `xml:"size"`
	Location struct {
		Href string `xml:"href,attr"`
		Base string `xml:"base,attr"`
	} `xml:"location"`
	Format struct {
		License   string `xml:"license"`
		Vendor    string `xml:"vendor"`
		Group     string `xml:"group"`
		BuildHost string `xml:"buildhost"`
		SourceRPM string `xml:"sourcerpm"`
		Range     struct {
			Start int64 `xml:"start,attr"`
			End   int64 `xml:"end,attr"`
		} `xml:"header-range"`
		Provides    []xmlDep  `xml:"provides>entry"`
		Requires    []xmlDep  `xml:"requires>entry"`
		Conflicts   []xmlDep  `xml:"conflicts>entry"`
		Obsoletes   []xmlDep  `xml:"obsoletes>entry"`
		Recommends  []xmlDep  `xml:"recommends>entry"`
		Suggests    []xmlDep  `xml:"suggests>entry"`
		Supplements []xmlDep  `xml:"supplements>entry"`
		Enhances    []xmlDep  `xml:"enhances>entry"`
		Files       []xmlFile `xml:"file"`
	} `xml:"format"`
}

type xmlListed struct {
	PkgID      string     `xml:"pkgid,attr"`
	Name       string     `xml:"name,attr"`
	Arch       string     `xml:"arch,attr"`
	Version    xmlVersion `xml:"version"`
	Files      []xmlFile  `xml:"file"`
	Changelogs []struct {
		Author string `xml:"author,attr"`
		Date   int64  `xml:"date,attr"`
		Text   string `xml:",chardata"`
	} `xml:"changelog"`
}

// ReadPrimary reads primary.xml (decompressed) and calls f for each package in
// turn. It stops at the first error: f's own, unchanged, or errs.Invalid with
// line and column for what is malformed, and for a count of packages that is
// not the one that the head states.
func ReadPrimary(r io.Reader, f func(*PrimaryPackage) error) error {
	return readPackages("primary.xml", "metadata", r, func(x *xmlPrimary) (*PrimaryPackage, error) {
		if x.Type != "rpm" {
			return nil, errs.Ef(errs.Invalid, "package of type %q", x.Type)
		}
		sum := x.Checksum.checksum()
		if err := sum.check(); err != nil {
			return nil, errs.Wrap(err, "package %q", x.Name)
		}
		if x.Location.Href == "" {
			return nil, errs.Ef(errs.Invalid, "package %q has no location", x.Name)
		}
		if x.Size.Package < 0 || x.Size.Installed < 0 || x.Size.Archive < 0 || x.Format.Range.Start < 0 || x.Format.Range.End < x.Format.Range.Start {
			return nil, errs.Ef(errs.Invalid, "package %q has a negative size", x.Name)
		}
		id, err := identify(sum.Value, x.Name, x.Arch, x.Version)
		p := &PrimaryPackage{Identity: id, Checksum: sum, Href: x.Location.Href, Base: x.Location.Base,
			Summary: x.Summary, Description: x.Description, Packager: x.Packager, URL: x.URL,
			License: x.Format.License, Vendor: x.Format.Vendor, Group: x.Format.Group, BuildHost: x.Format.BuildHost, SourceRPM: x.Format.SourceRPM,
			FileTime: x.Time.File, BuildTime: x.Time.Build,
			Size: x.Size.Package, InstalledSize: x.Size.Installed, ArchiveSize: x.Size.Archive,
			HeaderStart: x.Format.Range.Start, HeaderEnd: x.Format.Range.End,
			Files: fileEntries(x.Format.Files)}
		for _, d := range []struct {
			from []xmlDep
			to   *[]rpm.Dep
		}{
			{x.Format.Provides, &p.Provides}, {x.Format.Requires, &p.Requires}, {x.Format.Conflicts, &p.Conflicts}, {x.Format.Obsoletes, &p.Obsoletes},
			{x.Format.Recommends, &p.Recommends}, {x.Format.Suggests, &p.Suggests}, {x.Format.Supplements, &p.Supplements}, {x.Format.Enhances, &p.Enhances},
		} {
			deps, derr := readDeps(d.from)
			if derr != nil {
				return nil, errs.Wrap(derr, "package %q", x.Name)
			}
			*d.to = deps
		}
		return p, err
	}, f)
}

// ReadFilelists reads filelists.xml, as [ReadPrimary] reads primary.xml.
func ReadFilelists(r io.Reader, f func(*FilelistsPackage) error) error {
	return readPackages("filelists.xml", "filelists", r, func(x *xmlListed) (*FilelistsPackage, error) {
		id, err := identify(x.PkgID, x.Name, x.Arch, x.Version)
		return &FilelistsPackage{id, fileEntries(x.Files)}, err
	}, f)
}

// ReadOther reads other.xml, as [ReadPrimary] reads primary.xml.
func ReadOther(r io.Reader, f func(*OtherPackage) error) error {
	return readPackages("other.xml", "otherdata", r, func(x *xmlListed) (*OtherPackage, error) {
		id, err := identify(x.PkgID, x.Name, x.Arch, x.Version)
		p := &OtherPackage{Identity: id}
		for _, c := range x.Changelogs {
			p.Changelogs = append(p.Changelogs, rpm.Changelog{Time: c.Date, Author: c.Author, Text: c.Text})
		}
		return p, err
	}, f)
}

func readPackages[X, P any](file, root string, r io.Reader, convert func(*X) (*P, error), f func(*P) error) error {
	s := newScanner(file, r)
	count := int64(0)
	err := s.children(root, func(start xml.StartElement) error {
		if start.Name.Local != "package" {
			return s.d.Skip()
		}
		count++
		var x X
		if err := s.d.DecodeElement(&x, &start); err != nil {
			return err
		}
		p, err := convert(&x)
		if err != nil {
			return err
		}
		if err := f(p); err != nil {
			return &stopError{err}
		}
		return nil
	})
	if err == nil && s.declared >= 0 && s.declared != count {
		err = s.fail(errs.Ef(errs.Invalid, "the head states %d packages, there are %d", s.declared, count))
	}
	return err
}

func identify(pkgid, name, arch string, v xmlVersion) (Identity, error) {
	id := Identity{PkgID: pkgid, Name: name, Version: v.Ver, Release: v.Rel, Arch: arch}
	if pkgid == "" || name == "" || arch == "" || v.Ver == "" {
		return id, errs.Ef(errs.Invalid, "package %q lacks its checksum, name, architecture or version", name)
	}
	if v.Epoch != "" {
		n, err := strconv.ParseUint(v.Epoch, 10, 32)
		if err != nil {
			return id, errs.Ef(errs.Invalid, "package %q has the epoch %q", name, v.Epoch)
		}
		id.Epoch = int(n)
	}
	return id, nil
}

func fileEntries(files []xmlFile) []FileEntry {
	if len(files) == 0 {
		return nil
	}
	out := make([]FileEntry, len(files))
	for i, f := range files {
		out[i] = FileEntry{f.Path, f.Type}
	}
	return out
}

// readDeps gives dependencies in rpm's form: sense bits, SensePrereq for pre="1",
// and a version whose epoch 0 is left out.
func readDeps(from []xmlDep) ([]rpm.Dep, error) {
	var out []rpm.Dep
	for _, x := range from {
		d := rpm.Dep{Name: x.Name, EVR: x.Ver}
		if x.Name == "" {
			return nil, errs.Ef(errs.Invalid, "a relation without a name")
		}
		if x.Flags != "" {
			for bits, name := range senseNames {
				if name == x.Flags {
					d.Flags = uint32(bits)
				}
			}
			if d.Flags == 0 {
				return nil, errs.Ef(errs.Invalid, "relation %q has the flags %q", x.Name, x.Flags)
			}
		}
		if x.Rel != "" {
			d.EVR += "-" + x.Rel
		}
		if strings.Trim(x.Epoch, "0") != "" {
			d.EVR = x.Epoch + ":" + d.EVR
		}
		if x.Pre == "1" {
			d.Flags |= rpm.SensePrereq
		}
		out = append(out, d)
	}
	return out, nil
}
