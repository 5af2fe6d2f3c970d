package hashserv

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"time"

	"slipway/internal/asyncrpc"
	"slipway/internal/hashserv/hashdb"
)

func (x *session) ping(context.Context, request) (any, error) {
	return map[string]bool{"alive": true}, nil
}

// equivalence is the short answer about a task.
type equivalence struct {
	Taskhash string `json:"taskhash"`
	Method   string `json:"method"`
	Unihash  string `json:"unihash"`
}

// rowJSON is a row as clients see it: what is unset is null. Without a unihash it
// is one of the table of outputs alone.
func rowJSON(r *hashdb.Row, withUnihash bool) map[string]any {
	null := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	m := map[string]any{
		"id": r.Created.UnixMicro(), "method": r.Method, "taskhash": r.Taskhash, "outhash": r.Outhash, "created": hashdb.FormatTime(r.Created),
		"owner": null(r.Owner), "PN": null(r.PN), "PV": null(r.PV), "PR": null(r.PR), "task": null(r.Task), "outhash_siginfo": null(r.Siginfo),
	}
	if withUnihash {
		m["unihash"], m["gc_mark"] = r.Unihash, r.Mark
	}
	return m
}

func (x *session) get(ctx context.Context, r request) (any, error) {
	a, err := r.strs("method", "taskhash")
	if err != nil {
		return nil, err
	}
	full, err := r.flag("all", false)
	if err != nil {
		return nil, err
	}
	method, task := a[0], a[1]
	if full {
		row, err := x.s.byTask(ctx, method, task)
		if err == nil && row == nil && x.s.up != nil {
			row, err = x.s.fetchRow(ctx, "get", map[string]any{"method": method, "taskhash": task, "all": true})
		}
		if err != nil || row == nil {
			return asyncrpc.Null, err
		}
		row.Method = method
		return rowJSON(row, true), nil
	}
	uni, err := x.s.unihash(ctx, method, task)
	if err == nil && uni == "" && x.s.up != nil {
		uni, err = x.s.fetchUnihash(ctx, method, task)
	}
	x.s.hits.count(uni != "")
	if err != nil || uni == "" {
		return asyncrpc.Null, err
	}
	return equivalence{task, method, uni}, nil
}

func (c *counters) count(hit bool) {
	if hit {
		c.hit.Add(1)
	} else {
		c.miss.Add(1)
	}
}

func (x *session) getOuthash(ctx context.Context, r request) (any, error) {
	a, err := r.strs("method", "outhash", "taskhash")
	if err != nil {
		return nil, err
	}
	with, err := r.flag("with_unihash", true)
	if err != nil {
		return nil, err
	}
	row, err := x.outhash(ctx, a[0], a[1], a[2], with)
	if err != nil || row == nil {
		return asyncrpc.Null, err
	}
	return rowJSON(row, with), nil
}

// outhash gives the oldest row of an output, from the upstream if need be.
func (x *session) outhash(ctx context.Context, method, out, task string, with bool) (*hashdb.Row, error) {
	row, err := x.s.byOutput(ctx, method, out, with)
	if err == nil && row == nil && x.s.up != nil {
		row, err = x.s.fetchRow(ctx, "get-outhash", map[string]any{"method": method, "outhash": out, "taskhash": task})
	}
	if row != nil {
		row.Method = method
	}
	return row, err
}

// unihash checks the unihash that a client offers.
func (x *session) unihash(r request) (string, error) {
	u, err := r.str("unihash")
	if !x.s.AnyUnihash && (err != nil || !hashdb.ValidUnihash(u)) {
		return "", asyncrpc.Refusal("Invalid unihash")
	}
	return u, err
}

func (x *session) report(ctx context.Context, r request) (any, error) {
	offer, err := x.unihash(r)
	if err != nil {
		return nil, err
	}
	a, err := r.strs("method", "taskhash", "outhash")
	if err != nil {
		return nil, err
	}
	method, task, out := a[0], a[1], a[2]
	if x.s.ReadOnly || !x.can(reporting, false) {
		row, err := x.outhash(ctx, method, out, task, true)
		if row != nil {
			offer = row.Unihash
		}
		return equivalence{task, method, offer}, err
	}
	var e hashdb.Extra
	for _, f := range []struct {
		name string
		to   *string
	}{{"owner", &e.Owner}, {"PN", &e.PN}, {"PV", &e.PV}, {"PR", &e.PR}, {"task", &e.Task}, {"outhash_siginfo", &e.Siginfo}} {
		if *f.to, err = r.opt(f.name); err != nil {
			return nil, err
		}
	}
	if x.user != nil {
		e.Owner = x.user.Name
	}
	if x.s.Base != nil {
		if err := x.s.inherit(ctx, method, task, out); err != nil {
			return nil, err
		}
	}
	if x.s.up != nil {
		if known, err := x.s.DB.Settled(ctx, method, task, out); err != nil {
			return nil, err
		} else if !known {
			if row, err := x.s.up.row(ctx, "get-outhash", map[string]any{"method": method, "outhash": out, "taskhash": task}); err == nil && row != nil && x.s.valid(row.Unihash) {
				offer = row.Unihash
			}
		}
	}
	uni, err := x.s.DB.Report(ctx, method, task, out, offer, e)
	return equivalence{task, method, uni}, err
}

