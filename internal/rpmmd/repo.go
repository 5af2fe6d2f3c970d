package rpmmd

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"slipway/internal/errs"
)

// Repo is a repository's metadata, checked and parsed.
type Repo struct {
	RepomdXML  []byte // as read: what repomd.xml.asc signs
	Repomd     *Repomd
	Primary    []*PrimaryPackage   // in the file's order
	Filelists  []*FilelistsPackage // nil when the repository has none
	Other      []*OtherPackage     // nil when the repository has none
	Updateinfo []byte              // decompressed; nil when the repository has none
}

// Bounds of a data file, stored and decompressed. An index of 50,000 packages
// has about 250 MB decompressed.
const (
	maxStored = 1 << 30
	maxOpen   = 4 << 30
	// maxUpdateinfo is smaller, because updateinfo is kept as bytes.
	maxUpdateinfo = 256 << 20
)

// ReadRepo reads a repository. open gives its files by their path relative to
// the folder that holds repodata/, for instance "repodata/repomd.xml".
//
// Every file that repomd.xml names is checked by size and checksum, then
// decompressed (zstd, gzip or xz, told by content) and checked again; primary,
// filelists, other and updateinfo are parsed, and the first three must tell of
// the same packages. Files of other types are only checked as stored.
//
// Signatures are the caller's: check RepomdXML. Errors name the file: errs.Denied
// when bytes are not those that repomd.xml states, errs.Invalid when something
// is malformed; those of open pass with their kind.
func ReadRepo(open func(name string) (io.ReadCloser, error)) (*Repo, error) {
	const repomdName = "repodata/repomd.xml"
	raw, err := readAll(open, repomdName, maxRepomd)
	if err != nil {
		return nil, err
	}
	md, err := ReadRepomd(raw)
	if err != nil {
		return nil, err
	}
	repo := &Repo{RepomdXML: raw, Repomd: md}
	if _, ok := md.Record("primary"); !ok {
		return nil, errs.E(errs.Invalid, repomdName+" names no primary.xml", hintAgain)
	}
	for _, rec := range md.Records {
		if err := repo.read(open, rec); err != nil {
			return nil, errs.Wrap(err, "%s", rec.Href)
		}
	}
	return repo, repo.checkSame()
}

func (repo *Repo) read(open func(string) (io.ReadCloser, error), rec Record) error {
	limit := int64(maxStored)
	if rec.Size >= 0 {
		limit = min(limit, rec.Size)
	}
	data, err := readAll(open, rec.Href, limit)
	if err != nil {
		return err
	}
	if rec.Size >= 0 && int64(len(data)) != rec.Size {
		return errs.E(errs.Denied, fmt.Sprintf("%d bytes, but repomd.xml states %d", len(data), rec.Size), hintTampered)
	}
	h := hashes[rec.Checksum.Type]()
	h.Write(data)
	if sum := hex.EncodeToString(h.Sum(nil)); sum != rec.Checksum.Value {
		return errs.E(errs.Denied, fmt.Sprintf("checksum %s, but repomd.xml states %s", sum, rec.Checksum), hintTampered)
	}
	var parse func(io.Reader) error
	switch rec.Type {
	case "primary":
		parse = func(r io.Reader) error { return ReadPrimary(r, collect(&repo.Primary)) }
	case "filelists":
		parse = func(r io.Reader) error { return ReadFilelists(r, collect(&repo.Filelists)) }
	case "other":
		parse = func(r io.Reader) error { return ReadOther(r, collect(&repo.Other)) }
	case "updateinfo":
		parse = func(r io.Reader) error {
			b, err := io.ReadAll(io.LimitReader(r, maxUpdateinfo+1))
			if err != nil {
				return errs.E(errs.Invalid, "decompressing", err)
			}
			if len(b) > maxUpdateinfo {
				return errs.Ef(errs.Invalid, "more than %d bytes", maxUpdateinfo)
			}
			repo.Updateinfo = b
			return checkUpdateinfo(b)
		}
	default:
		return nil
	}
	return readOpen(data, rec, parse)
}

const (
	hintAgain    = errs.Hint("make the metadata again")
	hintTampered = errs.Hint("the file was changed, or the copy is not complete: fetch the repository again, or publish it again")
)

