package rpmmd

import (
	"bytes"
	"testing"

	"slipway/internal/errs"
)

func seeds(f *testing.F, doc document) {
	a, b := entry("a", "1-1", "noarch"), entry("b", "2-1", "x86_64")
	f.Add([]byte(doc.head() + string(doc.encode(doc.encode(nil, &a), &b)) + doc.tail()))
	f.Add([]byte(doc.head() + doc.tail()))
	f.Add([]byte("<" + doc.root + " packages=\"1\"><package>"))
}

// wantInvalid: whatever the bytes, an error is errs.Invalid and has a place.
func wantInvalid(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errs.Is(err, errs.Invalid) {
		t.Errorf("error of kind %s: %v", errs.KindOf(err), err)
	}
}

func FuzzReadRepomd(f *testing.F) {
	md, err := Build([]Entry{entry("a", "1-1", "noarch")}, options)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(md.Repomd)
	f.Add([]byte("<repomd><data type=\"primary\"/></repomd>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		md, err := ReadRepomd(b)
		wantInvalid(t, err)
		if err == nil {
			for _, rec := range md.Records {
				if !inside(rec.Href) || rec.Checksum.check() != nil {
					t.Errorf("accepted %+v", rec)
				}
			}
		}
	})
}

func FuzzReadPrimary(f *testing.F) {
	seeds(f, documents[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		wantInvalid(t, ReadPrimary(bytes.NewReader(b), func(p *PrimaryPackage) error {
			if p.Name == "" || p.Href == "" || p.PkgID == "" {
				t.Errorf("accepted %+v", p)
			}
			return nil
		}))
	})
}

func FuzzReadFilelists(f *testing.F) {
	seeds(f, documents[1])
	f.Fuzz(func(t *testing.T, b []byte) {
		wantInvalid(t, ReadFilelists(bytes.NewReader(b), func(p *FilelistsPackage) error { return nil }))
	})
}

func FuzzReadOther(f *testing.F) {
	seeds(f, documents[2])
	f.Fuzz(func(t *testing.T, b []byte) {
		wantInvalid(t, ReadOther(bytes.NewReader(b), func(p *OtherPackage) error { return nil }))
	})
}

// FuzzBuild: whatever a header holds, the metadata is valid and reads back.
func FuzzBuild(f *testing.F) {
	f.Add("name", "text", "dep >= 1", "1:2-3", "/usr/bin/x")
	f.Add("n&<b", "gr\xf6\xdf \x00 \uffff", "libc.so.6(GLIBC_2.4)", "bad:1", "/etc/\xff\"&")
	f.Fuzz(func(t *testing.T, name, text, dep, evr, path string) {
		e := entry("x", "1-1", "noarch")
		p := e.Package
		p.Name, p.Summary, p.Description, p.URL = "n"+name, text, text, text
		p.Requires[0].Name, p.Requires[0].EVR, p.Requires[0].Flags, p.Provides[0].Name = dep, evr, 8, "p"+dep
		p.Files[0].Path = "/etc/" + path
		md, err := Build([]Entry{e}, Options{Revision: "r" + text})
		if err != nil {
			wantInvalid(t, err)
			return
		}
		repo, err := ReadRepo(opener(filesOf(md)))
		if err != nil {
			t.Fatal(err)
		}
		if len(repo.Primary) != 1 || len(repo.Primary[0].Files) == 0 {
			t.Errorf("read %+v", repo.Primary)
		}
	})
}

// FuzzReadUpdateinfo: what is read can be written again, and reads the same.
func FuzzReadUpdateinfo(f *testing.F) {
	b, err := EncodeUpdateinfo(advisories())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("<updates><update><id>x</id></update></updates>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := ReadUpdateinfo(bytes.NewReader(b))
		wantInvalid(t, err)
		if err != nil {
			return
		}
		first, err := EncodeUpdateinfo(list)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ReadUpdateinfo(bytes.NewReader(first)); err != nil || len(again) != len(list) {
			t.Errorf("%d advisories, then %d: %v", len(list), len(again), err)
		}
	})
}
