package store

import (
	"bytes"
	"io"
	"os"
)

// Sparse writes to a new file, from its position on, and leaves blocks of zeros
// out: they become holes, where the file system has such. Call End after the last
// write: without it a hole at the end is missing.
type Sparse struct {
	File *os.File
	hole int64 // zeros since the last byte that was written
}

// holeSize is the least that becomes a hole: a block of most file systems.
const holeSize = 4 << 10

var zeros [holeSize]byte

// Write implements io.Writer. What it calls written is in the file, or is zero
// and a hole after End.
func (s *Sparse) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		rest := b[done:]
		n := 0
		for len(rest)-n >= holeSize && bytes.Equal(rest[n:n+holeSize], zeros[:]) {
			n += holeSize
		}
		s.hole += int64(n)
		done += n
		rest = rest[n:]
		n = 0
		for len(rest)-n >= holeSize && !bytes.Equal(rest[n:n+holeSize], zeros[:]) {
			n += holeSize
		}
		if len(rest)-n < holeSize {
			n = len(rest)
		}
		if n == 0 {
			continue
		}
		if s.hole > 0 {
			if _, err := s.File.Seek(s.hole, io.SeekCurrent); err != nil {
				return done, err
			}
			s.hole = 0
		}
		m, err := s.File.Write(rest[:n])
		done += m
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// End gives the file its size.
func (s *Sparse) End() error {
	if s.hole == 0 {
		return nil
	}
	at, err := s.File.Seek(s.hole, io.SeekCurrent)
	if err != nil {
		return err
	}
	s.hole = 0
	return s.File.Truncate(at)
}
