package rpmmd

import (
	"bytes"
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"slipway/internal/errs"
)

// Advisory is one <update> of updateinfo.xml, with what dnf, zypper and their
// libsolv read of it.
type Advisory struct {
	ID          string // what --advisory names
	From        string // who says so: an address
	Status      string // "final"
	Type        string // one of AdvisoryTypes
	Version     int    // from 1; rises when the text changes
	Title       string
	Severity    string // one of Severities; "" is none
	Release     string // "Halyard Linux 1.2"
	Description string
	Issued      time.Time
	Updated     time.Time
	Reboot      bool // the device is to be started anew
	References  []Reference
	// Collection is the short name, CollectionName the long one, of what the packages
	// are of. libsolv drops packages that stand in none.
	Collection, CollectionName string
	Packages                   []AdvisoryPackage
}

// Reference is where more is said.
type Reference struct{ Href, ID, Title, Type string } // Type: "cve", "bugzilla", "other", "self"

// AdvisoryPackage is a package that mends what the advisory is about: this version of
// it, and every newer one.
type AdvisoryPackage struct {
	Name, Version, Release, Arch string
	Epoch                        int
	File                         string // name of the file
}

// EVR gives [epoch:]version-release.
func (p AdvisoryPackage) EVR() string {
	if p.Epoch != 0 {
		return fmt.Sprintf("%d:%s-%s", p.Epoch, p.Version, p.Release)
	}
	return p.Version + "-" + p.Release
}

// AdvisoryTypes are what dnf lists by: updateinfo list --security, --bugfix, ...
var AdvisoryTypes = []string{"security", "bugfix", "enhancement", "newpackage"}

// Severities as dnf writes them; any other text is "Unknown" for it.
var Severities = []string{"Critical", "Important", "Moderate", "Low"}

// advisoryTime is the form of dates: dnf takes any other for the year 1970.
const advisoryTime = "2006-01-02 15:04:05"

// EncodeUpdateinfo writes updateinfo.xml, the advisories in the order of their ids and
// the packages sorted. Equal advisories give equal bytes. It gives errs.Invalid for one
// that clients would drop without a word, or die of.
func EncodeUpdateinfo(list []Advisory) ([]byte, error) {
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, func(a, b Advisory) int { return strings.Compare(a.ID, b.ID) })
	var bad errs.List
	b := []byte(xmlHead + "<updates>\n")
	element := func(name, text string) {
		b = append(b, "    <"+name+">"...)
		b = append(appendText(b, text), "</"+name+">\n"...)
	}
	attrs := func(pairs ...string) {
		for i := 0; i < len(pairs); i += 2 {
			b = append(b, " "+pairs[i]+`="`...)
			b = append(appendAttr(b, pairs[i+1]), '"')
		}
	}
	for i, a := range sorted {
		if err := a.check(); err != nil {
			bad = append(bad, err)
		}
		if i > 0 && a.ID == sorted[i-1].ID {
			bad = append(bad, errs.Ef(errs.Invalid, "advisory %s is there twice", a.ID))
		}
		b = append(b, "  <update"...)
		attrs("from", a.From, "status", a.Status, "type", a.Type, "version", fmt.Sprint(a.Version))
		b = append(b, ">\n"...)
		element("id", a.ID)
		element("title", a.Title)
		if a.Severity != "" {
			element("severity", a.Severity)
		}
		element("release", a.Release)
		for _, d := range []struct {
			name string
			at   time.Time
		}{{"issued", a.Issued}, {"updated", a.Updated}} {
			b = append(b, "    <"+d.name...)
			attrs("date", d.at.UTC().Format(advisoryTime))
			b = append(b, "/>\n"...)
		}
		element("description", a.Description)
		if a.Reboot {
			element("reboot_suggested", "True")
		}
		b = append(b, "    <references>\n"...)
		for _, r := range a.References {
			b = append(b, "      <reference"...)
			attrs("href", r.Href, "id", r.ID, "title", r.Title, "type", r.Type)
			b = append(b, "/>\n"...)
		}
		b = append(b, "    </references>\n    <pkglist>\n      <collection"...)
		attrs("short", a.Collection)
		b = append(b, ">\n        <name>"...)
		b = append(appendText(b, a.CollectionName), "</name>\n"...)
		packages := slices.Clone(a.Packages)
		slices.SortFunc(packages, func(p, q AdvisoryPackage) int { return strings.Compare(p.File, q.File) })
		for _, p := range packages {
			b = append(b, "        <package"...)
			attrs("name", p.Name, "epoch", fmt.Sprint(p.Epoch), "version", p.Version, "release", p.Release, "arch", p.Arch)
			b = append(b, ">\n          <filename>"...)
			b = append(appendText(b, p.File), "</filename>\n"...)
			if a.Reboot {
				b = append(b, "          <reboot_suggested>True</reboot_suggested>\n"...)
			}
			b = append(b, "        </package>\n"...)
		}
		b = append(b, "      </collection>\n    </pkglist>\n  </update>\n"...)
	}
	return append(b, "</updates>\n"...), bad.Err()
}

