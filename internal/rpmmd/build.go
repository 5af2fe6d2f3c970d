package rpmmd

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
)

// Entry is one package of a repository.
type Entry struct {
	// Package must have Digest and Size of the file, and a name.
	Package *rpm.Package
	// Href is where the file is, relative to the folder that holds repodata/, by
	// slashes; leading "../" are allowed: "../../pool/rpm/x86_64/1/x-1-1.x86_64.rpm".
	Href string
	// FileTime is the file's time, seconds since 1970. It reaches the clients, so
	// give a time that does not depend on when the file was copied.
	FileTime int64
}

// Options of an index.
type Options struct {
	// Revision of repomd.xml: the snapshot's serial. It must not be empty.
	Revision string
	// Timestamp of every record of repomd.xml, seconds since 1970. dnf takes the
	// highest as the age of the repository.
	Timestamp   int64
	Compression Compression
	// Updateinfo is the open text of updateinfo.xml; nil leaves the file out.
	Updateinfo []byte
	// Keep are records of further files that repomd.xml names as they are: files
	// of other tools (comps, modules) that the caller leaves in place.
	Keep []Record
}

// Repodata is a repodata folder in memory.
type Repodata struct {
	Repomd []byte // repomd.xml; to be written after all of Files
	Files  []MemoryFile
}

// MemoryFile is a [DataFile] with its bytes.
type MemoryFile struct {
	Record
	Name string // "<sha256>-primary.xml.zst"
	Data []byte // as stored, compressed
}

