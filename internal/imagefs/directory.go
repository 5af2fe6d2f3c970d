package imagefs

import (
	"encoding/binary"
	"sort"
	"strings"
)

// entry is one name in a folder.
type entry struct {
	name  string
	inode uint32
	kind  byte // 2 is a folder
}

const (
	maxFolder  = 64 << 20 // bytes
	kindFolder = 2
)

// readDirectory gives the entries of a folder, sorted by name, without "." and
// "..", and the inode of "..". Blocks of a hash tree look like empty ones to
// who reads them in order, by design.
func (v *volume) readDirectory(in *Inode) ([]entry, uint32, error) {
	data, err := v.readAll(in, min(maxFolder, v.size)) // no holes in a folder
	if err != nil {
		return nil, 0, err
	}
	var entries []entry
	parent := uint32(0)
	folders := map[uint32]bool{}
	for at := int64(0); at < int64(len(data)); at += v.blockSize {
		if int64(len(data))-at < v.blockSize {
			return nil, 0, damaged("folder %d ends inside a block", in.Number)
		}
		for b := data[at:][:v.blockSize]; len(b) > 0; {
			if len(b) < 8 {
				return nil, 0, damaged("folder %d: an entry of %d bytes", in.Number, len(b))
			}
			length, name := int(binary.LittleEndian.Uint16(b[4:])), int(b[6])
			if length == 65535 || length == 0 && v.blockSize == 65536 {
				length = 65536
			}
			if length < 8+name || length%4 != 0 || length > len(b) {
				return nil, 0, damaged("folder %d: an entry of %d bytes with a name of %d", in.Number, length, name)
			}
			e := entry{name: string(b[8:][:name]), inode: binary.LittleEndian.Uint32(b), kind: b[7]}
			b = b[length:]
			switch {
			case e.inode == 0 || e.name == ".":
				continue
			case e.name == "..":
				parent = e.inode
				continue
			case e.name == "" || strings.ContainsAny(e.name, "/\x00"):
				return nil, 0, damaged("folder %d: a file named %q", in.Number, e.name)
			}
			if e.kind == kindFolder {
				if folders[e.inode] {
					return nil, 0, damaged("folder %d holds folder %d twice", in.Number, e.inode)
				}
				folders[e.inode] = true
			}
			entries = append(entries, e)
		}
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].name < entries[j].name })
	for i := 1; i < len(entries); i++ {
		if entries[i].name == entries[i-1].name {
			return nil, 0, damaged("folder %d holds %q twice", in.Number, entries[i].name)
		}
	}
	return entries, parent, nil
}