// check finds what a client would not understand as it was meant.
func (a *Advisory) check() error {
	var bad errs.List
	find := func(format string, args ...any) {
		bad = append(bad, errs.Ef(errs.Invalid, "advisory %q: "+format, append([]any{a.ID}, args...)...))
	}
	if a.ID == "" || strings.ContainsFunc(a.ID, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		find("the id must be printable ASCII without blanks")
	}
	if !slices.Contains(AdvisoryTypes, a.Type) {
		find("type %q is none of %s", a.Type, strings.Join(AdvisoryTypes, ", "))
	}
	if a.Severity == "" && a.Type == "security" || a.Severity != "" && !slices.Contains(Severities, a.Severity) {
		find("severity %q is none of %s", a.Severity, strings.Join(Severities, ", "))
	}
	if a.Version < 1 {
		find("version %d", a.Version)
	}
	if a.Issued.IsZero() || a.Updated.Before(a.Issued) {
		find("issued %s, updated %s", a.Issued.UTC().Format(advisoryTime), a.Updated.UTC().Format(advisoryTime))
	}
	if len(a.Packages) == 0 {
		find("it names no package: clients do not show it")
	}
	for _, p := range a.Packages {
		for _, s := range []string{p.Name, p.Version, p.Release, p.Arch} {
			if s == "" || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f }) || p.Epoch < 0 {
				find("%q is no package", p.Name+"-"+p.EVR()+"."+p.Arch)
				break
			}
		}
	}
	return bad.Err()
}

type xmlAdvisory struct {
	From     string `xml:"from,attr"`
	Status   string `xml:"status,attr"`
	Type     string `xml:"type,attr"`
	Version  string `xml:"version,attr"`
	ID       string `xml:"id"`
	Title    string `xml:"title"`
	Severity string `xml:"severity"`
	Release  string `xml:"release"`
	Issued   struct {
		Date string `xml:"date,attr"`
	} `xml:"issued"`
	Updated struct {
		Date string `xml:"date,attr"`
	} `xml:"updated"`
	Description string `xml:"description"`
	Reboot      string `xml:"reboot_suggested"`
	References  []struct {
		Href  string `xml:"href,attr"`
		ID    string `xml:"id,attr"`
		Title string `xml:"title,attr"`
		Type  string `xml:"type,attr"`
	} `xml:"references>reference"`
	Collections []struct {
		Short    string `xml:"short,attr"`
		Name     string `xml:"name"`
		Packages []struct {
			Name    string `xml:"name,attr"`
			Epoch   string `xml:"epoch,attr"`
			Version string `xml:"version,attr"`
			Release string `xml:"release,attr"`
			Arch    string `xml:"arch,attr"`
			File    string `xml:"filename"`
		} `xml:"package"`
	} `xml:"pkglist>collection"`
}

