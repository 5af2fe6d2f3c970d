package rpmmd

import (
	"strconv"
	"strings"

	"slipway/internal/rpm"
)

// The encoders append one <package> element, in the layout of createrepo_c.
// Hand-written: encoding/xml costs more than compressing does.

func appendPrimary(dst []byte, e *Entry) []byte {
	p := e.Package
	dst = append(dst, "<package type=\"rpm\">\n"...)
	dst = element(dst, "  ", "name", p.Name)
	dst = element(dst, "  ", "arch", arch(p))
	dst = version(dst, p)
	dst = append(dst, `  <checksum type="sha256" pkgid="YES">`...)
	dst = append(dst, p.Digest.Hex()...)
	dst = append(dst, "</checksum>\n"...)
	dst = element(dst, "  ", "summary", p.Summary)
	dst = element(dst, "  ", "description", p.Description)
	dst = element(dst, "  ", "packager", p.Packager)
	dst = element(dst, "  ", "url", p.URL)
	dst = numbers(dst, "  <time", "file", e.FileTime, "build", p.BuildTime)
	dst = numbers(dst, "  <size", "package", p.Size, "installed", p.InstalledSize, "archive", p.ArchiveSize)
	dst = attr(append(dst, "  <location"...), "href", e.Href)
	dst = append(dst, "/>\n  <format>\n"...)
	dst = element(dst, "    ", "rpm:license", p.License)
	dst = element(dst, "    ", "rpm:vendor", p.Vendor)
	dst = element(dst, "    ", "rpm:group", p.Group)
	dst = element(dst, "    ", "rpm:buildhost", p.BuildHost)
	dst = element(dst, "    ", "rpm:sourcerpm", p.SourceRPM)
	dst = numbers(dst, "    <rpm:header-range", "start", p.HeaderStart, "end", p.HeaderEnd)
	deps := selectDeps(p)
	dst = relations(dst, "rpm:provides", deps.provides)
	dst = relations(dst, "rpm:requires", deps.requires)
	dst = relations(dst, "rpm:conflicts", deps.conflicts)
	dst = relations(dst, "rpm:obsoletes", deps.obsoletes)
	dst = relations(dst, "rpm:suggests", deps.suggests)
	dst = relations(dst, "rpm:enhances", deps.enhances)
	dst = relations(dst, "rpm:recommends", deps.recommends)
	dst = relations(dst, "rpm:supplements", deps.supplements)
	for i := range p.Files {
		if inPrimary(p.Files[i].Path) {
			dst = file(dst, "    ", &p.Files[i])
		}
	}
	return append(dst, "  </format>\n</package>\n"...)
}

func appendFilelists(dst []byte, e *Entry) []byte {
	dst = identity(dst, e.Package)
	for i := range e.Package.Files {
		dst = file(dst, "  ", &e.Package.Files[i])
	}
	return append(dst, "</package>\n"...)
}

func appendOther(dst []byte, e *Entry) []byte {
	dst = identity(dst, e.Package)
	for _, c := range selectChangelogs(e.Package.Changelogs) {
		dst = attr(append(dst, "  <changelog"...), "author", c.Author)
		dst = number(dst, "date", c.Time)
		dst = append(dst, '>')
		dst = appendText(dst, c.Text)
		dst = append(dst, "</changelog>\n"...)
	}
	return append(dst, "</package>\n"...)
}

// identity opens the package element of filelists and other.
func identity(dst []byte, p *rpm.Package) []byte {
	dst = attr(append(dst, "<package"...), "pkgid", p.Digest.Hex())
	dst = attr(dst, "name", p.Name)
	dst = attr(dst, "arch", arch(p))
	return version(append(dst, ">\n"...), p)
}

func version(dst []byte, p *rpm.Package) []byte {
	dst = number(append(dst, "  <version"...), "epoch", int64(p.Epoch))
	dst = attr(dst, "ver", p.Version)
	dst = attr(dst, "rel", p.Release)
	return append(dst, "/>\n"...)
}

func arch(p *rpm.Package) string {
	if p.Source {
		return "src" // also for nosrc packages, as createrepo_c
	}
	return p.Arch
}

func relations(dst []byte, name string, deps []relation) []byte {
	if len(deps) == 0 {
		return dst
	}
	dst = append(dst, "    <"...)
	dst = append(dst, name...)
	dst = append(dst, ">\n"...)
	for _, d := range deps {
		dst = attr(append(dst, "      <rpm:entry"...), "name", d.name)
		if d.flags != "" {
			dst = attr(dst, "flags", d.flags)
			dst = attrIf(dst, "epoch", d.epoch)
			dst = attrIf(dst, "ver", d.ver)
			dst = attrIf(dst, "rel", d.rel)
		}
		if d.pre {
			dst = append(dst, ` pre="1"`...)
		}
		dst = append(dst, "/>\n"...)
	}
	dst = append(dst, "    </"...)
	dst = append(dst, name...)
	return append(dst, ">\n"...)
}

func file(dst []byte, indent string, f *rpm.File) []byte {
	dst = append(dst, indent...)
	switch {
	case f.IsDir():
		dst = append(dst, `<file type="dir">`...)
	case f.Flags&rpm.FileGhost != 0:
		dst = append(dst, `<file type="ghost">`...)
	default:
		dst = append(dst, "<file>"...)
	}
	dst = appendText(dst, f.Path)
	return append(dst, "</file>\n"...)
}

func element(dst []byte, indent, name, text string) []byte {
	dst = append(dst, indent...)
	dst = append(dst, '<')
	dst = append(dst, name...)
	if text == "" {
		return append(dst, "/>\n"...)
	}
	dst = append(dst, '>')
	dst = appendText(dst, text)
	dst = append(dst, "</"...)
	dst = append(dst, name...)
	return append(dst, ">\n"...)
}

func attr(dst []byte, name, value string) []byte {
	dst = append(dst, ' ')
	dst = append(dst, name...)
	dst = append(dst, `="`...)
	dst = appendAttr(dst, value)
	return append(dst, '"')
}

func attrIf(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return attr(dst, name, value)
}

func number(dst []byte, name string, n int64) []byte {
	dst = append(dst, ' ')
	dst = append(dst, name...)
	dst = append(dst, `="`...)
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, '"')
}

// numbers writes an empty element; pairs are names and int64 values in turn.
func numbers(dst []byte, open string, pairs ...any) []byte {
	dst = append(dst, open...)
	for i := 0; i+1 < len(pairs); i += 2 {
		dst = number(dst, pairs[i].(string), pairs[i+1].(int64))
	}
	return append(dst, "/>\n"...)
}

// inPrimary is createrepo_c's rule for the files that stand in primary.xml too,
// because dependencies name them and clients should not need filelists.xml.
func inPrimary(path string) bool {
	return strings.HasPrefix(path, "/etc/") || strings.Contains(path, "bin/") || path == "/usr/lib/sendmail"
}
