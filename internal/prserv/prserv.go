// Package prserv is BitBake's PR server: the protocol PRSERVICE 1.0 over package
// asyncrpc, answered from a database of package prdb.
//
// A build asks it, for each package, which number the output of its task has
// (get-pr). Clients of BitBake 2.0 to 2.19 are served by one server. With an
// upstream the server gives numbers below those of the upstream (3.0, 3.1 under
// 3) and never creates anything there. docs/prserv.md is the user's page.
package prserv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"slipway/internal/asyncrpc"
	"slipway/internal/errs"
	"slipway/internal/prserv/prdb"
)

// Protocol and Version are what a client says first.
const (
	Protocol = "PRSERVICE"
	Version  = "1.0"
)

// Database is what a server answers from: a file (prdb.DB), or PostgreSQL
// (prpg.DB). What each method promises is said at prdb.DB.
type Database interface {
	Get(ctx context.Context, version, pkgarch, checksum string, history bool) (string, error)
	Find(ctx context.Context, version, pkgarch, checksum string, history bool) (string, error)
	Max(ctx context.Context, version, pkgarch string) (string, error)
	Decide(ctx context.Context, version, pkgarch, checksum string, fn func(prdb.Known) string) (string, error)
	Put(ctx context.Context, rows ...prdb.Row) error
	Rows(ctx context.Context, version, pkgarch, checksum string, history bool) ([]prdb.Row, error)
	// Writes counts transactions written, and says when the last one was: zero for none.
	Writes() (n int64, last time.Time)
	// Name is the file, or the address of the database without its password.
	Name() string
}

// Options of a [Server].
type Options struct {
	DB               Database
	ReadOnly         bool
	Upstream         string        // HOST:PORT of another PR server, "" for none
	UpstreamDeadline time.Duration // for its answers: 5 s
	// Offset is the first number of a package, 0 for BitBake's 0: numbers of a server
	// of one's own that stay above those of an official one.
	Offset int
	Log    *slog.Logger // nil: silent
	Limits asyncrpc.Limits
}

// Server answers clients from a database.
type Server struct {
	Options
	rpc *asyncrpc.Server
	up  *asyncrpc.Pool
}

// New makes a server.
func New(o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{Options: o}
	switch {
	case o.Offset < 0 || o.Offset > maxOffset:
		return nil, errs.E(errs.Invalid, fmt.Sprintf("offset %d", o.Offset), errs.Hintf("0 to %d", maxOffset))
	case o.Offset > 0 && o.Upstream != "":
		return nil, errs.E(errs.Invalid, "an offset and an upstream: numbers below the upstream's need none", errs.Hint("leave out --offset; it is for releases that do not know PRSERV_UPSTREAM"))
	}
	if o.Upstream != "" {
		if a, err := asyncrpc.ParseAddress(o.Upstream); err != nil || a.Kind != "tcp" {
			return nil, errs.E(errs.Invalid, fmt.Sprintf("upstream %q", o.Upstream), errs.Hint("HOST:PORT of a PR server"))
		}
		s.up = asyncrpc.NewPool(o.Upstream, Protocol, Version, o.UpstreamDeadline, o.Log)
	}
	s.rpc = asyncrpc.NewServer(asyncrpc.Protocol{
		Name:    Protocol,
		Accepts: func(major, minor int) bool { return major == 1 && minor == 0 },
		New:     func(*asyncrpc.Conn) asyncrpc.Session { return session{s} },
		Log:     o.Log, Limits: o.Limits,
	})
	return s, nil
}

// Serve answers clients until ctx is done. The database stays open.
func (s *Server) Serve(ctx context.Context, listeners ...*asyncrpc.Listener) error {
	if s.up != nil {
		defer s.up.Close()
	}
	return s.rpc.Serve(ctx, listeners...)
}

// Metrics are the server's numbers.
func (s *Server) Metrics() []asyncrpc.Metric {
	c := s.rpc.Counts()
	commits, last := s.DB.Writes()
	m := func(name, kind, help string, v float64) asyncrpc.Metric {
		return asyncrpc.Metric{Name: "slipway_prserv_" + name, Help: help, Kind: kind, Value: v}
	}
	list := []asyncrpc.Metric{
		m("connections", "gauge", "open connections", float64(c.Open)),
		m("connections_total", "counter", "connections since the start", float64(c.Total)),
		m("connections_refused_total", "counter", "connections over the limit", float64(c.Refused)),
		m("requests_total", "counter", "requests since the start", float64(c.Messages)),
		m("commits_total", "counter", "transactions written", float64(commits)),
	}
	if !last.IsZero() {
		list = append(list, m("last_write_age_seconds", "gauge", "time since the last transaction", time.Since(last).Seconds()))
	}
	if s.up != nil {
		list = append(list, m("upstream_failed_total", "counter", "times that the upstream did not answer", float64(s.up.Failed())))
	}
	return list
}

