package rpmmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
)

func TestReadRepoRefusesOtherBytes(t *testing.T) {
	t.Parallel()
	md, err := Build([]Entry{entry("a", "1-1", "noarch"), entry("b", "2-1", "x86_64")}, options)
	if err != nil {
		t.Fatal(err)
	}
	other, err := Build([]Entry{entry("a", "1-1", "noarch")}, options)
	if err != nil {
		t.Fatal(err)
	}
	const repomd = "repodata/repomd.xml"
	in := func(i int) string { return md.Files[i].Href }
	replace := func(from, to string) func(map[string][]byte) string {
		return func(files map[string][]byte) string {
			if !bytes.Contains(files[repomd], []byte(from)) {
				t.Fatalf("repomd.xml does not hold %q", from)
			}
			files[repomd] = bytes.ReplaceAll(files[repomd], []byte(from), []byte(to))
			return ""
		}
	}
	for _, tt := range []struct {
		name   string
		change func(files map[string][]byte) (named string)
		kind   errs.Kind
	}{
		{"a byte of primary", func(f map[string][]byte) string { f[in(0)] = flip(f[in(0)]); return in(0) }, errs.Denied},
		{"a byte of filelists", func(f map[string][]byte) string { f[in(1)] = flip(f[in(1)]); return in(1) }, errs.Denied},
		{"a byte of other", func(f map[string][]byte) string { f[in(2)] = flip(f[in(2)]); return in(2) }, errs.Denied},
		{"other truncated", func(f map[string][]byte) string { f[in(2)] = f[in(2)][:len(f[in(2)])-1]; return in(2) }, errs.Denied},
		{"primary longer", func(f map[string][]byte) string { f[in(0)] = append(bytes.Clone(f[in(0)]), 0); return in(0) }, errs.Denied},
		{"filelists missing", func(f map[string][]byte) string { delete(f, in(1)); return in(1) }, errs.NotFound},
		{"repomd missing", func(f map[string][]byte) string { delete(f, repomd); return repomd }, errs.NotFound},
		{"open size", replace(fmt.Sprintf("<open-size>%d<", md.Files[0].OpenSize), fmt.Sprintf("<open-size>%d<", md.Files[0].OpenSize-1)), errs.Denied},
		{"open size above", replace(fmt.Sprintf("<open-size>%d<", md.Files[0].OpenSize), fmt.Sprintf("<open-size>%d<", md.Files[0].OpenSize+1)), errs.Denied},
		{"open checksum", replace(md.Files[0].OpenChecksum.Value, md.Files[0].Checksum.Value), errs.Denied},
		{"filelists of another repository", func(f map[string][]byte) string {
			f[in(1)] = other.Files[1].Data
			b := string(f[repomd])
			for _, r := range [][2]string{
				{md.Files[1].Checksum.Value + "<", other.Files[1].Checksum.Value + "<"}, {md.Files[1].OpenChecksum.Value, other.Files[1].OpenChecksum.Value},
				{fmt.Sprintf("<size>%d<", md.Files[1].Size), fmt.Sprintf("<size>%d<", other.Files[1].Size)}, {fmt.Sprintf("<open-size>%d<", md.Files[1].OpenSize), fmt.Sprintf("<open-size>%d<", other.Files[1].OpenSize)},
			} {
				b = strings.ReplaceAll(b, r[0], r[1])
			}
			f[repomd] = []byte(b)
			return "filelists.xml"
		}, errs.Invalid},
	} {
		files := filesOf(md)
		named := tt.change(files)
		_, err := ReadRepo(opener(files))
		if !errs.Is(err, tt.kind) || !strings.Contains(fmt.Sprint(err), named) {
			t.Errorf("%s: %v, want kind %s and the name %q", tt.name, err, tt.kind, named)
		}
	}
}

