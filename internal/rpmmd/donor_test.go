package rpmmd

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
)

// What a donor gives decides no byte: the index is the one that is made from the
// packages, and only packages of frames that differ are read.
func TestADonorDecidesNoByte(t *testing.T) {
	t.Parallel()
	names := list(0, 1000)
	slices.Sort(names)
	items := func(href string, names []string) func(func(Item) bool) {
		return func(yield func(Item) bool) {
			for _, n := range names {
				if !yield(Item{ID: n, Href: href + n + ".rpm", Cut: n}) {
					return
				}
			}
		}
	}
	var mu sync.Mutex
	loaded := 0
	load := func(_ context.Context, it Item) (Entry, error) {
		mu.Lock()
		loaded++
		mu.Unlock()
		return entry(it.ID, "1-1", "noarch"), nil
	}
	options := Options{Revision: "1", Timestamp: 1_700_000_000}
	twin := &Twin{From: "../../../", To: "../../"}
	other, err := Update{Options: options, Load: load, Twin: twin, NoOpenChecksum: true}.Do(t.Context(), items(twin.From, names))
	if err != nil {
		t.Fatal(err)
	}
	inserted := slices.Insert(slices.Clone(names), 500, "between")
	turned := slices.Clone(names)
	slices.Reverse(turned)
	for what, tt := range map[string]struct {
		names   []string
		atLeast int // packages that are read
		atMost  int
		href    string
	}{
		"the same":             {names, 0, 0, twin.To},
		"one more":             {inserted, 1, 3 * maxFrame, twin.To},
		"fewer":                {names[:300], 0, maxFrame, twin.To},
		"another order":        {turned, 900, 1000, twin.To},
		"hrefs of another":     {names, 1000, 1000, "../"},
		"hrefs of its own":     {names, 1000, 1000, twin.From},
		"nothing of it at all": {list(5000, 5100), 100, 100, twin.To},
	} {
		for _, noOpen := range []bool{false, true} {
			u := Update{Options: options, Load: load, NoOpenChecksum: noOpen}
			want, err := u.Do(t.Context(), items(tt.href, tt.names))
			if err != nil {
				t.Fatal(err)
			}
			loaded = 0
			u.Donor = &Donor{Index: other, Twin: twin}
			got, err := u.Do(t.Context(), items(tt.href, tt.names))
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if loaded < tt.atLeast || loaded > tt.atMost {
				t.Errorf("%s: %d packages were read, want %d to %d", what, loaded, tt.atLeast, tt.atMost)
			}
			if !bytes.Equal(got.Repomd, want.Repomd) || !bytes.Equal(got.State.Encode(nil), want.State.Encode(nil)) {
				t.Errorf("%s: another repomd.xml, or another state", what)
			}
			for i := range want.Files {
				a, b := all(t, want.Files[i]), all(t, got.Files[i])
				if !bytes.Equal(a, b) {
					t.Errorf("%s: another %s", what, want.Files[i].Type)
				}
			}
		}
	}
	if _, err := (Update{Options: options, Load: load, Donor: &Donor{Index: &Index{}, Twin: twin}}).Do(t.Context(), items("", names)); err == nil || !strings.Contains(err.Error(), "no donor") {
		t.Errorf("an index without a twin: %v", err)
	}
}

func all(t *testing.T, f *DataFile) []byte {
	t.Helper()
	b, err := io.ReadAll(f.Reader())
	if err != nil {
		t.Fatal(err)
	}
	r := f.readerAt()
	for _, at := range []int{0, 1, len(b) / 2, len(b) - 1} {
		piece := make([]byte, min(5000, len(b)-at))
		if n, err := r.ReadAt(piece, int64(at)); n != len(piece) || !bytes.Equal(piece, b[at:at+n]) {
			t.Fatalf("ReadAt %d gives other bytes, or %d of %d: %v", at, n, len(piece), err)
		}
	}
	if n, err := r.ReadAt(make([]byte, 10), int64(len(b)-3)); n != 3 || err != io.EOF {
		t.Fatalf("ReadAt over the end gives %d bytes, %v", n, err)
	}
	return b
}