type session struct{ s *Server }

func (session) Close() {}

// request is what any command may say.
type request struct {
	Version, Pkgarch, Checksum *string
	History                    *bool // absent: a client before 2.10
	Colinfo                    bool
	Value                      json.RawMessage
}

var errBad = errs.E(errs.Invalid, "a message that is not understood")

// commands in the order in which a message with several is looked at, with how
// many of version, pkgarch and checksum each needs.
var commands = []struct {
	name  string
	needs int
	do    func(session, context.Context, request) (any, error)
}{
	{"ping", 0, func(session, context.Context, request) (any, error) { return map[string]bool{"alive": true}, nil }},
	{"get-pr", 3, session.getPR},
	{"test-pr", 3, session.testPR},
	{"test-package", 2, session.testPackage},
	{"max-package-pr", 2, session.maxPackagePR},
	{"import-one", 3, session.importOne},
	{"export", 0, session.export},
	{"is-readonly", 0, func(x session, _ context.Context, _ request) (any, error) {
		return map[string]bool{"readonly": x.s.ReadOnly}, nil
	}},
}

// Handle answers one message.
func (x session) Handle(ctx context.Context, msg map[string]json.RawMessage) (any, error) {
	for _, c := range commands {
		raw, ok := msg[c.name]
		if !ok {
			continue
		}
		var r request
		if err := json.Unmarshal(raw, &r); err != nil {
			return nil, errBad
		}
		if c.needs > 0 && (r.Version == nil || r.Pkgarch == nil) || c.needs > 2 && r.Checksum == nil {
			return nil, errBad
		}
		return c.do(x, ctx, r)
	}
	return nil, errBad
}

func (r *request) history() bool { return r.History != nil && *r.History }

// typed gives a value in the type that the client knows: a number before 2.10.
func (r *request) typed(value string) any {
	switch {
	case value == "":
		return nil
	case r.History == nil && prdb.Valid(value) && json.Valid([]byte(value)):
		return json.RawMessage(value)
	}
	return value
}

func (r *request) answer(value string) any { return map[string]any{"value": r.typed(value)} }

func (x session) getPR(ctx context.Context, r request) (any, error) {
	var value string
	var err error
	if x.s.Offset > 0 {
		value, err = x.s.above(ctx, *r.Version, *r.Pkgarch, *r.Checksum, r.history())
	} else if x.s.up == nil {
		value, err = x.s.DB.Get(ctx, *r.Version, *r.Pkgarch, *r.Checksum, r.history())
	} else {
		value, err = x.s.below(ctx, *r.Version, *r.Pkgarch, *r.Checksum, r.history())
	}
	return r.answer(value), err
}

func (x session) testPR(ctx context.Context, r request) (any, error) {
	value, err := x.s.DB.Find(ctx, *r.Version, *r.Pkgarch, *r.Checksum, r.history())
	return r.answer(value), err
}

func (x session) testPackage(ctx context.Context, r request) (any, error) {
	value, err := x.s.DB.Max(ctx, *r.Version, *r.Pkgarch)
	return map[string]bool{"value": value != ""}, err
}

func (x session) maxPackagePR(ctx context.Context, r request) (any, error) {
	// No client before 2.10 asks this, and an upstream's answer is put together
	// with text: always text.
	value, err := x.s.DB.Max(ctx, *r.Version, *r.Pkgarch)
	if value == "" {
		return map[string]any{"value": nil}, err
	}
	return map[string]any{"value": value}, err
}

func (x session) importOne(ctx context.Context, r request) (any, error) {
	if x.s.ReadOnly {
		return asyncrpc.Null, nil
	}
	var v any
	if err := json.Unmarshal(r.Value, &v); err != nil {
		return nil, errBad
	}
	value, isText := v.(string)
	if !isText {
		value = string(r.Value)
	}
	if !prdb.Valid(value) {
		return asyncrpc.Null, nil
	}
	// The answer has the type that was sent: clients compare the two.
	return map[string]any{"value": v}, x.s.DB.Put(ctx, prdb.Row{Version: *r.Version, Pkgarch: *r.Pkgarch, Checksum: *r.Checksum, Value: value})
}

