package rpm

import (
	"bytes"
	"encoding/binary"
	"io"
	"runtime"
	"strings"
	"testing"

	"slipway/internal/errs"
)

// sample gives the bytes of a small package and what Read says of it.
func sample(t testing.TB) ([]byte, *Package) {
	t.Helper()
	b := load(t, pick(t, build(t, "rich", "w9.gzdio"), "rich-sub"))
	p, err := Read(bytes.NewReader(b), int64(len(b)), "sample")
	if err != nil {
		t.Fatal(err)
	}
	return b, p
}

func put32(b []byte, off int64, v uint32) { binary.BigEndian.PutUint32(b[off:], v) }

// TestDamageIsNamed changes one thing of a sound package at a time.
func TestDamageIsNamed(t *testing.T) {
	t.Parallel()
	b, p := sample(t)
	h := p.HeaderStart
	first := h + headerIntro + entrySize // the first entry after the region
	for name, tt := range map[string]struct {
		change func(b []byte) []byte
		want   string
		kind   errs.Kind
	}{
		"no RPM":              {func(b []byte) []byte { b[0] = 'X'; return b }, "no RPM: the first bytes are 58abeedb", errs.Invalid},
		"format 2":            {func(b []byte) []byte { b[4] = 2; return b }, "RPM format 2", errs.Invalid},
		"signature type":      {func(b []byte) []byte { b[79] = 1; return b }, "signature type 1 in the lead", errs.Invalid},
		"cut lead":            {func(b []byte) []byte { return b[:50] }, "truncated in the lead", errs.Invalid},
		"cut signature":       {func(b []byte) []byte { return b[:150] }, "truncated in the signature header", errs.Invalid},
		"cut header":          {func(b []byte) []byte { return b[:h+200] }, "truncated in the main header", errs.Invalid},
		"cut payload":         {func(b []byte) []byte { return b[:len(b)-7] }, "truncated in the payload", errs.Invalid},
		"appended":            {func(b []byte) []byte { return append(b, "more"...) }, "4 bytes too many at the end", errs.Invalid},
		"no header":           {func(b []byte) []byte { b[h] = 0; return b }, "no main header at offset ", errs.Invalid},
		"no tags":             {func(b []byte) []byte { put32(b, h+8, 0); return b }, "claims 0 tags", errs.Invalid},
		"absurd tags":         {func(b []byte) []byte { put32(b, h+8, 1<<31); return b }, "claims 2147483648 tags", errs.Invalid},
		"absurd data":         {func(b []byte) []byte { put32(b, h+12, 1<<30); return b }, "bytes of data; at most", errs.Invalid},
		"data beyond the end": {func(b []byte) []byte { put32(b, h+12, 200<<20); return b }, "truncated in the main header: it claims 2097", errs.Invalid},
		"region tag":          {func(b []byte) []byte { put32(b, h+16, 61); return b }, "no region (tag 63)", errs.Invalid},
		"region trailer":      {func(b []byte) []byte { put32(b, p.HeaderEnd-8, 5); return b }, "the region's trailer is", errs.Invalid},
		"reserved tag":        {func(b []byte) []byte { put32(b, first, 10); return b }, "entry 1 (tag 10): reserved tag", errs.Invalid},
		"unknown type":        {func(b []byte) []byte { put32(b, first+4, 77); return b }, "type 77, count ", errs.Invalid},
		"no values":           {func(b []byte) []byte { put32(b, first+12, 0); return b }, "count 0 at ", errs.Invalid},
		"absurd count":        {func(b []byte) []byte { put32(b, first+12, 1<<32-1); return b }, "count 4294967295 at ", errs.Invalid},
		"offset outside":      {func(b []byte) []byte { put32(b, first+8, 1<<30); return b }, "data at 1073741824, the header has", errs.Invalid},
		"offset goes back":    {func(b []byte) []byte { put32(b, first+2*entrySize+8, 0); return b }, "overlaps the entry before", errs.Invalid},
		"name with a slash": {func(b []byte) []byte {
			return bytes.Replace(b, []byte("rich-sub\x001.0~rc1\x00"), []byte("../h-sub\x001.0~rc1\x00"), 1)
		}, `the name of the package is "../h-sub"`, errs.Invalid},
		"changed header": {func(b []byte) []byte {
			return bytes.Replace(b, []byte("A subpackage"), []byte("B subpackage"), 1)
		}, "the main header's sha256 is ", errs.Denied},
		"changed payload": {func(b []byte) []byte { b[len(b)-20] ^= 4; return b }, "the payload's digest is ", errs.Denied},
		"changed header digest": {func(b []byte) []byte {
			return bytes.Replace(b, []byte(p.HeaderDigest.Hex()), bytes.Repeat([]byte("0"), 64), 1)
		}, "the signature header says 0000", errs.Denied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := tt.change(bytes.Clone(b))
			_, err := Read(bytes.NewReader(bad), int64(len(bad)), "bad.rpm")
			if err == nil {
				err = Verify(bytes.NewReader(bad), int64(len(bad)), "bad.rpm")
			}
			if !errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "bad.rpm") {
				t.Errorf("%v\nwant %s: %s", err, tt.kind, tt.want)
			}
		})
	}
}

// TestLyingSizeAllocatesNothing: the caller's size claims bytes that are not there.
func TestLyingSizeAllocatesNothing(t *testing.T) {
	b, p := sample(t)
	bad := bytes.Clone(b)
	put32(bad, p.HeaderStart+12, 200<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Read(bytes.NewReader(bad), 1<<40, "bad.rpm")
	runtime.ReadMemStats(&after)
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "truncated in the main header") {
		t.Error(err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 100<<20 { // other tests may run beside it
		t.Errorf("%d bytes allocated for a package of %d", n, len(b))
	}
}

// TestPathsDoNotMultiply: one long folder name shared by many files would make
// gigabytes of paths out of a small header.
func TestPathsDoNotMultiply(t *testing.T) {
	t.Parallel()
	const n = 2000
	long := strings.Repeat("d", maxPath-2)
	h := &header{raw: make([]byte, 100*n)}
	add := func(tag, typ, count uint32, data []byte) { h.entries = append(h.entries, entry{tag, typ, count, data}) }
	add(tagDirnames, typeStringArray, 1, []byte(long+"\x00"))
	for _, tag := range []uint32{tagBasenames, tagFileUserName, tagFileGroupName} {
		add(tag, typeStringArray, n, bytes.Repeat([]byte("x\x00"), n))
	}
	for _, tag := range []uint32{tagDirIndexes, tagFileSizes, tagFileMTimes, tagFileFlags} {
		add(tag, typeInt32, n, make([]byte, 4*n))
	}
	add(tagFileModes, typeInt16, n, make([]byte, 2*n))
	tab := &table{h: h, name: "long"}
	if files := tab.files(); files != nil || tab.err == nil || !strings.Contains(tab.err.Error(), "the paths are too long") {
		t.Errorf("%d files, %v", len(files), tab.err)
	}
}

// short is a file whose reads end early.
type short struct{ b []byte }

func (s short) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(s.b)) {
		return 0, io.EOF
	}
	n := copy(p, s.b[off:])
	if n < len(p) {
		return n, io.ErrClosedPipe
	}
	return n, nil
}

func TestReadErrorIsNotDamage(t *testing.T) {
	t.Parallel()
	b, p := sample(t)
	if _, err := Read(short{b[:p.HeaderStart+20]}, int64(len(b)), "disk.rpm"); !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
	if err := Verify(short{b[:len(b)-1]}, int64(len(b)), "disk.rpm"); !errs.Is(err, errs.Unavailable) {
		t.Error(err)
	}
}
