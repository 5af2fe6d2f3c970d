package hashdb

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

func benchHash(n int) string { return fmt.Sprintf("%016x%048x", uint64(n)*0x9e3779b97f4a7c15, n) }

// BenchmarkReport is a report of a new task, 64 at a time, into 1e5 rows.
func BenchmarkReport(b *testing.B) {
	d, err := Open(filepath.Join(b.TempDir(), "h.db"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	var rows []Row
	for i := range 100_000 {
		rows = append(rows, Row{Method: "m", Taskhash: benchHash(i), Outhash: benchHash(i + 1<<40), Unihash: benchHash(i), Created: time.UnixMicro(int64(i))})
	}
	for len(rows) > 0 {
		if err := d.Insert(b.Context(), rows[:5000]...); err != nil {
			b.Fatal(err)
		}
		rows = rows[5000:]
	}
	d.WaitIndex()
	var n atomic.Int64
	n.Store(1 << 32)
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := int(n.Add(1))
			if _, err := d.Report(b.Context(), "m", benchHash(i), benchHash(i+1<<40), benchHash(i), Extra{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
