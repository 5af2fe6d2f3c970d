package qemutest

import (
	"bytes"
	"fmt"
)

// archive is an initramfs: cpio, format newc.
type archive struct {
	buf bytes.Buffer
	ino int
}

func (a *archive) dir(name string)                         { a.add(name, 0o40755, nil) }
func (a *archive) link(name, to string)                    { a.add(name, 0o120777, []byte(to)) }
func (a *archive) file(name string, mode uint32, b []byte) { a.add(name, 0o100000|mode, b) }

func (a *archive) add(name string, mode uint32, data []byte) {
	a.ino++
	fmt.Fprintf(&a.buf, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", a.ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	a.buf.WriteString(name + "\x00")
	a.pad()
	a.buf.Write(data)
	a.pad()
}

func (a *archive) pad() {
	for a.buf.Len()%4 != 0 {
		a.buf.WriteByte(0)
	}
}

// bytes ends the archive.
func (a *archive) bytes() []byte {
	a.add("TRAILER!!!", 0, nil)
	return a.buf.Bytes()
}
