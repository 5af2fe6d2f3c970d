package rpmmd

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"hash"
	"path"
	"strings"

	"slipway/internal/errs"
)

// Repomd is repomd.xml, the list of a repository's files.
type Repomd struct {
	Revision string
	Records  []Record // in the file's order
}

// Record is one <data> element.
type Record struct {
	Type         string   // "primary", "filelists", "other", "updateinfo", ...
	Href         string   // relative to the folder that holds repodata/; never with ".."
	Checksum     Checksum // of the file as stored
	OpenChecksum Checksum // of the decompressed file; empty when not stated
	Size         int64    // bytes, as stored; -1 when not stated
	OpenSize     int64    // bytes, decompressed; -1 when not stated
	Timestamp    int64    // seconds since 1970; 0 when not stated
}

// Checksum is a checksum with its type: sha256, sha384 or sha512.
type Checksum struct{ Type, Value string }

func (c Checksum) String() string { return c.Type + ":" + c.Value }

var hashes = map[string]func() hash.Hash{"sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New}

func (c Checksum) check() error {
	newHash, ok := hashes[c.Type]
	if !ok {
		return errs.E(errs.Invalid, fmt.Sprintf("checksum of type %q", c.Type), errs.Hint("make the metadata with sha256, sha384 or sha512: older sums can be forged"))
	}
	if b, err := hex.DecodeString(c.Value); err != nil || len(b) != newHash().Size() || c.Value != strings.ToLower(c.Value) {
		return errs.Ef(errs.Invalid, "%q is no %s checksum", c.Value, c.Type)
	}
	return nil
}

// Record gives the first record of a type.
func (r *Repomd) Record(kind string) (Record, bool) {
	for _, rec := range r.Records {
		if rec.Type == kind {
			return rec, true
		}
	}
	return Record{}, false
}

// maxRepomd bounds repomd.xml and its number of records.
const (
	maxRepomd  = 4 << 20
	maxRecords = 1000
)

type xmlChecksum struct {
	Type  string `xml:"type,attr"`
	Value string `xml:",chardata"`
}

func (c xmlChecksum) checksum() Checksum {
	return Checksum{strings.TrimSpace(c.Type), strings.TrimSpace(c.Value)}
}

type xmlData struct {
	Type     string       `xml:"type,attr"`
	Checksum xmlChecksum  `xml:"checksum"`
	Open     *xmlChecksum `xml:"open-checksum"`
	Location struct {
		Href string `xml:"href,attr"`
		Base string `xml:"base,attr"`
	} `xml:"location"`
	Timestamp string `xml:"timestamp"` // createrepo (not _c) wrote fractions
	Size      *int64 `xml:"size"`
	OpenSize  *int64 `xml:"open-size"`
}

// ReadRepomd reads repomd.xml. It gives errs.Invalid with the place for what is
// malformed: bad XML, a checksum that is none, an href that leaves the
// repository, two records of one type.
func ReadRepomd(b []byte) (*Repomd, error) {
	if len(b) > maxRepomd {
		return nil, errs.Ef(errs.Invalid, "repomd.xml: %d bytes are too many, at most %d", len(b), maxRepomd)
	}
	md := &Repomd{}
	seen := map[string]bool{}
	s := newScanner("repomd.xml", bytes.NewReader(b))
	err := s.children("repomd", func(start xml.StartElement) error {
		switch start.Name.Local {
		case "revision":
			var text string
			err := s.d.DecodeElement(&text, &start)
			md.Revision = strings.TrimSpace(text)
			return err
		case "data":
			var data xmlData
			if err := s.d.DecodeElement(&data, &start); err != nil {
				return err
			}
			rec, err := data.record()
			if err != nil {
				return err
			}
			if seen[rec.Type] || len(md.Records) == maxRecords {
				return errs.Ef(errs.Invalid, "a second record of type %q, or too many records", rec.Type)
			}
			seen[rec.Type] = true
			md.Records = append(md.Records, rec)
			return nil
		}
		return s.d.Skip()
	})
	if err != nil {
		return nil, err
	}
	return md, nil
}

func (d xmlData) record() (Record, error) {
	rec := Record{Type: d.Type, Href: d.Location.Href, Checksum: d.Checksum.checksum(), Size: -1, OpenSize: -1}
	if d.Type == "" {
		return rec, errs.E(errs.Invalid, "a record without a type")
	}
	if err := rec.Checksum.check(); err != nil {
		return rec, errs.Wrap(err, "record %q", d.Type)
	}
	if d.Open != nil {
		rec.OpenChecksum = d.Open.checksum()
		if err := rec.OpenChecksum.check(); err != nil {
			return rec, errs.Wrap(err, "record %q, open", d.Type)
		}
	}
	if d.Location.Base != "" || !inside(rec.Href) {
		return rec, errs.E(errs.Invalid, fmt.Sprintf("record %q: the location %q is not inside the repository", d.Type, d.Location.Base+rec.Href),
			errs.Hint("dnf and zypper refuse such a repository too; make its metadata again"))
	}
	for _, n := range []struct {
		from *int64
		to   *int64
	}{{d.Size, &rec.Size}, {d.OpenSize, &rec.OpenSize}} {
		if n.from == nil {
			continue
		}
		if *n.to = *n.from; *n.from < 0 {
			return rec, errs.Ef(errs.Invalid, "record %q: a size of %d bytes", d.Type, *n.from)
		}
	}
	whole, _, _ := strings.Cut(strings.TrimSpace(d.Timestamp), ".")
	if whole != "" {
		n, err := parseInt(whole)
		if err != nil {
			return rec, errs.Wrap(err, "record %q, timestamp", d.Type)
		}
		rec.Timestamp = n
	}
	return rec, nil
}

// inside reports whether href is a relative path that stays in its folder.
func inside(href string) bool {
	return href != "" && href != "." && !strings.HasPrefix(href, "/") && path.Clean(href) == href && href != ".." && !strings.HasPrefix(href, "../") &&
		!strings.ContainsAny(href, "\\:\x00")
}
