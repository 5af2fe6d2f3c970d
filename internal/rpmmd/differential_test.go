package rpmmd

import (
	"bytes"
	"context"
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
// element, without our reader in between; then reads both with our reader. Ours
// grows in steps, so that packages pass through frames of older indexes.
//
// Debian's createrepo_c is one peer; SLIPWAY_TEST_CREATEREPO_C names another one,
// a 1.x as Yocto ships it. SLIPWAY_TEST=full makes 10,000 packages.
func TestAgainstCreaterepo(t *testing.T) {
	t.Parallel()
	generated := 300
	if os.Getenv("SLIPWAY_TEST") == "full" {
		generated = 10_000
	}
	for _, peer := range []string{"createrepo_c", os.Getenv("SLIPWAY_TEST_CREATEREPO_C")} {
		for _, tt := range []struct {
			name, compression string
			fill              func(*testing.T, string)
		}{
			{"rpmbuild", "xz", realPackages},
			{"generated", "gz", func(t *testing.T, dir string) { generatedPackages(t, dir, generated) }},
		} {
			t.Run(tt.name+" "+map[bool]string{true: "1.x", false: "Debian"}[peer != "createrepo_c"], func(t *testing.T) {
				t.Parallel()
				if peer == "" {
					t.Skip("SLIPWAY_TEST_CREATEREPO_C names no createrepo_c 1.x: build one from its source")
				}
				dir := t.TempDir()
				tt.fill(t, dir)
				createrepo(t, peer, dir, tt.compression)
				entries := readEntries(t, dir)
				oldPre(t, peer, entries)
				files := grown(t, entries)
				theirs, err := ReadRepo(folder(dir))
				if err != nil {
					t.Fatalf("reading createrepo_c's metadata: %v", err)
				}
				ours, err := ReadRepo(opener(files))
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
					got := elements(t, files[rec.Href])
					if len(got) != len(entries) || len(want) != len(entries) {
						t.Errorf("%s: %d packages, createrepo_c has %d, there are %d", kind, len(got), len(want), len(entries))
					}
					fields := 0
					for key := range want {
						fields += len(want[key])
						if diff := cmp.Diff(want[key], got[key]); diff != "" {
							t.Errorf("%s, package %s (- createrepo_c, + ours):\n%s", kind, key, diff)
						}
					}
					t.Logf("%s: %d packages, %d elements and texts compared", kind, len(want), fields)
				}
			})
		}
	}
}

// grown makes the index of the entries in three steps, each from the one before:
// some, others, all.
func grown(t *testing.T, entries []Entry) map[string][]byte {
	t.Helper()
	byHref := map[string]Entry{}
	for _, e := range entries {
		byHref[e.Href] = e
	}
	dir := t.TempDir()
	var last *State
	var files map[string][]byte
	for step := range 3 {
		open := func(name string) (io.ReaderAt, error) {
			data, err := os.ReadFile(filepath.Join(dir, name))
			return bytes.NewReader(data), err
		}
		u := Update{Options: options, Last: last, Open: open, Load: func(_ context.Context, it Item) (Entry, error) { return byHref[it.Href], nil }}
		x, err := u.Do(t.Context(), func(yield func(Item) bool) {
			for i, e := range entries {
				if (step == 2 || i%7 != step && i%50 < 45) && !yield(Item{ID: string(e.Package.Digest), Href: e.Href, Cut: e.Package.Name}) {
					return
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		files = map[string][]byte{"repodata/repomd.xml": x.Repomd}
		for _, f := range x.Files {
			data, err := io.ReadAll(f.Reader())
			if err != nil {
				t.Fatal(err)
			}
			files[f.Href] = data
			if err := os.WriteFile(filepath.Join(dir, f.Name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		last = x.State
	}
	return files
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

// createrepo runs a real one over dir; compression is gz or xz.
func createrepo(t *testing.T, program, dir, compression string) {
	t.Helper()
	run(t, nil, tool(t, program, "createrepo-c"), "--no-database", "--general-compress-type="+compression, "--quiet", dir)
}

// oldPre makes up for createrepo_c before 1.0, which sets no pre="1" for
// requirements of %pretrans and %posttrans.
func oldPre(t *testing.T, program string, entries []Entry) {
	t.Helper()
	if !strings.Contains(run(t, nil, program, "--version"), "Version: 0.") {
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
