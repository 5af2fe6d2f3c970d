package hashdb

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
)

// What is in the file is found at any moment of the index's filling.
func TestLookupsWhileTheIndexFills(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "h.db")
	d, err := Open(path, Options{IndexBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	const rows = 3000
	var list []Row
	for i := range rows {
		list = append(list, Row{Method: "m", Taskhash: fmt.Sprintf("%064x", i), Unihash: fmt.Sprintf("%064x", i/2)})
	}
	if err := d.Insert(t.Context(), list...); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		d, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for g := range 2 {
			wg.Go(func() {
				// The last rows come last into the index.
				for i := rows - 1; !d.Index().Complete || i%97 != 0; i = (i + rows - 1 - g) % rows {
					if u, err := d.Unihash(t.Context(), "m", list[i].Taskhash); err != nil || u != list[i].Unihash {
						t.Errorf("%d: %q %v", i, u, err)
						return
					}
					if ok, err := d.Exists(t.Context(), []byte(list[i].Unihash)); err != nil || !ok {
						t.Errorf("%d does not exist: %v", i, err)
						return
					}
				}
			})
		}
		wg.Wait()
		d.Close()
	}
}
