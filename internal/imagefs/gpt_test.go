package imagefs_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/errs"
	"slipway/internal/imagefs"
)

// memory is an image in memory.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

var table = imagefs.Table{Disk: imagefs.MustGUID("01234567-89ab-cdef-0123-456789abcdef"), Partitions: []imagefs.Partition{
	{Type: imagefs.LinuxRootARM64, ID: imagefs.MustGUID("11111111-2222-3333-4444-555555555555"), Name: "root", Start: 1 << 20, Size: 2 << 20},
	{Type: imagefs.LinuxData, ID: imagefs.MustGUID("aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"), Name: "Dätä", Start: 4 << 20, Size: 3 << 20}}}

func write(t testing.TB, table imagefs.Table, size int) memory {
	t.Helper()
	m := make(memory, size)
	if err := table.Write(m, int64(size)); err != nil {
		t.Fatal(err)
	}
	return m
}

func read(b []byte) (imagefs.Table, error) {
	return imagefs.ReadTable(bytes.NewReader(b), int64(len(b)))
}

func TestTable(t *testing.T) {
	t.Parallel()
	m := write(t, table, 8<<20)
	got, err := read(m)
	if err != nil || !cmp.Equal(table, got) {
		t.Errorf("%v\n%s", err, cmp.Diff(table, got))
	}
	// sgdisk finds in it what we wrote, and we what sgdisk writes.
	name := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(name, m, 0o644); err != nil {
		t.Fatal(err)
	}
	if out := tool(t, "sgdisk", "-v", name); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	out := tool(t, "sgdisk", "-p", "-i", "2", name)
	for _, want := range []string{"01234567-89AB-CDEF-0123-456789ABCDEF", "8305", "AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE", "'Dätä'", "First sector: 8192 ", "Last sector: 14335 "} {
		if !strings.Contains(out+tool(t, "sgdisk", "-i", "2", name), want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	tool(t, "sgdisk", "-Z", name)
	tool(t, "sgdisk", "-U", table.Disk.String(), "-n", "1:2048:6143", "-t", "1:"+table.Partitions[0].Type.String(), "-u", "1:"+table.Partitions[0].ID.String(), "-c", "1:root",
		"-n", "2:8192:14335", "-t", "2:8300", "-u", "2:"+table.Partitions[1].ID.String(), "-c", "2:Dätä", name)
	theirs, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := read(theirs); err != nil || !cmp.Equal(table, got) {
		t.Errorf("%v\n%s", err, cmp.Diff(table, got))
	}
}

func TestDamagedTable(t *testing.T) {
	t.Parallel()
	resum := func(b []byte) {
		clear(b[528:532])
		binary.LittleEndian.PutUint32(b[528:], crc32.ChecksumIEEE(b[512:604]))
	}
	for _, tt := range []struct {
		name   string
		damage func(b memory) memory
		want   string // "" is: the copy at the end is read
	}{
		{"first header", func(b memory) memory { b[520] ^= 1; return b }, ""},
		{"first entries", func(b memory) memory { b[1030] ^= 1; return b }, ""},
		{"first gone", func(b memory) memory { clear(b[:1<<20]); return b }, ""},
		{"both", func(b memory) memory { b[560] ^= 1; b[len(b)-460] ^= 1; return b }, "checksum of the header"},
		{"truncated", func(b memory) memory { return b[:7<<20] }, "image is truncated: the table is for 8388608 bytes, there are 7340032"},
		{"none", func(b memory) memory { return make(memory, len(b)) }, "no partition table"},
		{"short", func(b memory) memory { return b[:700] }, "no partition table"},
		{"many entries", func(b memory) memory {
			binary.LittleEndian.PutUint32(b[512+80:], 1<<31)
			resum(b)
			return b[:len(b)-512]
		}, "truncated"},
		{"entries elsewhere", func(b memory) memory {
			binary.LittleEndian.PutUint64(b[512+72:], 1<<62)
			resum(b)
			clear(b[len(b)-512:])
			return b
		}, "entries at 4611686018427387904"},
		{"huge array", func(b memory) memory {
			binary.LittleEndian.PutUint32(b[512+80:], 1<<31)
			resum(b)
			clear(b[len(b)-512:])
			return b
		}, "2147483648 entries of 128 bytes"},
	} {
		got, err := read(tt.damage(write(t, table, 8<<20)))
		if tt.want == "" {
			if err != nil || !cmp.Equal(table, got) {
				t.Errorf("%s: %v", tt.name, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	overlap := imagefs.Table{Partitions: []imagefs.Partition{{Type: imagefs.LinuxData, Name: "a", Start: 1 << 20, Size: 2 << 20}, {Type: imagefs.LinuxData, Name: "b", Start: 2 << 20, Size: 1 << 20}}}
	if _, err := read(write(t, overlap, 8<<20)); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), `"a" and "b" overlap`) {
		t.Error(err)
	}
	for _, bad := range []imagefs.Partition{{Start: 512, Size: 512}, {Start: 1 << 20, Size: 8 << 20}, {Start: 1<<20 + 1, Size: 512}, {Start: 1 << 20}, {Start: 1 << 20, Size: 512, Name: strings.Repeat("x", 37)}} {
		if err := (imagefs.Table{Partitions: []imagefs.Partition{bad}}).Write(make(memory, 8<<20), 8<<20); !errs.Is(err, errs.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func FuzzTable(f *testing.F) {
	m := write(f, table, 2<<20+6<<20)
	const head = 1024 + 2*128
	f.Add([]byte(m[512:head]), true)
	f.Add([]byte(m[512:head]), false)
	f.Add([]byte("EFI PART"), false)
	f.Fuzz(func(t *testing.T, data []byte, sums bool) {
		b := make([]byte, 1<<20)
		copy(b[512:], data)
		if sums { // else the fuzzer would have to find a checksum
			size := binary.LittleEndian.Uint32(b[524:])
			n := uint64(binary.LittleEndian.Uint32(b[592:])) * uint64(binary.LittleEndian.Uint32(b[596:]))
			if at := binary.LittleEndian.Uint64(b[584:]); at < 2048 && n <= uint64(len(b))-at*512 {
				binary.LittleEndian.PutUint32(b[600:], crc32.ChecksumIEEE(b[at*512:at*512+n]))
			}
			if size >= 92 && size <= 512 {
				clear(b[528:532])
				binary.LittleEndian.PutUint32(b[528:], crc32.ChecksumIEEE(b[512:512+size]))
			}
		}
		got, err := read(b)
		if err != nil {
			if !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.NotFound) {
				t.Error(err)
			}
			return
		}
		for _, p := range got.Partitions {
			if p.Start < 0 || p.Size <= 0 || p.Start+p.Size > int64(len(b)) {
				t.Errorf("%+v", p)
			}
		}
	})
}
