package rpmmd

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
)

// opener serves a Repodata as [ReadRepo] wants it.
func opener(files map[string][]byte) func(string) (io.ReadCloser, error) {
	return func(name string) (io.ReadCloser, error) {
		b, ok := files[name]
		if !ok {
			return nil, errs.E(errs.NotFound, name, fs.ErrNotExist)
		}
		return io.NopCloser(bytes.NewReader(b)), nil
	}
}

func filesOf(md *Repodata) map[string][]byte {
	files := map[string][]byte{"repodata/repomd.xml": md.Repomd}
	for _, f := range md.Files {
		files[f.Href] = f.Data
	}
	return files
}

// entry makes a package with a little of everything.
func entry(name, evr, arch string) Entry {
	version, release, _ := strings.Cut(evr, "-")
	file := fmt.Sprintf("%s-%s.%s.rpm", name, evr, arch)
	return Entry{
		Href: "../../pool/rpm/" + arch + "/1/" + file, FileTime: 1700000000,
		Package: &rpm.Package{
			Name: name, Version: version, Release: release, Arch: arch, Digest: distro.DigestOf([]byte(file)), Size: 4242,
			Summary: "Summary of " + name, Description: "Text of\n" + name + ".", License: "MIT", SourceRPM: name + "-" + evr + ".src.rpm",
			BuildTime: 1600000000, InstalledSize: 10, ArchiveSize: 20, HeaderStart: 4504, HeaderEnd: 6000,
			Provides: []rpm.Dep{{Name: name, Flags: rpm.SenseEqual, EVR: evr}},
			Requires: []rpm.Dep{{Name: "/bin/sh", Flags: rpm.SenseScriptPost | rpm.SenseInterp}, {Name: "libc.so.6(GLIBC_2.34)(64bit)"}},
			Files:    []rpm.File{{Path: "/usr/bin/" + name, Mode: 0o100755}, {Path: "/usr/share/" + name, Mode: 0o040755}},
		},
	}
}

var options = Options{Revision: "17", Timestamp: 1700000001}

func TestBuildDoesNotDependOnTheOrder(t *testing.T) {
	t.Parallel()
	var entries []Entry
	for i := range 200 {
		// 1.0 and 1.00 are equal in rpm's order.
		for _, version := range []string{"1.0-1", "1.00-1", "1.10-1", "1.9-1"} {
			entries = append(entries, entry(fmt.Sprintf("p%d", i%50), version, []string{"noarch", "x86_64", "aarch64", "core2_64"}[i/50]))
		}
	}
	want, err := Build(entries, options)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(3) {
		mixed := slices.Clone(entries)
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		got, err := Build(mixed, options)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(filesOf(want), filesOf(got)); diff != "" {
			t.Fatal("another order gave other bytes")
		}
	}
	repo, err := ReadRepo(opener(filesOf(want)))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(repo.Primary[:16], func(a, b *PrimaryPackage) int {
		return distro.CompareEVR(a.Epoch, a.Version, a.Release, b.Epoch, b.Version, b.Release)
	}) {
		t.Error("versions of one package are not in rpm's order")
	}
}

func TestBuildAndRead(t *testing.T) {
	t.Parallel()
	updateinfo := []byte(`<updates><update><id>HL-1</id></update></updates>`)
	for _, compression := range []Compression{"", Zstd, Gzip} {
		opts := options
		opts.Compression, opts.Updateinfo = compression, updateinfo
		md, err := Build([]Entry{entry("a", "1-1", "noarch"), entry("b", "2-1", "x86_64")}, opts)
		if err != nil {
			t.Fatal(err)
		}
		repo, err := ReadRepo(opener(filesOf(md)))
		if err != nil {
			t.Fatal(err)
		}
		if repo.Repomd.Revision != "17" || len(repo.Primary) != 2 || len(repo.Filelists) != 2 || len(repo.Other) != 2 || !bytes.Equal(repo.Updateinfo, updateinfo) {
			t.Errorf("%q: read back %+v", compression, repo)
		}
		for i, rec := range repo.Repomd.Records {
			if rec != md.Files[i].Record {
				t.Errorf("%q: record %+v, want %+v", compression, rec, md.Files[i].Record)
			}
		}
		if strings.Contains(string(md.Repomd), "../") {
			t.Error("repomd.xml with ../: dnf and zypper refuse that")
		}
		a := repo.Primary[0]
		if a.NEVRA() != "a-1-1.noarch" || a.Href != "../../pool/rpm/noarch/1/a-1-1.noarch.rpm" || a.Size != 4242 || a.SourceRPM != "a-1-1.src.rpm" || a.HeaderStart != 4504 || a.HeaderEnd != 6000 {
			t.Errorf("%q: primary has %+v", compression, a)
		}
	}
}

