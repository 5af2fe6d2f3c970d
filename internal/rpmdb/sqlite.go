package rpmdb

import (
	"encoding/binary"
	"fmt"
	"strings"

	"slipway/internal/errs"
)

func damaged(format string, args ...any) error {
	return errs.E(errs.Invalid, "rpm database: "+fmt.Sprintf(format, args...))
}

// database is an SQLite file in memory.
type database struct {
	file     []byte
	pageSize int
	usable   int
	pages    uint32
	log      map[uint32][]byte // pages that the write-ahead log has newer
	visited  int
}

const (
	headerSize = 100
	maxDepth   = 40
	maxRow     = 256 << 20 // bytes
)

// readTable gives column number column of each row of a table, which must be a blob.
func readTable(file, wal []byte, table string, column int) ([][]byte, error) {
	if len(file) < headerSize || string(file[:16]) != "SQLite format 3\x00" {
		return nil, damaged("it is no SQLite file")
	}
	d := &database{file: file, pageSize: int(binary.BigEndian.Uint16(file[16:]))}
	if d.pageSize == 1 {
		d.pageSize = 65536
	}
	if d.pageSize < 512 || d.pageSize&(d.pageSize-1) != 0 {
		return nil, damaged("pages of %d bytes", d.pageSize)
	}
	if d.usable = d.pageSize - int(file[20]); d.usable < 480 {
		return nil, damaged("pages with %d bytes of use", d.usable)
	}
	d.pages = uint32(len(file) / d.pageSize)
	if n := binary.BigEndian.Uint32(file[28:]); n > d.pages && len(wal) == 0 {
		return nil, damaged("it is truncated: it has %d pages, %d are there", n, d.pages)
	}
	if err := d.readLog(wal); err != nil {
		return nil, err
	}
	root := uint32(0)
	err := d.walk(1, 0, func(row []byte) error {
		kind, _, err := value(row, 0)
		if err != nil {
			return err
		}
		name, _, err := value(row, 1)
		if err != nil {
			return err
		}
		if string(kind) == "table" && strings.EqualFold(string(name), table) {
			at, _, err := value(row, 3)
			if err != nil {
				return err
			}
			for _, b := range at {
				root = root<<8 | uint32(b)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if root == 0 {
		return nil, damaged("it has no table %s", table)
	}
	var out [][]byte
	err = d.walk(root, 0, func(row []byte) error {
		b, blob, err := value(row, column)
		if err == nil && !blob {
			err = damaged("a row of %s holds no header", table)
		}
		out = append(out, b)
		return err
	})
	return out, err
}

// readLog finds the pages of committed transactions (section 4 of the format).
func (d *database) readLog(wal []byte) error {
	const head, frame = 32, 24
	if len(wal) < head {
		return nil
	}
	be := binary.BigEndian
	if magic := be.Uint32(wal); magic&^1 != 0x377f0682 || int(be.Uint32(wal[8:])) != d.pageSize {
		return damaged("its write-ahead log is none")
	}
	salt := string(wal[16:24])
	pending := map[uint32][]byte{}
	for at := head; at+frame+d.pageSize <= len(wal); at += frame + d.pageSize {
		f := wal[at:]
		if string(f[8:16]) != salt {
			break // of an older round
		}
		pending[be.Uint32(f)] = f[frame:][:d.pageSize]
		if size := be.Uint32(f[4:]); size != 0 {
			if d.log == nil {
				d.log = map[uint32][]byte{}
			}
			for n, p := range pending {
				d.log[n] = p
			}
			clear(pending)
			d.pages = size
		}
	}
	return nil
}

func (d *database) page(n uint32) ([]byte, error) {
	if n == 0 || n > d.pages {
		return nil, damaged("page %d of %d", n, d.pages)
	}
	if p := d.log[n]; p != nil {
		return p, nil
	}
	if uint64(n)*uint64(d.pageSize) > uint64(len(d.file)) {
		return nil, damaged("it is truncated: page %d is not there", n)
	}
	return d.file[int(n-1)*d.pageSize:][:d.pageSize], nil
}

// varint gives a number of up to nine bytes, and how many; 0 bytes when b ends.
func varint(b []byte) (uint64, int) {
	v := uint64(0)
	for i := range min(9, len(b)) {
		if i == 8 {
			return v<<8 | uint64(b[i]), 9
		}
		v = v<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}

// walk shows the rows of a table in their order.
func (d *database) walk(n uint32, depth int, row func([]byte) error) error {
	p, err := d.page(n)
	if err != nil {
		return err
	}
	if d.visited++; depth > maxDepth || d.visited > 2*int(d.pages)+16 {
		return damaged("its pages go in circles")
	}
	head := 0
	if n == 1 {
		head = headerSize
	}
	kind, cells := p[head], int(binary.BigEndian.Uint16(p[head+3:]))
	pointers := head + 8
	if kind == 5 {
		pointers += 4
	}
	if kind != 5 && kind != 13 || pointers+2*cells > d.usable {
		return damaged("page %d is no page of a table", n)
	}
	for i := range cells {
		at := int(binary.BigEndian.Uint16(p[pointers+2*i:]))
		if at+4 > d.usable {
			return damaged("page %d: a row is at %d", n, at)
		}
		if kind == 5 {
			if err := d.walk(binary.BigEndian.Uint32(p[at:]), depth+1, row); err != nil {
				return err
			}
			continue
		}
		b, err := d.payload(p[at:d.usable], n)
		if err == nil {
			err = row(b)
		}
		if err != nil {
			return err
		}
	}
	if kind == 5 {
		return d.walk(binary.BigEndian.Uint32(p[head+8:]), depth+1, row)
	}
	return nil
}

// payload reads a row, which may go on in other pages.
func (d *database) payload(cell []byte, n uint32) ([]byte, error) {
	size, a := varint(cell)
	_, b := varint(cell[min(a, len(cell)):])
	if a == 0 || b == 0 || size > maxRow || size > uint64(d.pages)*uint64(d.pageSize) {
		return nil, damaged("page %d: a row of %d bytes", n, size)
	}
	cell = cell[a+b:]
	local := int(size)
	if most := d.usable - 35; local > most {
		least := (d.usable-12)*32/255 - 23
		if local = least + (int(size)-least)%(d.usable-4); local > most {
			local = least
		}
		if len(cell) < local+4 {
			return nil, damaged("page %d: a row ends outside", n)
		}
		out := append(make([]byte, 0, size), cell[:local]...)
		for next, hops := binary.BigEndian.Uint32(cell[local:]), uint32(0); len(out) < int(size); hops++ {
			p, err := d.page(next)
			if err != nil {
				return nil, err
			}
			if hops > d.pages {
				return nil, damaged("page %d: a row goes in circles", n)
			}
			next = binary.BigEndian.Uint32(p)
			out = append(out, p[4:d.usable][:min(d.usable-4, int(size)-len(out))]...)
		}
		return out, nil
	}
	if len(cell) < local {
		return nil, damaged("page %d: a row ends outside", n)
	}
	return cell[:local], nil
}

// value gives a column of a row: its bytes, and whether it is a blob.
func value(row []byte, column int) ([]byte, bool, error) {
	bad := damaged("a row with a damaged head")
	size, n := varint(row)
	if n == 0 || size > uint64(len(row)) || size < uint64(n) {
		return nil, false, bad
	}
	head, body := row[n:size], row[size:]
	for i := 0; ; i++ {
		t, n := varint(head)
		if n == 0 {
			return nil, false, bad
		}
		head = head[n:]
		length, blob := uint64(0), false
		switch {
		case t <= 4:
			length = t
		case t == 5:
			length = 6
		case t == 6, t == 7:
			length = 8
		case t >= 12:
			length, blob = (t-12)/2, t%2 == 0
		}
		if length > uint64(len(body)) {
			return nil, false, bad
		}
		if i == column {
			return body[:length], blob, nil
		}
		body = body[length:]
	}
}
