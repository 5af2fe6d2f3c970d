package security

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"strings"
)

// hit is what was found in a file's content.
type hit struct {
	kind string // "private-key", "build-path", "nested-image", "unscanned"
	line int    // 0 in a file that is no text
	text string
}

const (
	window  = 256 << 10
	overlap = 1024 // a hit is judged by at most so many bytes
	// A file's first part that is looked through; larger ones are told of.
	maxScan = 1 << 30
)

var (
	pemBegin  = []byte("-----BEGIN ")
	workMark  = []byte("/work")
	buildMark = []byte("/rpmbuild/BUILD")
	zeroByte  = []byte{0}
)

// scanner looks through contents for what should not be in an image. It is used
// again for each file.
type scanner struct {
	buf   []byte
	hits  []hit
	seen  map[string]bool // kinds that were found in this file
	lines int             // newlines before the window
	plain bool            // no zero byte so far
}

func newScanner() *scanner {
	return &scanner{buf: make([]byte, window+overlap+1), seen: map[string]bool{}}
}

// take gives the hits of a file, and begins anew.
func (s *scanner) take() []hit {
	h := s.hits
	s.hits, s.lines = nil, 0
	clear(s.seen)
	return h
}

// text looks through a content in memory.
func (s *scanner) text(b []byte, size int64) {
	s.plain = true
	s.begin(b, size)
	s.look(b, 0, len(b))
}

// read looks through a stream.
func (s *scanner) read(ctx context.Context, r io.Reader, size int64) error {
	s.plain = true
	have, first, base := 0, true, int64(0)
	for {
		n, err := io.ReadFull(r, s.buf[have:])
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return err
		}
		b := s.buf[:have+n]
		if first {
			s.begin(b, size)
		}
		from := 0
		if !first {
			from = 1 // the byte before it belongs to the last window, and tells whether a line begins here
		}
		if first = false; err != nil {
			s.look(b, from, len(b))
			return nil
		}
		if base += int64(n); base >= maxScan {
			s.hits = append(s.hits, hit{kind: "unscanned"})
			return ctx.Err()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		to := len(b) - overlap
		s.look(b, from, to)
		s.lines += bytes.Count(b[from:to], []byte("\n"))
		have = copy(s.buf, b[to-1:])
	}
}

// begin looks at the first bytes of a file: an image in an image.
func (s *scanner) begin(b []byte, size int64) {
	if size < 1<<20 {
		return
	}
	what := ""
	switch {
	case bytes.HasPrefix(b, []byte("hsqs")):
		what = "squashfs"
	case len(b) > 1082 && binary.LittleEndian.Uint16(b[1080:]) == 0xef53 && bytes.Count(b[:1024], zeroByte) == 1024:
		what = "ext4"
	case len(b) > 520 && string(b[512:520]) == "EFI PART":
		what = "disk"
	}
	if what != "" {
		s.add("nested-image", 0, what)
	}
}

func (s *scanner) add(kind string, line int, text string) {
	if !s.seen[kind] {
		s.seen[kind] = true
		s.hits = append(s.hits, hit{kind, line, text})
	}
}

// look finds what begins in b[from:to]; what lies around it may be looked at.
func (s *scanner) look(b []byte, from, to int) {
	s.plain = s.plain && bytes.IndexByte(b[from:to], 0) < 0
	each := func(mark []byte, found func(i int)) {
		for i := from; ; i++ {
			n := bytes.Index(b[min(i, len(b)):min(len(b), to+len(mark)-1)], mark)
			if n < 0 {
				return
			}
			i += n
			found(i)
		}
	}
	line := func(i int) int {
		if !s.plain {
			return 0
		}
		return s.lines + bytes.Count(b[from:i], []byte("\n")) + 1
	}
	if !s.seen["private-key"] {
		each(pemBegin, func(i int) {
			if what := privateKey(b, i); what != "" {
				s.add("private-key", line(i), what)
			}
		})
	}
	if !s.seen["build-path"] {
		each(workMark, func(i int) {
			if p := workFolder(b, i); p != "" {
				s.add("build-path", line(i), p)
			}
		})
		each(buildMark, func(i int) { s.add("build-path", line(i), pathAround(b, i)) })
	}
}

// privateKey reports what key begins at i: a line "-----BEGIN ... PRIVATE KEY-----"
// with data in the next one. Programs that read keys hold the line alone.
func privateKey(b []byte, i int) string {
	if i > 0 && b[i-1] != '\n' && b[i-1] != '\r' {
		return ""
	}
	head := b[i+len(pemBegin):]
	head = head[:min(len(head), 64)]
	end := bytes.Index(head, []byte("-----"))
	if end < 0 {
		return ""
	}
	what := string(head[:end])
	if what != "PRIVATE KEY" && !strings.HasSuffix(what, " PRIVATE KEY") && what != "PGP PRIVATE KEY BLOCK" {
		return ""
	}
	rest := b[i+len(pemBegin)+end+5:]
	rest = rest[:min(len(rest), 256)]
	newline := bytes.IndexByte(rest, '\n')
	if newline < 0 || len(bytes.TrimSpace(rest[:newline])) > 0 {
		return ""
	}
	next, _, _ := bytes.Cut(bytes.TrimLeft(rest[newline:], "\r\n"), []byte("\n"))
	next = bytes.TrimSpace(next)
	for _, header := range []string{"Proc-Type:", "DEK-Info:", "Version:", "Comment:"} {
		if bytes.HasPrefix(next, []byte(header)) {
			return what
		}
	}
	if len(next) < 16 {
		return ""
	}
	for _, c := range next {
		if c != '+' && c != '/' && c != '=' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return ""
		}
	}
	return what
}

func pathByte(c byte) bool {
	return c > ' ' && c < 0x7f && !strings.ContainsRune("\"'`:;,<>()[]{}|=", rune(c))
}

// pathAround gives the path that the byte i lies in.
func pathAround(b []byte, i int) string {
	from, to := i, i
	for from > 0 && from > i-200 && pathByte(b[from-1]) {
		from--
	}
	for to < len(b) && to < i+200 && pathByte(b[to]) {
		to++
	}
	return string(b[from:to])
}

// workFolder gives the path when "/work" at i is one of BitBake's: WORKDIR is
// .../tmp*/work/<arch>-<vendor>-<os>/<recipe>/... or .../tmp*/work-shared/<machine>/...
func workFolder(b []byte, i int) string {
	from := i
	for from > 0 && from > i-64 && pathByte(b[from-1]) && b[from-1] != '/' {
		from--
	}
	if !bytes.HasPrefix(b[from:i], []byte("tmp")) || from == 0 || b[from-1] != '/' {
		return ""
	}
	rest := b[i+len(workMark):]
	rest = rest[:min(len(rest), 200)]
	shared := bytes.HasPrefix(rest, []byte("-shared/"))
	if !shared && !bytes.HasPrefix(rest, []byte("/")) {
		return ""
	}
	_, rest, _ = bytes.Cut(rest, []byte("/"))
	machine, rest, ok := bytes.Cut(rest, []byte("/"))
	if !ok || len(machine) == 0 || !shared && bytes.IndexByte(machine, '-') < 0 || len(rest) == 0 {
		return ""
	}
	for _, c := range machine {
		if !pathByte(c) {
			return ""
		}
	}
	return pathAround(b, i)
}
