package hashserv

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"slipway/internal/asyncrpc"
	"slipway/internal/hashserv/hashdb"
)

// upstream is another server, asked for what is not known here.
type upstream struct {
	*asyncrpc.Pool
	asked, found atomic.Int64
}

func newUpstream(addr string, deadline time.Duration, log *slog.Logger) *upstream {
	return &upstream{Pool: asyncrpc.NewPool(addr, Protocol, "1.1", deadline, log)}
}

// stream asks about lines, in one round trip.
func (u *upstream) stream(ctx context.Context, command string, lines [][]byte, each func(int, []byte) error) error {
	u.asked.Add(int64(len(lines)))
	return u.Do(ctx, func(ctx context.Context, c *asyncrpc.Client) error {
		return c.Stream(ctx, command, lines, func(i int, b []byte) error {
			if len(b) > 0 && string(b) != "false" {
				u.found.Add(1)
			}
			return each(i, b)
		})
	})
}

// answer is what a server says of a task or an output.
type answer struct {
	Method, Taskhash, Unihash, Outhash string
	Created                            string
	Owner, PN, PV, PR, Task            *string
	Siginfo                            *string `json:"outhash_siginfo"`
}

// row asks for a row; nil when the upstream has none.
func (u *upstream) row(ctx context.Context, command string, r any) (*hashdb.Row, error) {
	u.asked.Add(1)
	var raw json.RawMessage
	if err := u.Do(ctx, func(ctx context.Context, c *asyncrpc.Client) error { return c.Invoke(ctx, command, r, &raw) }); err != nil {
		return nil, err
	}
	var a *answer
	if err := json.Unmarshal(raw, &a); err != nil || a == nil {
		return nil, nil
	}
	u.found.Add(1)
	row := &hashdb.Row{Method: a.Method, Taskhash: a.Taskhash, Outhash: a.Outhash, Unihash: a.Unihash}
	for _, f := range []struct {
		from *string
		to   *string
	}{{a.Owner, &row.Owner}, {a.PN, &row.PN}, {a.PV, &row.PV}, {a.PR, &row.PR}, {a.Task, &row.Task}, {a.Siginfo, &row.Siginfo}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	row.Created = parseTime(a.Created)
	return row, nil
}

// parseTime reads the times of all BitBake versions: older ones have no zone.
func parseTime(s string) time.Time {
	for _, f := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999", "2006-01-02T15:04:05.999999"} {
		if t, err := time.ParseInLocation(f, s, time.Local); err == nil {
			return t
		}
	}
	return time.Unix(0, 0)
}

func (u *upstream) metrics() []asyncrpc.Metric {
	absent := 0.0
	if u.Absent() {
		absent = 1
	}
	m := func(name, kind, help string, v float64) asyncrpc.Metric {
		return asyncrpc.Metric{Name: "slipway_hashserv_upstream_" + name, Help: help, Kind: kind, Value: v}
	}
	return []asyncrpc.Metric{
		m("asked_total", "counter", "questions to the upstream", float64(u.asked.Load())),
		m("found_total", "counter", "of them answered with something", float64(u.found.Load())),
		m("failed_total", "counter", "times that the upstream did not answer", float64(u.Failed())),
		m("skipped_total", "counter", "times that it was not asked because it had not answered", float64(u.Skipped())),
		m("absent", "gauge", "1: it does not answer, answers are local", absent),
	}
}

// valid reports whether a unihash of the upstream may be passed on.
func (s *Server) valid(unihash string) bool {
	return hashdb.ValidUnihash(unihash) || s.AnyUnihash && unihash != ""
}

// fetchUnihash asks the upstream for a task's unihash and keeps it. No answer is
// no unihash.
func (s *Server) fetchUnihash(ctx context.Context, method, task string) (string, error) {
	row, err := s.up.row(ctx, "get", map[string]any{"method": method, "taskhash": task, "all": false})
	if err != nil || row == nil || !s.valid(row.Unihash) {
		return "", ctx.Err()
	}
	return row.Unihash, s.DB.Insert(ctx, hashdb.Row{Method: method, Taskhash: task, Unihash: row.Unihash})
}

// fetchRow asks the upstream for a row and keeps it.
func (s *Server) fetchRow(ctx context.Context, command string, r any) (*hashdb.Row, error) {
	row, err := s.up.row(ctx, command, r)
	if err != nil || row == nil || row.Method == "" || row.Taskhash == "" || !s.valid(row.Unihash) {
		return nil, ctx.Err()
	}
	return row, s.DB.Insert(ctx, *row)
}

// backfill stores what the upstream answered, behind.
type backfill struct {
	db   Database
	log  *slog.Logger
	wake chan struct{}

	mu    sync.Mutex
	queue []hashdb.Row
	idle  chan struct{} // closed when the queue is empty and stored
	busy  bool
}

// maxQueue bounds the queue; what does not fit will be asked again.
const maxQueue = 1 << 20

func newBackfill(db Database, log *slog.Logger) *backfill {
	return &backfill{db: db, log: log, wake: make(chan struct{}, 1)}
}

func (b *backfill) put(r hashdb.Row) {
	b.mu.Lock()
	if len(b.queue) < maxQueue {
		b.queue = append(b.queue, r)
	}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *backfill) length() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue)
}

// wait returns when all that was queued before is stored.
func (b *backfill) wait(ctx context.Context) {
	b.mu.Lock()
	if len(b.queue) == 0 && !b.busy {
		b.mu.Unlock()
		return
	}
	if b.idle == nil {
		b.idle = make(chan struct{})
	}
	idle := b.idle
	b.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

func (b *backfill) run(ctx context.Context) {
	for {
		b.mu.Lock()
		n := min(len(b.queue), 500)
		rows := b.queue[:n:n]
		b.queue = b.queue[n:]
		b.busy = n > 0
		if n == 0 {
			b.queue = nil
			if b.idle != nil {
				close(b.idle)
				b.idle = nil
			}
		}
		b.mu.Unlock()
		if n == 0 {
			select {
			case <-b.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		// Not the server's context: what is queued is stored before it ends.
		if err := b.db.Insert(context.WithoutCancel(ctx), rows...); err != nil {
			b.log.Error("store answers of the upstream", "error", err)
		}
	}
}
