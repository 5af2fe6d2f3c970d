package rpm

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Types of files, in a mode (stat(2)).
const (
	typeMask    = 0o170000
	typeDir     = 0o040000
	typeRegular = 0o100000
	typeSymlink = 0o120000
)

// cpioEntry is one entry of a payload; its size bytes of data follow.
type cpioEntry struct {
	name   string
	mode   uint32
	links  uint32
	size   int64
	device [2]uint32
	inode  uint32
	data   io.Reader
}

// cpioReader reads the archive formats of rpm's payloads: "newc" (cpio(5),
// magic 070701, 070702 with a checksum that is not looked at) and rpm's own
// "stripped" entries for large files.
type cpioReader struct {
	r     io.Reader
	files []File           // of the main header, for stripped entries
	data  io.LimitedReader // of the present entry
	pad   int64
	links map[uint32][]int // inode -> indexes of its files, once it is needed
}

// next gives the next entry, io.EOF after the last.
func (c *cpioReader) next() (*cpioEntry, error) {
	if _, err := io.Copy(io.Discard, &c.data); err != nil {
		return nil, err
	}
	if c.data.N > 0 {
		return nil, io.ErrUnexpectedEOF
	}
	if err := c.skip(c.pad); err != nil {
		return nil, err
	}
	var magic [6]byte
	if err := c.full(magic[:]); err != nil {
		return nil, err
	}
	switch string(magic[:]) {
	case "070701", "070702":
		return c.newc()
	case "07070X":
		return c.stripped()
	}
	return nil, fmt.Errorf("no cpio entry: found %q", magic[:])
}

func (c *cpioReader) newc() (*cpioEntry, error) {
	var text [104]byte
	if err := c.full(text[:]); err != nil {
		return nil, err
	}
	var v [13]uint32
	for i := range v {
		n, err := hex8(text[8*i:])
		if err != nil {
			return nil, err
		}
		v[i] = n
	}
	const inode, mode, links, size, major, minor, nameSize = 0, 1, 4, 6, 7, 8, 11
	if v[nameSize] == 0 || v[nameSize] > maxPath+2 {
		return nil, fmt.Errorf("cpio entry with a name of %d bytes", v[nameSize])
	}
	name := make([]byte, v[nameSize])
	if err := c.full(name); err != nil {
		return nil, err
	}
	if err := c.skip(-(6 + int64(len(text)) + int64(len(name))) & 3); err != nil {
		return nil, err
	}
	e := &cpioEntry{name: strings.TrimSuffix(string(name), "\x00"), inode: v[inode], mode: v[mode], links: v[links],
		size: int64(v[size]), device: [2]uint32{v[major], v[minor]}}
	if e.name == "TRAILER!!!" {
		return nil, io.EOF
	}
	c.start(e)
	return e, nil
}

func (c *cpioReader) stripped() (*cpioEntry, error) {
	var text [8]byte
	if err := c.full(text[:]); err != nil {
		return nil, err
	}
	n, err := hex8(text[:])
	if err != nil {
		return nil, err
	}
	if int64(n) >= int64(len(c.files)) {
		return nil, fmt.Errorf("cpio entry for file %d of %d", n, len(c.files))
	}
	f := c.files[n]
	e := &cpioEntry{name: f.Path, mode: f.Mode, links: 1, inode: f.Inode}
	switch f.Mode & typeMask {
	case typeRegular:
		same := c.sameInode(f.Inode)
		e.links = uint32(len(same))
		if len(same) == 0 || same[len(same)-1] == int(n) { // only the last link has the data
			e.size = f.Size
		}
	case typeSymlink:
		e.size = int64(len(f.Link))
	}
	if err := c.skip(2); err != nil { // 14 bytes, padded to 16
		return nil, err
	}
	c.start(e)
	return e, nil
}

// sameInode gives the indexes of the regular files that share an inode.
func (c *cpioReader) sameInode(inode uint32) []int {
	if c.links == nil {
		c.links = map[uint32][]int{}
		for i, f := range c.files {
			if f.IsRegular() && f.Flags&FileGhost == 0 {
				c.links[f.Inode] = append(c.links[f.Inode], i)
			}
		}
	}
	return c.links[inode]
}

func (c *cpioReader) start(e *cpioEntry) {
	c.data = io.LimitedReader{R: c.r, N: e.size}
	c.pad = -e.size & 3
	e.data = &c.data
}

func (c *cpioReader) full(b []byte) error {
	if _, err := io.ReadFull(c.r, b); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF // the trailer ends an archive, nothing else
		}
		return err
	}
	return nil
}

func (c *cpioReader) skip(n int64) error {
	var b [4]byte
	return c.full(b[:n])
}

func hex8(b []byte) (uint32, error) {
	n, err := strconv.ParseUint(string(b[:8]), 16, 32)
	if err != nil {
		return 0, fmt.Errorf("cpio entry with %q where a number belongs", b[:8])
	}
	return uint32(n), nil
}
