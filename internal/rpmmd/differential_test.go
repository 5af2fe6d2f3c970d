package rpmmd

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/rpm"
)

// TestAgainstCreaterepo compares our metadata with createrepo_c's, element by
// element, without our reader in between; then reads both with our reader.
func TestAgainstCreaterepo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, compression string
		fill              func(*testing.T, string)
	}{
		{"rpmbuild", "xz", realPackages},
		{"generated", "gz", func(t *testing.T, dir string) { generatedPackages(t, dir, 300) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			tt.fill(t, dir)
			createrepo(t, dir, tt.compression)
			entries := readEntries(t, dir)
			oldPre(t, entries)
			md, err := Build(entries, options)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := ReadRepo(folder(dir))
			if err != nil {
				t.Fatalf("reading createrepo_c's metadata: %v", err)
			}
			ours, err := ReadRepo(opener(filesOf(md)))
			if err != nil {
				t.Fatal(err)
			}
			readsBack(t, entries, ours)
			readsBack(t, entries, theirs)
			for _, kind := range []string{"primary", "filelists", "other"} {
				rec, _ := theirs.Repomd.Record(kind)
				data, err := os.ReadFile(filepath.Join(dir, rec.Href))
				if err != nil {
					t.Fatal(err)
				}
				want := elements(t, data)
				rec, _ = ours.Repomd.Record(kind)
				got := elements(t, filesOf(md)[rec.Href])
				if len(got) != len(entries) || len(want) != len(entries) {
					t.Errorf("%s: %d packages, createrepo_c has %d, there are %d", kind, len(got), len(want), len(entries))
				}
				for key := range want {
					if diff := cmp.Diff(want[key], got[key]); diff != "" {
						t.Errorf("%s, package %s (- createrepo_c, + ours):\n%s", kind, key, diff)
					}
				}
			}
		})
	}
}

// readsBack compares what the reader gives with the packages.
func readsBack(t *testing.T, entries []Entry, repo *Repo) {
	t.Helper()
	byHref := map[string]*rpm.Package{}
	for _, e := range entries {
		byHref[e.Href] = e.Package
	}
	files := map[string]*FilelistsPackage{}
	for _, f := range repo.Filelists {
		files[f.PkgID] = f
	}
	for _, got := range repo.Primary {
		p := byHref[got.Href]
		want := Identity{PkgID: p.Digest.Hex(), Name: p.Name, Epoch: p.Epoch, Version: p.Version, Release: p.Release, Arch: arch(p)}
		if got.Identity != want || got.Checksum.String() != string(p.Digest) {
			t.Errorf("read %+v, want %+v", got.Identity, want)
		}
		numbers := []int64{got.Size, got.InstalledSize, got.ArchiveSize, got.HeaderStart, got.HeaderEnd, got.BuildTime}
		if diff := cmp.Diff([]int64{p.Size, p.InstalledSize, p.ArchiveSize, p.HeaderStart, p.HeaderEnd, p.BuildTime}, numbers); diff != "" {
			t.Errorf("%s: %s", got.NEVRA(), diff)
		}
		if len(files[got.PkgID].Files) != len(p.Files) {
			t.Errorf("%s: %d files, want %d", got.NEVRA(), len(files[got.PkgID].Files), len(p.Files))
		}
		if strings.HasPrefix(p.Name, "fixture") && !p.Source {
			if diff := cmp.Diff(len(p.Provides), len(got.Provides)); diff != "" {
				t.Errorf("%s: provides: %s", got.NEVRA(), diff)
			}
			for i, d := range p.Provides {
				if d.EVR = strings.TrimPrefix(d.EVR, "0:"); d.Name != got.Provides[i].Name || d.EVR != got.Provides[i].EVR || d.Flags&0xf != got.Provides[i].Flags {
					t.Errorf("%s provides %+v, read %+v", got.NEVRA(), d, got.Provides[i])
				}
			}
		}
	}
}

func folder(dir string) func(string) (io.ReadCloser, error) {
	return func(name string) (io.ReadCloser, error) { return os.Open(filepath.Join(dir, name)) }
}

// createrepo runs the real one over dir; compression is gz or xz.
func createrepo(t *testing.T, dir, compression string) {
	t.Helper()
	run(t, nil, tool(t, "createrepo_c", "createrepo-c"), "--no-database", "--general-compress-type="+compression, "--quiet", dir)
}

// oldPre makes up for createrepo_c before 1.0, which sets no pre="1" for
// requirements of %pretrans and %posttrans.
func oldPre(t *testing.T, entries []Entry) {
	t.Helper()
	if !strings.Contains(run(t, nil, "createrepo_c", "--version"), "Version: 0.") {
		return
	}
	for _, e := range entries {
		for i := range e.Package.Requires {
			e.Package.Requires[i].Flags &^= rpm.SensePretrans | rpm.SensePosttrans
		}
	}
}

// elements gives each package of a compressed document as lines, by its href or
// checksum: elements, attributes in order, text.
func elements(t *testing.T, data []byte) map[string][]string {
	t.Helper()
	r, err := decompress(data)
	if err != nil {
		t.Fatal(err)
	}
	open, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	var lines []string
	var key string
	d := xml.NewDecoder(bytes.NewReader(open))
	for {
		tok, err := d.Token()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			if tok.Name.Local == "package" {
				lines = nil
			}
			line := "<" + tok.Name.Space + " " + tok.Name.Local
			for _, a := range tok.Attr {
				line += fmt.Sprintf(" %s=%q", a.Name.Local, a.Value)
				if a.Name.Local == "href" || a.Name.Local == "pkgid" && a.Value != "YES" {
					key = a.Value
				}
			}
			lines = append(lines, line)
		case xml.CharData:
			if text := string(tok); strings.TrimSpace(text) != "" || !strings.HasPrefix(text, "\n") {
				lines = append(lines, fmt.Sprintf("%q", text))
			}
		case xml.EndElement:
			lines = append(lines, "</"+tok.Name.Local)
			if tok.Name.Local == "package" {
				out[key] = lines
			}
		}
	}
}
