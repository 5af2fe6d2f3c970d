package imagefs

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"strings"
	"unicode/utf16"

	"slipway/internal/errs"
)

// fat is a FAT12, FAT16 or FAT32 file system: boot partitions (Microsoft's FAT
// specification of 2004). It knows no owners and no modes: files are 0755 of root.
type fat struct {
	r           io.ReaderAt
	bits        int
	cluster     int64 // bytes
	data        int64 // where cluster 2 begins
	clusters    uint32
	table       []byte // the first FAT
	root        uint32 // FAT32: its first cluster
	rootAt      int64  // else: where it lies
	rootEntries int
	label       string
}

func badFAT(format string, args ...any) error {
	return errs.E(errs.Invalid, "vfat: "+fmt.Sprintf(format, args...))
}

const maxFAT = 256 << 20 // bytes of a table that are read

// readFAT gives nil without an error when there is none.
func readFAT(r io.ReaderAt, size int64) (*fat, error) {
	b := make([]byte, 512)
	if n, err := r.ReadAt(b, 0); n < 512 {
		if err == io.EOF {
			err = nil
		}
		return nil, err
	}
	le := binary.LittleEndian
	sector, per, copies := int64(le.Uint16(b[11:])), int64(b[13]), int64(b[16])
	if b[510] != 0x55 || b[511] != 0xaa || b[0] != 0xeb && b[0] != 0xe9 || sector < 512 || sector > 4096 || sector&(sector-1) != 0 ||
		per == 0 || per&(per-1) != 0 || copies == 0 || copies > 4 || b[21] < 0xf0 {
		return nil, nil
	}
	reserved, entries := int64(le.Uint16(b[14:])), int64(le.Uint16(b[17:]))
	total, length := int64(le.Uint16(b[19:])), int64(le.Uint16(b[22:]))
	if total == 0 {
		total = int64(le.Uint32(b[32:]))
	}
	name := b[43:54]
	f := &fat{r: r, cluster: sector * per, rootEntries: int(entries)}
	if length == 0 {
		length, f.root, name = int64(le.Uint32(b[36:])), le.Uint32(b[44:]), b[71:82]
	}
	if total*sector > size {
		return nil, badFAT("it is truncated: the file system has %d bytes, there are %d", total*sector, size)
	}
	f.rootAt = (reserved + copies*length) * sector
	f.data = f.rootAt + (entries*32+sector-1)/sector*sector
	if reserved == 0 || length == 0 || f.data >= total*sector || length*sector > maxFAT {
		return nil, badFAT("the boot sector makes no sense")
	}
	f.clusters = uint32((total*sector - f.data) / f.cluster)
	switch {
	case f.root != 0:
		f.bits = 32
	case f.clusters < 4085:
		f.bits = 12
	default:
		f.bits = 16
	}
	if need := (int64(f.clusters) + 2) * int64(f.bits) / 8; length*sector < need {
		return nil, badFAT("a table of %d bytes for %d clusters", length*sector, f.clusters)
	}
	f.label = strings.TrimRight(string(name), " \x00")
	if f.label == "NO NAME" || strings.ContainsFunc(f.label, func(r rune) bool { return r < ' ' || r > '~' }) {
		f.label = ""
	}
	f.table = make([]byte, length*sector)
	if n, err := r.ReadAt(f.table, reserved*sector); n < len(f.table) {
		return nil, errs.Wrap(err, "read the table")
	}
	return f, nil
}

// next gives the cluster after n; 0 at the end.
func (f *fat) next(n uint32) (uint32, error) {
	var v, end uint32
	switch f.bits {
	case 12:
		v = uint32(binary.LittleEndian.Uint16(f.table[n+n/2:]))
		if n&1 == 1 {
			v >>= 4
		}
		v, end = v&0xfff, 0xff8
	case 16:
		v, end = uint32(binary.LittleEndian.Uint16(f.table[2*n:])), 0xfff8
	default:
		v, end = binary.LittleEndian.Uint32(f.table[4*n:])&0x0fffffff, 0x0ffffff8
	}
	if v >= end {
		return 0, nil
	}
	if v < 2 || v >= f.clusters+2 {
		return 0, badFAT("cluster %d is followed by %d of %d", n, v, f.clusters)
	}
	return v, nil
}

// chain reads a run of clusters from its begin.
type chain struct {
	f    *fat
	at   uint32 // 0 at the end
	left int64  // bytes that are still to come; -1: all
	seen uint32
	data []byte
}

