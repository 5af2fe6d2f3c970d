package asyncrpc

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Metric is one number of a server, for Prometheus.
type Metric struct {
	Name  string // with its unit, as slipway_hashserv_index_bytes
	Help  string
	Kind  string // counter or gauge
	Value float64
}

// WriteMetrics writes numbers in Prometheus' text format.
func WriteMetrics(w io.Writer, list []Metric) {
	for _, m := range list {
		fmt.Fprintf(w, "# HELP %[1]s %[2]s\n# TYPE %[1]s %[3]s\n%[1]s %[4]v\n", m.Name, m.Help, m.Kind, m.Value)
	}
}

// ServeMetrics answers GET /metrics on an address until ctx is done.
func ServeMetrics(ctx context.Context, address string, numbers func() []Metric) error {
	l, err := listenTCP(ctx, address, false)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		WriteMetrics(w, numbers())
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second}
	go func() { <-ctx.Done(); srv.Close() }()
	go srv.Serve(l)
	return nil
}
