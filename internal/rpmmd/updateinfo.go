package rpmmd

import (
	"crypto/sha256"

	"slipway/internal/errs"
)

func (w *writer) updateinfo(suffix string) (*DataFile, error) {
	if err := checkUpdateinfo(w.Updateinfo); err != nil {
		return nil, err
	}
	stored, err := w.Compression.pack(w.Updateinfo)
	if err != nil {
		return nil, errs.E(errs.Internal, "compressing updateinfo.xml", err)
	}
	f := &DataFile{parts: []segment{{data: stored}}}
	sum, open := sha256.New(), sha256.New()
	sum.Write(stored)
	open.Write(w.Updateinfo)
	f.fill("updateinfo", suffix, sum, open, int64(len(stored)), int64(len(w.Updateinfo)), w.Timestamp)
	return f, nil
}
