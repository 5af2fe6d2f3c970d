package feedindex

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"

	"slipway/internal/errs"
	"slipway/internal/rpmmd"
)

// memory is what the last run left beside the metadata.
type memory struct {
	state *rpmmd.State
	files []file // in the order of the metadata
	// older are the names of data files of indexes before, newest first, that
	// --keep left.
	older [][]string
}

// ours is every name that this package gives to a file of repodata/, but for
// repomd.xml and the lock.
var ours = regexp.MustCompile(`^([0-9a-f]{64}-(primary|filelists|other)\.xml\.(zst|gz)|slipway-[0-9a-f]{16}\.state|` + regexp.QuoteMeta(tempPrefix) + `.*)$`)

const tempPrefix = ".slipway-new-"

// stateName gives the name of the state of three data files.
func stateName(records []rpmmd.Record) string {
	h := sha256.New()
	for _, r := range records {
		h.Write([]byte(r.Type + " " + r.Checksum.String() + " " + r.Href + "\n"))
	}
	return "slipway-" + hex.EncodeToString(h.Sum(nil)[:8]) + ".state"
}

// mainRecords gives the records of primary, filelists and other; fewer when
// repomd.xml lacks one.
func mainRecords(md *rpmmd.Repomd) []rpmmd.Record {
	var out []rpmmd.Record
	for _, kind := range []string{"primary", "filelists", "other"} {
		if r, ok := md.Record(kind); ok {
			out = append(out, r)
		}
	}
	return out
}

// remember reads the memory that belongs to repomd.xml. An error says why there
// is none: errs.NotFound when nobody left one.
func remember(repodata string, md *rpmmd.Repomd) (*memory, error) {
	b, err := os.ReadFile(filepath.Join(repodata, stateName(mainRecords(md))))
	if os.IsNotExist(err) {
		return nil, errs.E(errs.NotFound, "the metadata there was not made by slipway feed index, or its state is gone")
	}
	if err != nil {
		return nil, errs.E(errs.Unavailable, "read the state of the index", err)
	}
	state, extra, err := rpmmd.DecodeState(b)
	if err != nil {
		return nil, err
	}
	m := &memory{state: state}
	if !m.readList(extra) || len(m.files) != state.Packages() {
		return nil, errs.E(errs.Invalid, "the list of files in the state of the index cannot be read")
	}
	return m, nil
}

// readList reads what list gives.
func (m *memory) readList(b []byte) bool {
	r := reader{b: b}
	m.files = make([]file, r.count(3))
	for i := range m.files {
		m.files[i] = file{href: r.str(), size: r.varint(), mtime: r.varint()}
	}
	m.older = make([][]string, r.count(1))
	for i := range m.older {
		m.older[i] = make([]string, r.count(1))
		for j := range m.older[i] {
			m.older[i][j] = r.str()
		}
	}
	return !r.failed && len(r.b) == 0
}

// encode gives the bytes of the state's file.
func (m *memory) encode() []byte { return m.state.Encode(m.list()) }

func (m *memory) list() []byte {
	n := 64
	for _, f := range m.files {
		n += len(f.href) + 24
	}
	b := binary.AppendUvarint(make([]byte, 0, n), uint64(len(m.files)))
	for _, f := range m.files {
		b = appendString(b, f.href)
		b = binary.AppendVarint(b, f.size)
		b = binary.AppendVarint(b, f.mtime)
	}
	b = binary.AppendUvarint(b, uint64(len(m.older)))
	for _, g := range m.older {
		b = binary.AppendUvarint(b, uint64(len(g)))
		for _, name := range g {
			b = appendString(b, name)
		}
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// reader takes bytes apart; after a failure it gives zeros.
type reader struct {
	b      []byte
	failed bool
}

// count reads how many things of at least size bytes follow.
func (r *reader) count(size int) int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64((len(r.b)-n)/size) {
		r.failed, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

func (r *reader) str() string {
	n := r.count(1)
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.failed, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}
