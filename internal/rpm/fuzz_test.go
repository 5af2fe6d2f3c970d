package rpm

import (
	"bytes"
	"os"
	"testing"

	"slipway/internal/errs"
)

// seeds gives packages of every compression.
func seeds(f *testing.F) {
	for _, payload := range payloads {
		f.Add(load(f, pick(f, build(f, "rich", payload), "rich-1")))
		f.Add(load(f, pick(f, build(f, "rich", payload), "rich-sub")))
	}
}

// sound says whether an error of a reader of foreign bytes is one of the allowed kinds.
func sound(t *testing.T, err error, kinds ...errs.Kind) {
	t.Helper()
	if err == nil {
		return
	}
	for _, k := range kinds {
		if errs.Is(err, k) {
			return
		}
	}
	t.Fatalf("an error of kind %s: %v", errs.KindOf(err), err)
}

// FuzzRead: no bytes make Read panic, and what it accepts has a content.
func FuzzRead(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Read(bytes.NewReader(b), int64(len(b)), "fuzz")
		sound(t, err, errs.Invalid)
		if err == nil && (p.HeaderEnd > int64(len(b)) || p.ContentDigest() == "" || p.Name == "") {
			t.Fatalf("%+v", p)
		}
	})
}

// FuzzVerify: no bytes make Verify panic, and what it lets pass can be signed
// again without a change of its header.
func FuzzVerify(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		err := Verify(bytes.NewReader(b), int64(len(b)), "fuzz")
		sound(t, err, errs.Invalid, errs.Denied)
		if err != nil {
			return
		}
		var out bytes.Buffer
		err = Resign(&out, bytes.NewReader(b), int64(len(b)), func([]byte) ([]byte, int, error) { return []byte("sig"), sigDSA, nil })
		if sound(t, err, errs.Invalid); err != nil {
			return
		}
		if err := Verify(bytes.NewReader(out.Bytes()), int64(out.Len()), "resigned"); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzExtract: no bytes make Extract panic or write outside its folder.
func FuzzExtract(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		top := scratch(t)
		dir := top + "/in"
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		sound(t, Extract(bytes.NewReader(b), int64(len(b)), dir), errs.Invalid, errs.Conflict, errs.Unavailable)
		if got, err := os.ReadDir(top); err != nil || len(got) != 1 {
			t.Fatalf("%v %v", got, err)
		}
	})
}

// FuzzCpio feeds archives to the part of Extract behind the decompression, which
// changes of a compressed payload hardly ever reach.
func FuzzCpio(f *testing.F) {
	f.Add(newc(evil{"./d", typeDir | 0o755, ""}, evil{"./d/a", typeRegular | 0o644, "abc"}, evil{"./d/l", typeSymlink | 0o777, "/etc"}))
	f.Add([]byte("07070X00000000\x00\x0007070X00000001\x00\x00abc\x00"))
	files := []File{{Path: "/d", Mode: typeDir | 0o755}, {Path: "/d/a", Mode: typeRegular | 0o644, Size: 3},
		{Path: "/d/l", Mode: typeSymlink | 0o777, Link: "/etc"}, {Path: "/l", Mode: typeSymlink | 0o777}, {Path: "/l/a", Mode: typeRegular, Size: 3},
		{Path: "/../evil", Mode: typeRegular, Size: 3}}
	f.Fuzz(func(t *testing.T, archive []byte) {
		top := scratch(t)
		dir := top + "/in"
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = unpack(t, dir, archive, files)
		if got, err := os.ReadDir(top); err != nil || len(got) != 1 {
			t.Fatalf("%v %v", got, err)
		}
	})
}

// BenchmarkRead reads the headers of a package with a dozen files.
func BenchmarkRead(b *testing.B) {
	raw := load(b, pick(b, build(b, "rich", "w9.gzdio"), "rich-1"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Read(bytes.NewReader(raw), int64(len(raw)), "bench"); err != nil {
			b.Fatal(err)
		}
	}
}