func (x *session) reportEquiv(ctx context.Context, r request) (any, error) {
	offer, err := x.unihash(r)
	if err != nil {
		return nil, err
	}
	a, err := r.strs("method", "taskhash")
	if err != nil {
		return nil, err
	}
	if x.s.Base != nil {
		if u, err := x.s.Base.Unihash(ctx, a[0], a[1]); err != nil {
			return nil, err
		} else if u != "" {
			offer = u
		}
	}
	uni, err := x.s.DB.Assign(ctx, a[0], a[1], offer)
	return equivalence{a[1], a[0], uni}, err
}

func (x *session) getStats(context.Context, request) (any, error) {
	return map[string]any{"requests": x.s.stats.values()}, nil
}

func (x *session) resetStats(context.Context, request) (any, error) {
	defer x.s.stats.reset()
	return map[string]any{"requests": x.s.stats.values()}, nil
}

func (x *session) backfillWait(ctx context.Context, _ request) (any, error) {
	n := 0
	if x.s.backfill != nil {
		n = x.s.backfill.length()
		x.s.backfill.wait(ctx)
	}
	return map[string]int{"tasks": n}, ctx.Err()
}

func count(n int64) any { return map[string]int64{"count": n} }

func (x *session) remove(ctx context.Context, r request) (any, error) {
	w, err := where(r["where"])
	if err != nil {
		return nil, err
	}
	n, err := x.s.DB.Remove(ctx, w)
	return count(n), err
}

// sweepRefusal is what a client hears while another client collects.
func sweepRefusal(err error) error {
	if errors.Is(err, hashdb.ErrSweeping) {
		return asyncrpc.Refusal("A sweep is under way. Refusing to mark")
	}
	return err
}

func (x *session) gcMark(ctx context.Context, r request) (any, error) {
	w, err := where(r["where"])
	if err != nil {
		return nil, err
	}
	mark, err := r.str("mark")
	if err != nil {
		return nil, err
	}
	n, err := x.s.DB.Mark(ctx, mark, w)
	if err != nil {
		return nil, sweepRefusal(err)
	}
	return count(n[0]), nil
}

func (x *session) gcSweep(ctx context.Context, r request) (any, error) {
	mark, err := r.str("mark")
	if err != nil {
		return nil, err
	}
	n, err := x.s.DB.Sweep(ctx, mark)
	if errors.Is(err, hashdb.ErrNotCurrent) {
		return nil, asyncrpc.Refusal("'" + mark + "' is not the current mark. Refusing to sweep")
	}
	return count(n), err
}

func (x *session) gcStatus(ctx context.Context, _ request) (any, error) {
	s, err := x.s.DB.Status(ctx)
	m := map[string]any{"keep": s.Keep, "remove": s.Remove, "mark": nil}
	if s.Mark != "" {
		m["mark"] = s.Mark
	}
	return m, err
}

func (x *session) cleanUnused(ctx context.Context, r request) (any, error) {
	var age float64
	if raw, ok := r["max_age_seconds"]; !ok || string(raw) == "null" || json.Unmarshal(raw, &age) != nil {
		return nil, errBad
	}
	age = math.Max(-1e9, math.Min(age, 1e9))
	n, err := x.s.DB.CleanUnused(ctx, time.Duration(age*float64(time.Second)))
	return count(n), err
}

func (x *session) usage(ctx context.Context, _ request) (any, error) {
	rows, err := x.s.DB.Usage(ctx)
	usage := map[string]any{}
	for t, n := range rows {
		usage[t] = map[string]int64{"rows": n}
	}
	return map[string]any{"usage": usage}, err
}

func (x *session) columns(context.Context, request) (any, error) {
	return map[string]any{"columns": hashdb.QueryColumns()}, nil
}