func TestEmptyRepository(t *testing.T) {
	t.Parallel()
	md, err := Build(nil, options)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := ReadRepo(opener(filesOf(md)))
	if err != nil || len(repo.Primary) != 0 {
		t.Errorf("read %v, %v", repo, err)
	}
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	good := func() Entry { return entry("a", "1-1", "noarch") }
	href := func(h string) Entry { e := good(); e.Href = h; return e }
	for _, tt := range []struct {
		name    string
		entries []Entry
		opts    func(*Options)
		kind    errs.Kind
	}{
		{"no digest", []Entry{func() Entry { e := good(); p := *e.Package; p.Digest = ""; e.Package = &p; return e }()}, nil, errs.Internal},
		{"no package", []Entry{{Href: "x.rpm"}}, nil, errs.Internal},
		{"name with a newline", []Entry{func() Entry { e := good(); p := *e.Package; p.Name = "a\nb"; e.Package = &p; return e }()}, nil, errs.Invalid},
		{"href twice", []Entry{good(), good()}, nil, errs.Conflict},
		{"no href", []Entry{href("")}, nil, errs.Invalid},
		{"absolute", []Entry{href("/x.rpm")}, nil, errs.Invalid},
		{"URL", []Entry{href("https://x/x.rpm")}, nil, errs.Invalid},
		{"up and down", []Entry{href("a/../x.rpm")}, nil, errs.Invalid},
		{"query", []Entry{href("x.rpm?y")}, nil, errs.Invalid},
		{"newline", []Entry{href("x\n.rpm")}, nil, errs.Invalid},
		{"compression", nil, func(o *Options) { o.Compression = "bz2" }, errs.Invalid},
		{"revision", nil, func(o *Options) { o.Revision = "" }, errs.Internal},
		{"updateinfo without id", nil, func(o *Options) { o.Updateinfo = []byte("<updates><update/></updates>") }, errs.Invalid},
		{"updateinfo malformed", nil, func(o *Options) { o.Updateinfo = []byte("<updates><update>") }, errs.Invalid},
	} {
		opts := options
		if tt.opts != nil {
			tt.opts(&opts)
		}
		if _, err := Build(tt.entries, opts); !errs.Is(err, tt.kind) {
			t.Errorf("%s: %v, want kind %s", tt.name, err, tt.kind)
		}
	}
}

func TestEscapingIsAlwaysValidXML(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want string }{
		{`a < b > c & "d" 'e'`, `a < b > c & "d" 'e'`},
		{"tab\tline\nreturn\rend", "tab\tline\nreturn\rend"},
		{"bell\a null\x00 escape\x1b[0m", "bell null escape[0m"},
		{"größer, 東京, 🚢", "größer, 東京, 🚢"},
		{"gr\xf6\xdfer", "größer"},
		{"cp1252 \x93quote\x94", "cp1252 quote"},
		{"not \ufffe a \uffff character", "not  a  character"},
		{"half a \xed\xa0\x80 surrogate", "half a í surrogate"},
		{"\x7f", "\x7f"},
		{"]]>", "]]>"},
		{"", ""},
	} {
		doc := append(appendAttr([]byte(`<x a="`), tt.in), `">`...)
		doc = append(appendText(doc, tt.in), `</x>`...)
		var x struct {
			Attr string `xml:"a,attr"`
			Text string `xml:",chardata"`
		}
		if err := xml.Unmarshal(doc, &x); err != nil {
			t.Errorf("%q: %v in %s", tt.in, err, doc)
		}
		if x.Attr != tt.want || x.Text != tt.want {
			t.Errorf("%q came back as %q and %q, want %q", tt.in, x.Attr, x.Text, tt.want)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	entries := make([]Entry, 10_000)
	for i := range entries {
		e := entry(fmt.Sprintf("package-%d", i), "1.2.3-4", "x86_64")
		for j := range 40 {
			e.Package.Files = append(e.Package.Files, rpm.File{Path: fmt.Sprintf("/usr/share/package-%d/file-%d.txt", i, j), Mode: 0o100644})
		}
		for j := range 15 {
			e.Package.Requires = append(e.Package.Requires, rpm.Dep{Name: fmt.Sprintf("lib%d.so.1()(64bit)", i*j%700)})
		}
		for j := range 10 {
			e.Package.Changelogs = append(e.Package.Changelogs, rpm.Changelog{Time: 1600000000 - int64(j/2)*86400, Author: "A Person <a@example.org> - 1.2.3", Text: fmt.Sprintf("- change %d of %d", j, i)})
		}
		entries[i] = e
	}
	for _, c := range []Compression{Zstd, Gzip} {
		b.Run(string(c), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				md, err := Build(entries, Options{Revision: "1", Compression: c})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(md.Files[0].Size), "primary-bytes")
			}
		})
	}
}
