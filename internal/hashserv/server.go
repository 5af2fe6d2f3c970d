package hashserv

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"slipway/internal/asyncrpc"
	"slipway/internal/errs"
	"slipway/internal/hashserv/hashdb"
)

// Protocol is the first word of a client.
const Protocol = "OEHASHEQUIV"

// Options of a [Server].
type Options struct {
	DB       Database
	ReadOnly bool
	// Base is what a fork began with: read, never written. nil for none.
	Base *hashdb.DB
	// Upstream is the address of another server, "" for none.
	Upstream         string
	UpstreamDeadline time.Duration // for its answers: 5 s
	// AnonPerms are the rights of who has not logged in. nil: @read, @report, @db-admin.
	AnonPerms []string
	// AdminUser, when set, is made at start with all rights and AdminPassword.
	AdminUser, AdminPassword string
	// AnyUnihash takes unihashes of any text, as BitBake did before June 2026.
	AnyUnihash bool
	Log        *slog.Logger // nil: silent
	Limits     asyncrpc.Limits
}

// Server answers clients from a database.
type Server struct {
	Options
	rpc      *asyncrpc.Server
	anon     permSet
	stats    stats
	up       *upstream
	backfill *backfill
	failing  failures
	tokens   chan struct{} // taken while a token is made
	hits     counters
}

// New makes a server. The admin user exists when it returns.
func New(ctx context.Context, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Upstream != "" && o.ReadOnly {
		return nil, errs.E(errs.Invalid, "a read-only server cannot keep what an upstream knows", errs.Hint("leave out --upstream or --read-only"))
	}
	if o.Upstream != "" {
		if _, err := asyncrpc.ParseAddress(o.Upstream); err != nil {
			return nil, err
		}
	}
	if o.AnonPerms == nil {
		o.AnonPerms = []string{permRead, permReport, permDBAdmin}
	}
	s := &Server{Options: o, tokens: make(chan struct{}, 1)}
	for _, p := range o.AnonPerms {
		switch p {
		case permNone:
		case permRead, permReport, permDBAdmin:
			s.anon |= permBit[p]
		default:
			return nil, errs.E(errs.Invalid, fmt.Sprintf("permission %q for anonymous clients", p), errs.Hint("they may have @none, @read, @report and @db-admin"))
		}
	}
	if (o.AdminUser == "") != (o.AdminPassword == "") {
		return nil, errs.E(errs.Invalid, "an admin user needs a name and a password", errs.Hint("give --admin-user and --admin-password, or neither"))
	}
	if o.AdminUser != "" {
		if err := o.DB.PutUser(ctx, hashdb.User{Name: o.AdminUser, Token: digest(newSalt(), o.AdminPassword), Permissions: []string{permAll}}); err != nil {
			return nil, errs.Wrap(err, "make the admin user %s", o.AdminUser)
		}
	}
	if o.Upstream != "" {
		s.up = newUpstream(o.Upstream, o.UpstreamDeadline, o.Log)
		s.backfill = newBackfill(o.DB, o.Log)
	}
	s.rpc = asyncrpc.NewServer(asyncrpc.Protocol{
		Name:    Protocol,
		Accepts: func(major, minor int) bool { return major == 1 && minor == 1 },
		New:     func(c *asyncrpc.Conn) asyncrpc.Session { return &session{s: s, c: c} },
		Log:     o.Log, Limits: o.Limits,
	})
	return s, nil
}

// Serve answers clients until ctx is done. The database stays open.
func (s *Server) Serve(ctx context.Context, listeners ...*asyncrpc.Listener) error {
	if s.backfill != nil {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { s.backfill.run(ctx); close(done) }()
		defer func() { cancel(); <-done; s.up.Close() }()
	}
	return s.rpc.Serve(ctx, listeners...)
}

// session is one connection.
type session struct {
	s    *Server
	c    *asyncrpc.Conn
	user *hashdb.User
}

func (*session) Close() {}

// request is the value of a command.
type request map[string]json.RawMessage

// command is how a message is answered.
type command struct {
	name     string
	readOnly bool // a read-only server knows it
	needs    permSet
	user     bool // anonymous rights don't count
	self     bool // a user may do it to itself
	do       func(*session, context.Context, request) (any, error)
}

// commands are in the order in which a message with several is looked at. Set in
// init because the functions and the table would else refer to each other.
var commands []command

func init() {
	commands = []command{
		{"ping", true, 0, false, false, (*session).ping},
		{"get", true, read, false, false, (*session).get},
		{"get-outhash", true, read, false, false, (*session).getOuthash},
		{"get-stream", true, read, false, false, (*session).getStream},
		{"exists-stream", true, read, false, false, (*session).existsStream},
		{"get-stats", true, read, false, false, (*session).getStats},
		{"get-db-usage", true, dbAdmin, false, false, (*session).usage},
		{"get-db-query-columns", true, dbAdmin, false, false, (*session).columns},
		{"report", true, read, false, false, (*session).report},
		{"auth", true, 0, false, false, (*session).auth},
		{"get-user", true, userAdmin, true, true, (*session).getUser},
		{"get-all-users", true, userAdmin, true, false, (*session).getAllUsers},
		{"become-user", true, userAdmin, true, false, (*session).becomeUser},
		{"report-equiv", false, read | reporting, false, false, (*session).reportEquiv},
		{"reset-stats", false, dbAdmin, false, false, (*session).resetStats},
		{"backfill-wait", false, read, false, false, (*session).backfillWait},
		{"remove", false, dbAdmin, false, false, (*session).remove},
		{"gc-mark", false, dbAdmin, false, false, (*session).gcMark},
		{"gc-mark-stream", false, dbAdmin, false, false, (*session).gcMarkStream},
		{"gc-sweep", false, dbAdmin, false, false, (*session).gcSweep},
		{"gc-status", false, dbAdmin, false, false, (*session).gcStatus},
		{"clean-unused", false, dbAdmin, false, false, (*session).cleanUnused},
		{"refresh-token", false, userAdmin, true, true, (*session).refreshToken},
		{"set-user-perms", false, userAdmin, true, false, (*session).setPerms},
		{"new-user", false, userAdmin, true, false, (*session).newUser},
		{"delete-user", false, userAdmin, true, true, (*session).deleteUser},
	}
}