func flip(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

func TestReadRepomdRefuses(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("0", 64)
	record := func(kind, href, checksum string) string {
		return fmt.Sprintf("<data type=%q><checksum type=\"sha256\">%s</checksum><location href=%q/></data>", kind, checksum, href)
	}
	for _, tt := range []struct{ doc, want string }{
		{"", "repomd.xml:1:1"},
		{"<repomd>", "unexpected EOF"},
		{"<metadata/>", "<repomd> was expected"},
		{"<repomd/><repomd/>", "expected once"},
		{"<repomd>\n\n" + record("primary", "../x", sum), "repomd.xml:3:"},
		{"<repomd>" + record("primary", "../x", sum) + "</repomd>", "not inside"},
		{"<repomd>" + record("primary", "a/../../x", sum) + "</repomd>", "not inside"},
		{"<repomd>" + record("primary", "/etc/passwd", sum) + "</repomd>", "not inside"},
		{"<repomd>" + record("primary", "https://x/y", sum) + "</repomd>", "not inside"},
		{"<repomd>" + record("primary", "", sum) + "</repomd>", "not inside"},
		{"<repomd>" + record("primary", "x", "00") + "</repomd>", "no sha256 checksum"},
		{"<repomd>" + record("primary", "x", strings.Repeat("A", 64)) + "</repomd>", "no sha256 checksum"},
		{"<repomd>" + record("", "x", sum) + "</repomd>", "without a type"},
		{"<repomd>" + record("a", "x", sum) + record("a", "y", sum) + "</repomd>", "a second record"},
		{strings.Replace("<repomd>"+record("a", "x", sum)+"</repomd>", "sha256", "md5", 1), `checksum of type "md5"`},
		{strings.Replace("<repomd>"+record("a", "x", sum)+"</repomd>", "</data>", "<size>-1</size></data>", 1), "-1 bytes"},
		{strings.Replace("<repomd>"+record("a", "x", sum)+"</repomd>", "</data>", "<size>x</size></data>", 1), "repomd.xml:1:"},
		{"<!DOCTYPE x [<!ENTITY a \"b\">]><repomd><revision>&a;</revision></repomd>", "repomd.xml:1:"},
		{"<repomd>" + strings.Repeat(" ", maxRepomd) + "</repomd>", "too many"},
	} {
		_, err := ReadRepomd([]byte(tt.doc))
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.80s: %v, want %q", tt.doc, err, tt.want)
		}
	}
	md, err := ReadRepomd([]byte("<repomd><revision> 5\n</revision><tags><x/></tags>" + strings.Replace(record("a", "repodata/x", sum), "</data>", "<timestamp>12.5</timestamp></data>", 1) + "</repomd>"))
	if err != nil || md.Revision != "5" || md.Records[0] != (Record{Type: "a", Href: "repodata/x", Checksum: Checksum{"sha256", sum}, Size: -1, OpenSize: -1, Timestamp: 12}) {
		t.Errorf("read %+v, %v", md, err)
	}
}

func TestReadPrimaryRefuses(t *testing.T) {
	t.Parallel()
	one := entry("a", "1-1", "noarch")
	good := documents[0].head() + string(appendPrimary(nil, &one)) + documents[0].tail()
	good = strings.Replace(good, `metadata/rpm">`, `metadata/rpm" packages="1">`, 1)
	if err := ReadPrimary(strings.NewReader(good), func(*PrimaryPackage) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ from, to, want string }{
		{"</metadata>", "", "unexpected EOF"},
		{`packages="1"`, `packages="2"`, "states 2 packages, there are 1"},
		{`packages="1"`, `packages="-1"`, "no count"},
		{"<name>a</name>", "", "lacks its checksum, name"},
		{`<package type="rpm">`, `<package type="deb">`, `type "deb"`},
		{`epoch="0"`, `epoch="x"`, `epoch "x"`},
		{`package="4242"`, `package="-4242"`, "negative"},
		{`package="4242"`, `package="many"`, "primary.xml:"},
		{`end="6000"`, `end="1"`, "negative"},
		{` href="`, ` ref="`, "no location"},
		{`type="sha256"`, `type="crc"`, `type "crc"`},
		{`flags="EQ"`, `flags="??"`, `flags "??"`},
		{`<rpm:entry name="a"`, `<rpm:entry name=""`, "without a name"},
		{"</metadata>", "x</metadata>", "text between"},
		{"</metadata>", "</filelists>", "primary.xml:"},
	} {
		doc := strings.Replace(good, tt.from, tt.to, 1)
		err := ReadPrimary(strings.NewReader(doc), func(*PrimaryPackage) error { return nil })
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "primary.xml:") {
			t.Errorf("%s -> %s: %v, want %q with the place", tt.from, tt.to, err, tt.want)
		}
	}
	mine := errors.New("mine")
	if err := ReadPrimary(strings.NewReader(good), func(*PrimaryPackage) error { return mine }); err != mine {
		t.Errorf("the callback's error came back as %v", err)
	}
}