// columns describes the table as BitBake does.
var columns = func() (list []map[string]any) {
	for i, name := range []string{"version", "pkgarch", "checksum", "value"} {
		notNull := 1
		if name == "value" {
			notNull = 0
		}
		list = append(list, map[string]any{"name": name, "type": "TEXT", "notnull": notNull, "dflt_value": nil, "pk": i + 1})
	}
	return list
}()

func (x session) export(ctx context.Context, r request) (any, error) {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	meta := map[string]any{}
	if r.Colinfo {
		meta = map[string]any{"tbl_name": "PRMAIN", "core_ver": "1.0.0", "col_info": columns}
	}
	rows, err := x.s.DB.Rows(ctx, text(r.Version), text(r.Pkgarch), text(r.Checksum), r.history())
	data := make([]map[string]any, len(rows))
	for i, row := range rows {
		data[i] = map[string]any{"version": row.Version, "pkgarch": row.Pkgarch, "checksum": row.Checksum, "value": r.typed(row.Value)}
	}
	return map[string]any{"metainfo": meta, "datainfo": data}, err
}

// ask asks the upstream for a value; "" for none.
func (s *Server) ask(ctx context.Context, command string, r map[string]any) (string, error) {
	var a struct{ Value any }
	err := s.up.Do(ctx, func(ctx context.Context, c *asyncrpc.Client) error { return c.Invoke(ctx, command, r, &a) })
	switch v := a.Value.(type) {
	case nil:
		return "", err
	case bool:
		if !v {
			return "", err
		}
	case float64: // a server before 2.10
		return fmt.Sprintf("%.0f", v), err
	case string:
		return v, err
	}
	return fmt.Sprint(a.Value), err
}

// maxOffset leaves room for numbers that BitBake 2.0 takes for integers, and rpm
// and dpkg compare.
const maxOffset = 1_000_000_000

// above gives a number when there is an offset: what is known keeps its number,
// also one below the offset, which was imported from the official server; a new
// one is the offset at least.
func (s *Server) above(ctx context.Context, version, pkgarch, checksum string, history bool) (string, error) {
	value, err := s.DB.Find(ctx, version, pkgarch, checksum, history)
	if err != nil || value != "" && history {
		return value, err
	}
	if value != "" {
		if top, err := s.DB.Max(ctx, version, pkgarch); err != nil || top == value {
			return value, err
		}
	}
	return s.DB.Decide(ctx, version, pkgarch, checksum, func(k prdb.Known) string {
		value, fresh := k.Choose(history)
		if first := strconv.Itoa(s.Offset); fresh && prdb.Compare(value, first) < 0 {
			return first
		}
		return value
	})
}

// below gives a number when there is an upstream: its numbers for what it knows,
// numbers below its greatest for the rest.
func (s *Server) below(ctx context.Context, version, pkgarch, checksum string, history bool) (string, error) {
	pkg := map[string]any{"version": version, "pkgarch": pkgarch}
	out := map[string]any{"version": version, "pkgarch": pkgarch, "checksum": checksum, "history": false}
	value, err := s.DB.Find(ctx, version, pkgarch, checksum, history)
	if err != nil || value != "" && history {
		return value, err
	}
	top, err := s.ask(ctx, "max-package-pr", pkg)
	if errors.Is(err, asyncrpc.ErrAbsent) {
		if value != "" {
			return s.DB.Get(ctx, version, pkgarch, checksum, history) // what was given before is never too low
		}
		return "", asyncrpc.Refusal("the upstream PR server " + s.Upstream + " does not answer: no number for " + version + ", it could be too low")
	}
	if err != nil {
		return "", err
	}
	if top == "" {
		// The upstream does not know the package: it is of this server alone.
		return s.DB.Get(ctx, version, pkgarch, checksum, history)
	}
	known, err := s.ask(ctx, "test-pr", out)
	if err != nil {
		return "", asyncrpc.Refusal("the upstream PR server " + s.Upstream + " does not answer")
	}
	return s.DB.Decide(ctx, version, pkgarch, checksum, func(k prdb.Known) string {
		value := k.Most
		if value == "" {
			if known == "" {
				return k.NextBelow(top)
			}
			return known
		}
		if prdb.Compare(value, k.Max) < 0 {
			value = prdb.Increase(k.Max)
		}
		if prdb.Compare(value, top) >= 0 {
			return value
		}
		if known == "" {
			return top + ".0"
		}
		return top
	})
}