// errBad closes the connection: the message makes no sense.
var errBad = errs.E(errs.Invalid, "a message that is not understood")

// Handle answers one message.
func (x *session) Handle(ctx context.Context, msg map[string]json.RawMessage) (any, error) {
	for i := range commands {
		c := &commands[i]
		raw, ok := msg[c.name]
		if !ok || x.s.ReadOnly && !c.readOnly {
			continue
		}
		var r request
		if err := json.Unmarshal(raw, &r); err != nil && !strings.HasSuffix(c.name, "-stream") {
			return nil, errBad
		}
		if err := x.allowed(c, r); err != nil {
			return nil, err
		}
		if strings.HasSuffix(c.name, "-stream") {
			return c.do(x, ctx, r)
		}
		start := time.Now()
		answer, err := c.do(x, ctx, r)
		x.s.stats.add(1, time.Since(start))
		return answer, err
	}
	return nil, errBad
}

// str gives a text that must be there.
func (r request) str(key string) (string, error) {
	var s *string
	if json.Unmarshal(r[key], &s) != nil || s == nil {
		return "", errBad
	}
	return *s, nil
}

// strs gives several.
func (r request) strs(keys ...string) ([]string, error) {
	out := make([]string, len(keys))
	for i, k := range keys {
		var err error
		if out[i], err = r.str(k); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// opt gives a text that may be absent or null.
func (r request) opt(key string) (string, error) {
	if v := r[key]; v == nil || string(v) == "null" {
		return "", nil
	}
	return r.str(key)
}

// flag gives a truth value, def when it is absent.
func (r request) flag(key string, def bool) (bool, error) {
	v, ok := r[key]
	if !ok {
		return def, nil
	}
	var b bool // null is false
	if json.Unmarshal(v, &b) != nil {
		return false, errBad
	}
	return b, nil
}

// where gives a condition. Nulls do not count; numbers are their text.
func where(raw json.RawMessage) (hashdb.Where, error) {
	var m map[string]any
	if json.Unmarshal(raw, &m) != nil || m == nil {
		return nil, errBad
	}
	w := hashdb.Where{}
	for k, v := range m {
		switch v := v.(type) {
		case nil:
		case string:
			w[k] = v
		case float64, bool:
			w[k] = fmt.Sprint(v)
		default:
			return nil, errBad
		}
	}
	return w, nil
}

// Stats are the server's times of answers, in seconds.
func (s *Server) Stats() map[string]float64 { return s.stats.values() }

// Metrics are the server's numbers.
func (s *Server) Metrics() []asyncrpc.Metric {
	var list []asyncrpc.Metric
	add := func(name, kind, help string, v float64) {
		list = append(list, asyncrpc.Metric{Name: "slipway_hashserv_" + name, Help: help, Kind: kind, Value: v})
	}
	c := s.rpc.Counts()
	st := s.stats.values()
	add("connections", "gauge", "open connections", float64(c.Open))
	add("connections_total", "counter", "connections since the start", float64(c.Total))
	add("connections_refused_total", "counter", "connections over the limit", float64(c.Refused))
	add("requests_total", "counter", "requests, lines of streams included, since the start or reset-stats", st["num"])
	add("request_seconds_total", "counter", "time spent on them", st["total_time"])
	add("request_seconds_max", "gauge", "the slowest of them", st["max_time"])
	add("hits_total", "counter", "lookups of a task that gave a unihash", float64(s.hits.hit.Load()))
	add("misses_total", "counter", "lookups of a task that gave none", float64(s.hits.miss.Load()))
	x := s.DB.Index()
	add("index_rows", "gauge", "rows in the index in memory", float64(x.Rows))
	add("index_bytes", "gauge", "memory of the index", float64(x.Bytes))
	complete := 0.0
	if x.Complete {
		complete = 1
	}
	add("index_complete", "gauge", "1: no lookup needs the file", complete)
	commits, last := s.DB.Writes()
	add("commits_total", "counter", "transactions written", float64(commits))
	if !last.IsZero() {
		add("last_write_age_seconds", "gauge", "time since the last transaction", time.Since(last).Seconds())
	}
	if s.up != nil {
		add("backfill_queue", "gauge", "answers of the upstream that are not stored yet", float64(s.backfill.length()))
		list = append(list, s.up.metrics()...)
	}
	slices.SortFunc(list, func(a, b asyncrpc.Metric) int { return strings.Compare(a.Name, b.Name) })
	return list
}