// endless gives a head and then the same text for ever.
type endless struct {
	head io.Reader
	text string
}

func (e *endless) Read(p []byte) (int, error) {
	if n, err := e.head.Read(p); err == nil {
		return n, nil
	}
	n := 0
	for n+len(e.text) <= len(p) {
		n += copy(p[n:], e.text)
	}
	return n, nil
}

func TestAnElementWithoutEndIsRefused(t *testing.T) {
	t.Parallel()
	r := &endless{strings.NewReader(`<filelists><package pkgid="x" name="x" arch="x"><file>`), "0123456789abcdef"}
	err := ReadFilelists(r, func(*FilelistsPackage) error { return nil })
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "64 MiB") {
		t.Error(err)
	}
}

// createrepo_c 0.17 has no such rule, so the differential test cannot hold it.
func TestPretransAndPosttransArePre(t *testing.T) {
	t.Parallel()
	e := entry("a", "1-1", "noarch")
	e.Package.Requires = []rpm.Dep{{Name: "x", Flags: rpm.SensePretrans}, {Name: "y", Flags: rpm.SensePosttrans}, {Name: "z", Flags: rpm.SenseScriptPreun}}
	got := string(appendPrimary(nil, &e))
	for _, want := range []string{`name="x" pre="1"/>`, `name="y" pre="1"/>`, `name="z"/>`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

// The smallest whole example, as a person reads it.
func TestPrimaryGolden(t *testing.T) {
	t.Parallel()
	const want = `<package type="rpm">
  <name>hello</name>
  <arch>x86_64</arch>
  <version epoch="0" ver="1.0" rel="2"/>
  <checksum type="sha256" pkgid="YES">2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824</checksum>
  <summary>Summary of hello</summary>
  <description>Text of
hello.</description>
  <packager/>
  <url/>
  <time file="1700000000" build="1600000000"/>
  <size package="4242" installed="10" archive="20"/>
  <location href="../../pool/rpm/x86_64/1/hello-1.0-2.x86_64.rpm"/>
  <format>
    <rpm:license>MIT</rpm:license>
    <rpm:vendor/>
    <rpm:group/>
    <rpm:buildhost/>
    <rpm:sourcerpm>hello-1.0-2.src.rpm</rpm:sourcerpm>
    <rpm:header-range start="4504" end="6000"/>
    <rpm:provides>
      <rpm:entry name="hello" flags="EQ" epoch="0" ver="1.0" rel="2"/>
    </rpm:provides>
    <rpm:requires>
      <rpm:entry name="/bin/sh" pre="1"/>
      <rpm:entry name="libc.so.6(GLIBC_2.34)(64bit)"/>
    </rpm:requires>
    <file>/usr/bin/hello</file>
  </format>
</package>
`
	e := entry("hello", "1.0-2", "x86_64")
	e.Package.Digest = distro.DigestOf([]byte("hello"))
	if got := string(appendPrimary(nil, &e)); got != want {
		t.Errorf("got\n%s", got)
	}
}
