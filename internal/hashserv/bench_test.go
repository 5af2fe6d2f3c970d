package hashserv

import (
	"context"
	"path/filepath"
	"testing"

	"slipway/internal/asyncrpc"
	"slipway/internal/hashserv/hashdb"
)

// BenchmarkGetStream is one line of a pipelined get-stream over TCP, with the
// client's work.
func BenchmarkGetStream(b *testing.B) {
	d, err := hashdb.Open(filepath.Join(b.TempDir(), "h.db"), hashdb.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	var rows []hashdb.Row
	var lines [][]byte
	for i := range 20_000 {
		rows = append(rows, hashdb.Row{Method: "oe.sstatesig.OEOuthashBasic", Taskhash: h(i), Unihash: h(i)})
		lines = append(lines, []byte("oe.sstatesig.OEOuthashBasic "+h(i)))
	}
	if err := d.Insert(b.Context(), rows...); err != nil {
		b.Fatal(err)
	}
	d.WaitIndex()
	s, err := New(b.Context(), Options{DB: d})
	if err != nil {
		b.Fatal(err)
	}
	l, err := asyncrpc.Listen(b.Context(), "127.0.0.1:0", false)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	defer func() { cancel(); <-done }()
	c, err := asyncrpc.Dial(b.Context(), l.Address(), Protocol, "1.1")
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for n := 0; n < b.N; n += 1000 {
		at := n % 20_000
		if err := c.Stream(context.Background(), "get-stream", lines[at:at+1000], func(int, []byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
