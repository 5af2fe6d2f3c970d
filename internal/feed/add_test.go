package feed

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
	"slipway/internal/sign"
	"slipway/internal/store"
)

// Packages that are added together are what each would be alone, in any number; a
// repetition changes nothing, and one that is not what was tested is named.
func TestAddPackages(t *testing.T) {
	b := setup(t)
	open := 0
	var list []Unsigned
	var want []distro.PackageRecord
	for i := range 2*maxAddition + 3 {
		r, file := b.pkg(fmt.Sprintf("p%d", i), "1.0", "x")
		if i%50 == 0 {
			alone, err := b.p.AddPackage(t.Context(), r, bytes.NewReader(file), int64(len(file)), testStart)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, alone)
		}
		list = append(list, Unsigned{r, func(context.Context) (store.Blob, error) {
			open++
			return counted{bytes.NewReader(file), int64(len(file)), &open}, nil
		}})
	}
	got, err := b.p.AddPackages(t.Context(), list, testStart)
	if err != nil || len(got) != len(list) {
		t.Fatalf("%d records of %d, %v", len(got), len(list), err)
	}
	for i := range want {
		if diff := cmp.Diff(want[i], got[50*i]); diff != "" {
			t.Errorf("alone and with others: %s", diff)
		}
	}
	again, err := b.p.AddPackages(t.Context(), list, testStart)
	if diff := cmp.Diff(got, again); err != nil || diff != "" {
		t.Errorf("again: %v %s", err, diff)
	}
	keys, err := sign.ParsePublic(b.key.PublicArmored())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range got {
		f, err := b.tree.Open(t.Context(), b.p.Layout.Package(r))
		if err != nil {
			t.Fatal(err)
		}
		p, err := rpm.Read(f, f.Size(), r.File)
		if err != nil {
			t.Fatal(err)
		}
		header := make([]byte, p.HeaderEnd-p.HeaderStart)
		if _, err := f.ReadAt(header, p.HeaderStart); err != nil {
			t.Fatal(err)
		}
		if len(p.Signatures) != 1 {
			t.Fatalf("%s: %d signatures", r.File, len(p.Signatures))
		}
		if _, err := sign.Verify(keys, bytes.NewReader(header), p.Signatures[0].Data); err != nil {
			t.Errorf("%s: %v", r.File, err)
		}
		if sum, err := store.Hash(f); err != nil || sum != r.Digest || f.Size() != r.Size {
			t.Errorf("%s: %s, the record says %s, %v", r.File, sum, r.Digest, err)
		}
		remembered, err := b.p.header(t.Context(), b.p.Layout.Package(r))
		if diff := cmp.Diff(p, remembered); err != nil || diff != "" {
			t.Errorf("%s: what is remembered is not what was written: %v %s", r.File, err, diff)
		}
		f.Close()
	}
	list[maxAddition+1].Record.HeaderDigest = distro.DigestOf([]byte("another"))
	if _, err := b.p.AddPackages(t.Context(), list, testStart); !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), list[maxAddition+1].Record.File) {
		t.Errorf("a package that was not tested: %v", err)
	}
	if open != 0 {
		t.Errorf("%d files were not closed", open)
	}
	if none, err := b.p.AddPackages(t.Context(), nil, testStart); err != nil || len(none) != 0 {
		t.Errorf("none: %v, %v", none, err)
	}
}

// counted is a file in memory that counts when it is closed.
type counted struct {
	*bytes.Reader
	size int64
	open *int
}

func (c counted) Size() int64  { return c.size }
func (c counted) Close() error { *c.open--; return nil }