// Build makes the metadata of the entries from nothing, in memory. Entries
// come out sorted by name, epoch, version and release in rpm's order,
// architecture and href. It gives errs.Invalid for an entry without digest or
// with an href that no client could fetch, and errs.Conflict for an href that
// occurs twice. Other text may be anything: see appendText. The same package at two hrefs is allowed, as with createrepo_c.
func Build(entries []Entry, opts Options) (*Repodata, error) {
	sorted, err := sortEntries(entries)
	if err != nil {
		return nil, err
	}
	byHref := make(map[string]*Entry, len(sorted))
	for _, e := range sorted {
		byHref[e.Href] = e
	}
	u := Update{Options: opts, Load: func(_ context.Context, it Item) (Entry, error) { return *byHref[it.Href], nil }}
	x, err := u.Do(context.Background(), func(yield func(Item) bool) {
		for _, e := range sorted {
			if !yield(Item{Href: e.Href, Cut: e.Package.Name}) {
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	md := &Repodata{Repomd: x.Repomd}
	for _, f := range x.Files {
		var b bytes.Buffer
		b.Grow(int(f.Size))
		if _, err := f.WriteTo(&b); err != nil {
			return nil, errs.E(errs.Internal, "repository metadata in memory", err)
		}
		md.Files = append(md.Files, MemoryFile{Record: f.Record, Name: f.Name, Data: b.Bytes()})
	}
	return md, nil
}

// document is one of the three XML files: a head, one element per package, and
// an end, which stand for themselves, so that frames can be joined and kept.
type document struct {
	kind, root, attrs string
	encode            func(dst []byte, e *Entry) []byte
}

// documents in the order of repomd.xml.
var documents = [3]document{
	{"primary", "metadata", ` xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm"`, appendPrimary},
	{"filelists", "filelists", ` xmlns="http://linux.duke.edu/metadata/filelists"`, appendFilelists},
	{"other", "otherdata", ` xmlns="http://linux.duke.edu/metadata/other"`, appendOther},
}

const xmlHead = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

// head leaves the attribute packages="N" out: with it, the first bytes of a file
// would change with every package. Clients and createrepo_c do without.
func (d document) head() string { return xmlHead + "<" + d.root + d.attrs + ">\n" }

func (d document) tail() string { return "</" + d.root + ">\n" }

func sortEntries(entries []Entry) ([]*Entry, error) {
	var list errs.List
	sorted := make([]*Entry, len(entries))
	for i := range entries {
		sorted[i] = &entries[i]
		if err := entries[i].check(); err != nil {
			list = append(list, err)
		}
	}
	if err := list.Err(); err != nil {
		return nil, err
	}
	// First by href, which is unique: rpm's order calls some different versions equal.
	slices.SortFunc(sorted, func(a, b *Entry) int { return strings.Compare(a.Href, b.Href) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].Href == sorted[i-1].Href {
			list = append(list, errs.E(errs.Conflict, fmt.Sprintf("%s is named twice in one repository", sorted[i].Href)))
		}
	}
	slices.SortStableFunc(sorted, func(a, b *Entry) int {
		p, q := a.Package, b.Package
		return cmp.Or(strings.Compare(p.Name, q.Name),
			distro.CompareEVR(p.Epoch, p.Version, p.Release, q.Epoch, q.Version, q.Release),
			strings.Compare(p.Arch, q.Arch))
	})
	return sorted, list.Err()
}

func (e *Entry) check() error {
	p := e.Package
	switch {
	case p == nil:
		return errs.E(errs.Internal, fmt.Sprintf("entry %q of the repository has no package", e.Href))
	case p.Name == "" || p.Version == "" || p.Release == "":
		return errs.E(errs.Invalid, fmt.Sprintf("%s: the package has no name, version or release", e.Href))
	case p.Digest == "":
		return errs.E(errs.Internal, fmt.Sprintf("%s: the digest of the file is not known (only the header was read)", e.Href))
	}
	if _, err := distro.ParseDigest(string(p.Digest)); err != nil {
		return errs.Wrap(err, "%s", e.Href)
	}
	for _, s := range []string{p.Name, p.Version, p.Release, p.Arch} {
		if strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
			return errs.E(errs.Invalid, fmt.Sprintf("%s: %q in name, version, release or architecture; rpm allows printable ASCII only", e.Href, s))
		}
	}
	if why := badHref(e.Href); why != "" {
		return errs.E(errs.Invalid, fmt.Sprintf("%s cannot stand in a repository as %q: it %s", p.NEVRA(), e.Href, why),
			errs.Hint("rename the file to <name>-<version>-<release>.<arch>.rpm"))
	}
	return nil
}

// badHref says why clients could not fetch href, or "". They paste it to the
// base URL without encoding.
func badHref(href string) string {
	switch {
	case href == "" || href == "." || strings.HasSuffix(href, ".."):
		return "names no file"
	case strings.HasPrefix(href, "/"):
		return "is absolute"
	case path.Clean(href) != href:
		return "is not in its shortest form"
	case !utf8.ValidString(href):
		return "is not UTF-8"
	}
	for _, c := range []byte(href) {
		if c <= ' ' || c == 0x7f || strings.IndexByte(`\?#%:"<>`, c) >= 0 {
			return fmt.Sprintf("holds %q, which has a meaning in a URL", c)
		}
	}
	return ""
}

// EncodeRepomd writes repomd.xml. What a record does not state (an empty
// checksum, a size of -1, a time of 0) is left out.
func EncodeRepomd(revision string, records []Record) []byte {
	b := &bytes.Buffer{}
	b.WriteString(xmlHead + `<repomd xmlns="http://linux.duke.edu/metadata/repo" xmlns:rpm="http://linux.duke.edu/metadata/rpm">` + "\n")
	fmt.Fprintf(b, "  <revision>%s</revision>\n", appendText(nil, revision))
	for _, r := range records {
		fmt.Fprintf(b, "  <data type=\"%s\">\n", appendAttr(nil, r.Type))
		fmt.Fprintf(b, "    <checksum type=\"%s\">%s</checksum>\n", r.Checksum.Type, r.Checksum.Value)
		if r.OpenChecksum.Value != "" {
			fmt.Fprintf(b, "    <open-checksum type=\"%s\">%s</open-checksum>\n", r.OpenChecksum.Type, r.OpenChecksum.Value)
		}
		fmt.Fprintf(b, "    <location href=\"%s\"/>\n", appendAttr(nil, r.Href))
		if r.Timestamp != 0 {
			fmt.Fprintf(b, "    <timestamp>%d</timestamp>\n", r.Timestamp)
		}
		if r.Size >= 0 {
			fmt.Fprintf(b, "    <size>%d</size>\n", r.Size)
		}
		if r.OpenSize >= 0 {
			fmt.Fprintf(b, "    <open-size>%d</open-size>\n", r.OpenSize)
		}
		b.WriteString("  </data>\n")
	}
	b.WriteString("</repomd>\n")
	return b.Bytes()
}