func collect[P any](to *[]*P) func(*P) error {
	*to = []*P{}
	return func(p *P) error {
		*to = append(*to, p)
		return nil
	}
}

// readOpen decompresses data through parse and checks what came out.
func readOpen(data []byte, rec Record, parse func(io.Reader) error) error {
	r, err := decompress(data)
	if err != nil {
		return errs.E(errs.Invalid, "not zstd, gzip, xz or XML", err)
	}
	defer r.Close()
	limit := int64(maxOpen)
	if rec.OpenSize >= 0 {
		limit = min(limit, rec.OpenSize)
	}
	counted := &limited{r: r, left: limit}
	in, sum := io.Reader(counted), hash.Hash(nil)
	if newHash := hashes[rec.OpenChecksum.Type]; newHash != nil {
		sum = newHash()
		in = io.TeeReader(in, sum)
	}
	if err := parse(in); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return errs.E(errs.Invalid, "decompressing", err)
	}
	if rec.OpenSize >= 0 && counted.left != 0 {
		return errs.E(errs.Denied, fmt.Sprintf("%d bytes decompressed, but repomd.xml states %d", limit-counted.left, rec.OpenSize), hintTampered)
	}
	if sum != nil && hex.EncodeToString(sum.Sum(nil)) != rec.OpenChecksum.Value {
		return errs.E(errs.Denied, fmt.Sprintf("checksum %x decompressed, but repomd.xml states %s", sum.Sum(nil), rec.OpenChecksum), hintTampered)
	}
	return nil
}

// limited gives errs.Denied when there is more than left.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	if int64(n) > l.left {
		return int(l.left), errs.E(errs.Denied, "more bytes than repomd.xml states, or than are allowed", hintTampered)
	}
	l.left -= int64(n)
	return n, err
}

func decompress(data []byte) (io.ReadCloser, error) {
	r := bytes.NewReader(data)
	switch {
	case bytes.HasPrefix(data, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		return gzip.NewReader(r)
	case bytes.HasPrefix(data, []byte("\xfd7zXZ\x00")):
		x, err := xz.NewReader(bufio.NewReader(r))
		return io.NopCloser(x), err
	case bytes.HasPrefix(bytes.TrimLeft(data[:min(len(data), 64)], " \t\r\n\ufeff"), []byte("<")):
		return io.NopCloser(r), nil
	}
	return nil, errs.Ef(errs.Invalid, "unknown compression")
}

func readAll(open func(string) (io.ReadCloser, error), name string, limit int64) ([]byte, error) {
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, errs.E(errs.Unavailable, "reading "+name, err)
	}
	if int64(len(b)) > limit {
		return nil, errs.E(errs.Denied, fmt.Sprintf("%s has more than %d bytes", name, limit), hintTampered)
	}
	return b, nil
}

// checkSame compares the packages of filelists and other with those of primary.
func (repo *Repo) checkSame() error {
	want := identities(repo.Primary, func(p *PrimaryPackage) Identity { return p.Identity })
	if repo.Filelists != nil {
		if err := sameIdentities("filelists.xml", identities(repo.Filelists, func(p *FilelistsPackage) Identity { return p.Identity }), want); err != nil {
			return err
		}
	}
	if repo.Other != nil {
		return sameIdentities("other.xml", identities(repo.Other, func(p *OtherPackage) Identity { return p.Identity }), want)
	}
	return nil
}

func identities[P any](packages []*P, id func(*P) Identity) []Identity {
	out := make([]Identity, len(packages))
	for i, p := range packages {
		out[i] = id(p)
	}
	return out
}

func sameIdentities(file string, got, want []Identity) error {
	left := make(map[Identity]int, len(want))
	for _, id := range want {
		left[id]++
	}
	for _, id := range got {
		if left[id]--; left[id] < 0 {
			return errs.E(errs.Invalid, fmt.Sprintf("%s has the package %s (%s), which primary.xml has not", file, id.NEVRA(), id.PkgID), hintAgain)
		}
	}
	for _, id := range want {
		if left[id] > 0 {
			return errs.E(errs.Invalid, fmt.Sprintf("%s lacks the package %s (%s) of primary.xml", file, id.NEVRA(), id.PkgID), hintAgain)
		}
	}
	return nil
}