// ReadUpdateinfo reads updateinfo.xml as [EncodeUpdateinfo] writes it, and gives
// errs.Invalid with the place for all else: what clients would drop or misread, two
// advisories of one id, one with several collections.
func ReadUpdateinfo(r io.Reader) ([]Advisory, error) {
	var out []Advisory
	seen := map[string]bool{}
	s := newScanner("updateinfo.xml", r)
	err := s.children("updates", func(start xml.StartElement) error {
		if start.Name.Local != "update" {
			return errs.Ef(errs.Invalid, "element <%s>", start.Name.Local)
		}
		var x xmlAdvisory
		if err := s.d.DecodeElement(&x, &start); err != nil {
			return err
		}
		a, err := x.advisory()
		if err == nil {
			err = a.check()
		}
		if err == nil && seen[a.ID] {
			err = errs.Ef(errs.Invalid, "advisory %s is there twice", a.ID)
		}
		seen[a.ID] = true
		out = append(out, a)
		return err
	})
	return out, err
}

// ReadAdvisories reads the advisories that repomd.xml names, none when it names none, and
// checks the file as [ReadRepo] does.
func ReadAdvisories(open func(name string) (io.ReadCloser, error), md *Repomd) ([]Advisory, error) {
	rec, ok := md.Record("updateinfo")
	if !ok {
		return nil, nil
	}
	repo := &Repo{}
	if err := repo.read(open, rec); err != nil {
		return nil, errs.Wrap(err, "%s", rec.Href)
	}
	return ReadUpdateinfo(bytes.NewReader(repo.Updateinfo))
}

func (x xmlAdvisory) advisory() (Advisory, error) {
	a := Advisory{ID: x.ID, From: x.From, Status: x.Status, Type: x.Type, Title: x.Title, Severity: x.Severity, Release: x.Release, Description: x.Description, Reboot: x.Reboot == "True"}
	var bad errs.List
	number := func(what, s string) int {
		n, err := parseInt(s)
		if err != nil || n > 1<<31-1 {
			bad = append(bad, errs.Ef(errs.Invalid, "advisory %q: %s %q", x.ID, what, s))
		}
		return int(n)
	}
	date := func(what, s string) time.Time {
		t, err := time.Parse(advisoryTime, s)
		if err != nil {
			bad = append(bad, errs.Ef(errs.Invalid, "advisory %q: %s %q, which clients take for 1970", x.ID, what, s))
		}
		return t
	}
	a.Version, a.Issued, a.Updated = number("version", x.Version), date("issued", x.Issued.Date), date("updated", x.Updated.Date)
	for _, r := range x.References {
		a.References = append(a.References, Reference(r))
	}
	if len(x.Collections) != 1 {
		bad = append(bad, errs.Ef(errs.Invalid, "advisory %q: %d collections", x.ID, len(x.Collections)))
		return a, bad.Err()
	}
	a.Collection, a.CollectionName = x.Collections[0].Short, x.Collections[0].Name
	for _, p := range x.Collections[0].Packages {
		a.Packages = append(a.Packages, AdvisoryPackage{Name: p.Name, Epoch: number("epoch", p.Epoch), Version: p.Version, Release: p.Release, Arch: p.Arch, File: p.File})
	}
	return a, bad.Err()
}

// checkUpdateinfo refuses an updateinfo.xml, of whatever tool, that clients would drop
// without a word (malformed) or die of (an update without an id).
func checkUpdateinfo(b []byte) error {
	s := newScanner("updateinfo.xml", bytes.NewReader(b))
	return s.children("updates", func(start xml.StartElement) error {
		var u struct {
			ID string `xml:"id"`
		}
		if err := s.d.DecodeElement(&u, &start); err != nil {
			return err
		}
		if start.Name.Local == "update" && u.ID == "" {
			return errs.Ef(errs.Invalid, "an update without an id")
		}
		return nil
	})
}

func (w *writer) updateinfo(suffix string) (*DataFile, error) {
	if err := checkUpdateinfo(w.Updateinfo); err != nil {
		return nil, err
	}
	stored, err := w.Compression.pack(w.Updateinfo)
	if err != nil {
		return nil, errs.E(errs.Internal, "compressing updateinfo.xml", err)
	}
	f := &DataFile{parts: []segment{{data: stored}}}
	sum, open := sha256.New(), sha256.New()
	sum.Write(stored)
	open.Write(w.Updateinfo)
	f.fill("updateinfo", suffix, sum, open, int64(len(stored)), int64(len(w.Updateinfo)), w.Timestamp)
	return f, nil
}
