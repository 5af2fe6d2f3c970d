package tlog

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/store"
)

// File is a file that a statement answers for.
type File struct {
	Path   string        `json:"path"` // in the publication
	SHA256 distro.Digest `json:"digest"`
}

// record is the file's entry of the statement's tree: a line as sha256sum writes it.
func (f File) record() []byte { return []byte(f.SHA256.Hex() + "  " + f.Path + "\n") }

// FileProof proves that a file is one of those with a certain root.
type FileProof struct {
	File  File        `json:"file"`
	Index int64       `json:"index"`
	Of    int64       `json:"of"`
	Path  []tlog.Hash `json:"hashes"`
}

// sorted gives the records by path. Two files of one path are errs.Conflict.
func sorted(files []File) ([]File, [][]byte, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	records := make([][]byte, len(files))
	for i, f := range files {
		if err := store.CheckName(f.Path); err != nil {
			return nil, nil, err
		}
		if _, err := distro.ParseDigest(string(f.SHA256)); err != nil {
			return nil, nil, errs.Wrap(err, "%s", f.Path)
		}
		if i > 0 && files[i-1].Path == f.Path {
			return nil, nil, errs.Ef(errs.Conflict, "%s is listed twice", f.Path)
		}
		records[i] = f.record()
	}
	return files, records, nil
}

// Root gives the Merkle root of files, in any order: RFC 6962's tree over their
// lines, sorted by path.
func Root(files []File) (distro.Digest, error) {
	_, records, err := sorted(files)
	if err != nil {
		return "", err
	}
	h, err := hashAll(records)
	if err != nil {
		return "", err
	}
	r, err := h.root(int64(len(records)))
	return distro.DigestFromSum(r[:]), err
}

// Prove proves the file of that path among files; errs.NotFound when it is none.
func Prove(files []File, path string) (FileProof, error) {
	files, records, err := sorted(files)
	if err != nil {
		return FileProof{}, err
	}
	i, ok := slices.BinarySearchFunc(files, path, func(f File, p string) int { return strings.Compare(f.Path, p) })
	if !ok {
		return FileProof{}, errs.E(errs.NotFound, path+" is no file of this statement")
	}
	h, err := hashAll(records)
	if err != nil {
		return FileProof{}, err
	}
	p, err := tlog.ProveRecord(int64(len(files)), int64(i), h)
	return FileProof{File: files[i], Index: int64(i), Of: int64(len(files)), Path: p}, errs.Wrap(err, "prove %s", path)
}

// CheckFile checks a proof against the root in a statement; errs.Denied when it
// does not lead there.
func CheckFile(p FileProof, root distro.Digest) error {
	want, err := digestHash(root)
	if err != nil {
		return err
	}
	if _, err := distro.ParseDigest(string(p.File.SHA256)); err != nil {
		return err
	}
	if p.Of < 1 || p.Index < 0 || p.Index >= p.Of || tlog.CheckRecord(p.Path, p.Of, want, p.Index, tlog.RecordHash(p.File.record())) != nil {
		return errs.E(errs.Denied, fmt.Sprintf("%s with the digest %s is not what the release statement answers for", p.File.Path, p.File.SHA256))
	}
	return nil
}

func digestHash(d distro.Digest) (h tlog.Hash, err error) {
	if _, err := distro.ParseDigest(string(d)); err != nil {
		return h, err
	}
	b, err := hex.DecodeString(d.Hex())
	copy(h[:], b)
	return h, err
}