func (c *chain) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(c.data) == 0 {
		if c.left == 0 || c.at == 0 && c.left < 0 {
			return 0, io.EOF
		}
		if c.at < 2 || c.at >= c.f.clusters+2 {
			return 0, badFAT("a file ends %d bytes early", c.left)
		}
		if c.seen++; c.seen > c.f.clusters {
			return 0, badFAT("clusters go in circles")
		}
		c.data = make([]byte, c.f.cluster)
		if n, err := c.f.r.ReadAt(c.data, c.f.data+int64(c.at-2)*c.f.cluster); n < len(c.data) {
			return 0, errs.Wrap(err, "read cluster %d", c.at)
		}
		if c.left >= 0 {
			c.data = c.data[:min(int64(len(c.data)), c.left)]
			c.left -= int64(len(c.data))
		}
		var err error
		if c.at, err = c.f.next(c.at); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.data)
	c.data = c.data[n:]
	return n, nil
}

type fatEntry struct {
	name    string
	folder  bool
	cluster uint32
	size    int64
}

// list reads a folder's entries, sorted.
func (f *fat) list(r io.Reader) ([]fatEntry, error) {
	data, err := io.ReadAll(io.LimitReader(r, 65536*32+1)) // no folder may have more
	if err != nil {
		return nil, err
	}
	if len(data) > 65536*32 {
		return nil, badFAT("a folder of more than 65536 entries")
	}
	var out []fatEntry
	long := map[int][]uint16{}
	for ; len(data) >= 32 && data[0] != 0; data = data[32:] {
		e := data[:32]
		switch {
		case e[0] == 0xe5:
			clear(long)
			continue
		case e[11] == 0x0f:
			var u []uint16
			for _, w := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
				for i := w[0]; i < w[1]; i += 2 {
					u = append(u, binary.LittleEndian.Uint16(e[i:]))
				}
			}
			long[int(e[0]&0x3f)] = u
			continue
		case e[11]&8 != 0: // label
			clear(long)
			continue
		}
		x := fatEntry{folder: e[11]&0x10 != 0, cluster: uint32(binary.LittleEndian.Uint16(e[26:])), size: int64(binary.LittleEndian.Uint32(e[28:]))}
		if f.bits == 32 {
			x.cluster |= uint32(binary.LittleEndian.Uint16(e[20:])) << 16
		}
		var u []uint16
		for i := 1; i <= len(long); i++ {
			u = append(u, long[i]...)
		}
		clear(long)
		for i, c := range u {
			if c == 0 {
				u = u[:i]
				break
			}
		}
		if x.name = string(utf16.Decode(u)); x.name == "" {
			base, ext := strings.TrimRight(string(e[:8]), " "), strings.TrimRight(string(e[8:11]), " ")
			if e[12]&0x08 != 0 {
				base = strings.ToLower(base)
			}
			if e[12]&0x10 != 0 {
				ext = strings.ToLower(ext)
			}
			if x.name = base; ext != "" {
				x.name += "." + ext
			}
			x.name = strings.ToValidUTF8(x.name, "?")
		}
		if x.name == "." || x.name == ".." {
			continue
		}
		if x.name == "" || strings.ContainsAny(x.name, "/\x00") {
			return nil, badFAT("a file named %q", x.name)
		}
		out = append(out, x)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out, nil
}

func (f *fat) walk(visit func(*File) error) error {
	if err := visit(&File{Path: ".", Mode: fs.ModeDir | 0o755}); err != nil {
		return err
	}
	var root io.Reader = &chain{f: f, at: f.root, left: -1}
	if f.bits != 32 {
		root = io.NewSectionReader(f.r, f.rootAt, int64(f.rootEntries)*32)
	}
	files, seen := 0, map[uint32]bool{}
	var in func(r io.Reader, above string) error
	in = func(r io.Reader, above string) error {
		entries, err := f.list(r)
		if err != nil {
			return errs.Wrap(err, "%s", above)
		}
		for _, e := range entries {
			name := above + e.name
			if files++; files > maxFiles || len(name) > maxName {
				return badFAT("more files than can be, or a path of %d bytes", len(name))
			}
			if e.folder {
				if seen[e.cluster] {
					return badFAT("%s: folders go in circles", name)
				}
				seen[e.cluster] = true
				if err := visit(&File{Path: name, Mode: fs.ModeDir | 0o755}); err != nil {
					return err
				}
				if err := in(&chain{f: f, at: e.cluster, left: -1}, name+"/"); err != nil {
					return err
				}
				continue
			}
			if err := visit(&File{Path: name, Mode: 0o755, Size: e.size, open: func() (io.Reader, error) { return &chain{f: f, at: e.cluster, left: e.size}, nil }}); err != nil {
				return err
			}
		}
		return nil
	}
	return in(root, "")
}
