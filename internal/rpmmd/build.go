package rpmmd

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

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

// Compression of the data files.
type Compression string

// The compressions that [Build] writes.
const (
	Zstd Compression = "zstd" // the default
	Gzip Compression = "gzip" // for clients without zstd
)

// Options of [Build].
type Options struct {
	// Revision of repomd.xml: the snapshot's serial. It must not be empty.
	Revision string
	// Timestamp of every record of repomd.xml, seconds since 1970. dnf takes the
	// highest as the age of the repository.
	Timestamp   int64
	Compression Compression
	// Updateinfo is the open text of updateinfo.xml; nil leaves the file out.
	Updateinfo []byte
}

// Repodata is a repodata folder in memory.
type Repodata struct {
	Repomd []byte // repomd.xml; to be written after all of Files
	Files  []DataFile
}

// DataFile is one file that repomd.xml names. Its Href is "repodata/" and Name.
type DataFile struct {
	Record
	Name string // "<sha256>-primary.xml.zst"
	Data []byte // as stored, compressed
}

// Build makes the metadata of the entries, which it leaves as they are. Entries
// come out sorted by name, epoch, version and release in rpm's order,
// architecture and href. It gives errs.Invalid for an entry without digest or
// with an href that no client could fetch, and errs.Conflict for an href that
// occurs twice. Other text may be anything: see appendText. The same package at two hrefs is allowed, as with createrepo_c.
func Build(entries []Entry, opts Options) (*Repodata, error) {
	pack, err := packer(opts.Compression)
	if err != nil {
		return nil, err
	}
	if opts.Revision == "" {
		return nil, errs.E(errs.Internal, "repository metadata without a revision")
	}
	sorted, err := sortEntries(entries)
	if err != nil {
		return nil, err
	}
	jobs := []document{primary, filelists, other}
	if opts.Updateinfo != nil {
		if err := checkUpdateinfo(opts.Updateinfo); err != nil {
			return nil, err
		}
		jobs = append(jobs, document{kind: "updateinfo"})
	}
	files := make([]DataFile, len(jobs))
	done := make(chan error, len(jobs))
	for i, doc := range jobs {
		go func() {
			open := opts.Updateinfo
			if doc.encode != nil {
				open = doc.join(sorted)
			}
			f, err := pack(doc.kind, open)
			f.Timestamp = opts.Timestamp
			files[i] = f
			done <- err
		}()
	}
	for range jobs {
		if e := <-done; e != nil {
			err = e
		}
	}
	if err != nil {
		return nil, err
	}
	return &Repodata{Repomd: appendRepomd(nil, opts.Revision, files), Files: files}, nil
}

// document is one of the three XML files: a head, one element per package, and
// an end. Elements stand for themselves, so that a later writer can keep the
// compressed frames of packages that did not change.
type document struct {
	kind, root, attrs string
	encode            func(dst []byte, e *Entry) []byte
}

var (
	primary   = document{"primary", "metadata", ` xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm"`, appendPrimary}
	filelists = document{"filelists", "filelists", ` xmlns="http://linux.duke.edu/metadata/filelists"`, appendFilelists}
	other     = document{"other", "otherdata", ` xmlns="http://linux.duke.edu/metadata/other"`, appendOther}
)

const xmlHead = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

func (d document) head(count int) string {
	return fmt.Sprintf(xmlHead+"<%s%s packages=\"%d\">\n", d.root, d.attrs, count)
}

func (d document) tail() string { return "</" + d.root + ">\n" }

func (d document) join(entries []*Entry) []byte {
	dst := []byte(d.head(len(entries)))
	for _, e := range entries {
		dst = d.encode(dst, e)
	}
	return append(dst, d.tail()...)
}

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
	}
	for _, c := range []byte(href) {
		if c <= ' ' || c == 0x7f || strings.IndexByte(`\?#%:"<>`, c) >= 0 {
			return fmt.Sprintf("holds %q, which has a meaning in a URL", c)
		}
	}
	return ""
}

// appendRepomd writes repomd.xml.
func appendRepomd(dst []byte, revision string, files []DataFile) []byte {
	b := bytes.NewBuffer(dst)
	b.WriteString(xmlHead + `<repomd xmlns="http://linux.duke.edu/metadata/repo" xmlns:rpm="http://linux.duke.edu/metadata/rpm">` + "\n")
	fmt.Fprintf(b, "  <revision>%s</revision>\n", appendText(nil, revision))
	for _, f := range files {
		fmt.Fprintf(b, "  <data type=\"%s\">\n", f.Type)
		fmt.Fprintf(b, "    <checksum type=\"%s\">%s</checksum>\n", f.Checksum.Type, f.Checksum.Value)
		fmt.Fprintf(b, "    <open-checksum type=\"%s\">%s</open-checksum>\n", f.OpenChecksum.Type, f.OpenChecksum.Value)
		fmt.Fprintf(b, "    <location href=\"%s\"/>\n", f.Href)
		fmt.Fprintf(b, "    <timestamp>%d</timestamp>\n    <size>%d</size>\n    <open-size>%d</open-size>\n  </data>\n", f.Timestamp, f.Size, f.OpenSize)
	}
	b.WriteString("</repomd>\n")
	return b.Bytes()
}
