package imagefs

import (
	"encoding/binary"
)

const (
	xattrMagic    = 0xea020000
	xattrSecurity = 6 // index of the prefix "security."
	capability    = "capability"
	maxCapability = 64 // bytes; struct vfs_ns_cap_data has 24
)

// capability gives the attribute security.capability of a file, nil without one
// (Documentation/filesystems/ext4/attributes.rst).
func (v *volume) capability(in *Inode) ([]byte, error) {
	if b := in.inner; len(b) > 4 && binary.LittleEndian.Uint32(b) == xattrMagic {
		value, found, err := v.findAttribute(in, b[4:], b[4:])
		if found || err != nil {
			return value, err
		}
	}
	if in.acl == 0 {
		return nil, nil
	}
	b, err := v.tableBlock(in.acl)
	if err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(b) != xattrMagic {
		return nil, damaged("inode %d: its block of attributes is none", in.Number)
	}
	value, _, err := v.findAttribute(in, b[32:], b)
	return value, err
}

// findAttribute looks through a list of entries; values lie in another window.
func (v *volume) findAttribute(in *Inode, list, values []byte) ([]byte, bool, error) {
	for len(list) >= 16 && binary.LittleEndian.Uint32(list) != 0 {
		name, index := int(list[0]), list[1]
		off, size := int(binary.LittleEndian.Uint16(list[2:])), uint64(binary.LittleEndian.Uint32(list[8:]))
		if 16+name > len(list) {
			return nil, false, damaged("inode %d: the name of an attribute ends outside", in.Number)
		}
		if index == xattrSecurity && string(list[16:16+name]) == capability {
			if elsewhere := binary.LittleEndian.Uint32(list[4:]); elsewhere != 0 || size > maxCapability || uint64(off)+size > uint64(len(values)) {
				return nil, false, damaged("inode %d: an attribute %s of %d bytes", in.Number, capability, size)
			}
			return append([]byte{}, values[off:][:size]...), true, nil
		}
		list = list[min(len(list), (16+name+3)&^3):]
	}
	return nil, false, nil
}
