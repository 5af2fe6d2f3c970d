package hashpg

import (
	"context"
	"runtime"
	"time"

	"slipway/internal/errs"
	"slipway/internal/hashserv/hashdb"
	"slipway/internal/postgres"
)

// add is one thing that adds rows: a report, an assignment, or a row of another
// server.
type add struct {
	method    uint32
	task, out string // out "": no output to add
	created   int64
	extra     hashdb.Extra
	offer     string // "": no unihash to add
	join      bool   // the unihash of the oldest other task with that output goes first
	uni       string // what the task has afterwards
}

type op struct {
	adds []*add
	done chan error
}

// maxGroup bounds the rows of one transaction, and so how long a client waits for
// those of others.
const maxGroup = 1000

// writeTime bounds a transaction: a client waits for 30 s.
const writeTime = 25 * time.Second

func errClosed(name string) error {
	return errs.E(errs.Unavailable, "the database "+name+" is closed")
}

func (d *DB) readOnly() error {
	return errs.E(errs.Denied, "the database "+d.Name()+" is open for reading only")
}

// add has rows added by the writer, perhaps together with others.
func (d *DB) add(ctx context.Context, adds ...*add) error {
	if d.opts.ReadOnly {
		return d.readOnly()
	}
	o := &op{adds, make(chan error, 1)}
	select {
	case d.ops <- o:
	case <-ctx.Done():
		return ctx.Err()
	case <-d.ctx.Done():
		return errClosed(d.Name())
	}
	select {
	case err := <-o.done:
		return err
	case <-d.ctx.Done():
		select {
		case err := <-o.done:
			return err
		case <-time.After(writeTime):
			return errClosed(d.Name())
		}
	}
}

// writer is the goroutine that adds rows.
func (d *DB) writer() {
	for {
		var group []*op
		select {
		case o := <-d.ops:
			group = append(group, o)
		case <-d.ctx.Done():
			for len(d.ops) > 0 {
				o := <-d.ops
				o.done <- d.commit([]*op{o})
			}
			return
		}
		// Those who are about to queue do so: a commit costs as much as many rows.
		rows := len(group[0].adds)
		for quiet := 0; quiet < 2 && rows < maxGroup; {
			select {
			case o := <-d.ops:
				group = append(group, o)
				rows += len(o.adds)
				quiet = 0
			default:
				quiet++
				runtime.Gosched()
			}
		}
		err := d.commit(group)
		if err != nil && len(group) > 1 && !errs.Is(err, errs.Unavailable) {
			// Somebody's data are wrong: alone who fails in company.
			for _, o := range group {
				o.done <- d.commit([]*op{o})
			}
			continue
		}
		for _, o := range group {
			o.done <- err
		}
	}
}

// state is the row of hash_state.
type state struct {
	seq            int64
	mark, sweeping int
	swept          int64
	sweptMark      *string
}

const lockState = `SELECT seq, mark, sweeping, swept, sweptmark FROM hash_state FOR UPDATE`

func (s *state) read(scan postgres.Scan) error {
	return scan(&s.seq, &s.mark, &s.sweeping, &s.swept, &s.sweptMark)
}

// transact runs fn in a transaction, with the lock of the state; what fn says has
// changed goes into the journal, and into the index.
func (d *DB) transact(ctx context.Context, first *postgres.Batch, fn func(ctx context.Context, c *postgres.Conn, s *state) (*postgres.Batch, []hashdb.Change, error)) error {
	if d.opts.ReadOnly {
		return d.readOnly()
	}
	var s state
	var changes []hashdb.Change
	err := d.pg.Write(ctx, true, func(c *postgres.Conn) (*postgres.Batch, error) {
		s = state{}
		var b postgres.Batch
		b.Rows(s.read, lockState)
		b.Add(first)
		if err := c.Send(ctx, &b); err != nil {
			return nil, err
		}
		last, list, err := fn(ctx, c, &s)
		if err != nil {
			return nil, err
		}
		if changes = list; len(list) > 0 {
			s.seq++
			last.Exec(nil, `INSERT INTO hash_journal VALUES ($1, $2)`, s.seq, hashdb.EncodeChanges(list))
			last.Exec(nil, `UPDATE hash_state SET seq = $1`, s.seq)
			if s.seq%(journalLen/4) == 0 {
				last.Exec(nil, `DELETE FROM hash_journal WHERE seq <= $1`, s.seq-journalLen)
			}
		}
		return last, nil
	})
	if err != nil || len(changes) == 0 {
		return err
	}
	d.apply.Lock()
	defer d.apply.Unlock()
	if d.seq == s.seq-1 { // else the journal will tell
		d.change(changes)
		d.seq = s.seq
	}
	return nil
}

// journalLen is how many transactions the journal keeps. An index that lags
// further behind is filled anew.
const journalLen = 4096

// Each row is looked up by an index, one by one: an EXISTS could become a scan of
// the whole table.
const rowsOfGroup = `SELECT i.n, coalesce(u.uni, u.task), e.uni, e.created, h.has IS NOT NULL
	FROM unnest($1::int[], $2::bytea[], $3::bytea[]) WITH ORDINALITY AS i(method, task, "out", n)
	LEFT JOIN hash_unihash u ON u.method = i.method AND u.task = i.task
	LEFT JOIN LATERAL (SELECT coalesce(x.uni, x.task) AS uni, o.created FROM hash_outhash o JOIN hash_unihash x ON x.method = o.method AND x.task = o.task
		WHERE o.method = i.method AND o."out" = i."out" AND o.task <> i.task ORDER BY o.created LIMIT 1) e ON u.task IS NULL
	LEFT JOIN LATERAL (SELECT true AS has FROM hash_outhash o WHERE o.method = i.method AND o.task = i.task LIMIT 1) h ON u.task IS NULL`

// found is what the tables say about an add.
type found struct {
	uni, same []byte // of the task; of the oldest other task with that output
	created   *int64 // of that one
	outputs   bool   // the task has an output
}

// commit adds the rows of a group, in one transaction.
func (d *DB) commit(group []*op) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeTime)
	defer cancel()
	var adds []*add
	for _, o := range group {
		adds = append(adds, o.adds...)
	}
	if len(adds) == 0 {
		return nil
	}
	look := func(list []*add) (*postgres.Batch, []found) {
		methods, tasks, outs := make([]int32, len(list)), make([][]byte, len(list)), make([][]byte, len(list))
		have := make([]found, len(list))
		for i, a := range list {
			methods[i], tasks[i] = int32(a.method), stored(a.task)
			if a.join {
				outs[i] = stored(a.out)
			}
		}
		var b postgres.Batch
		b.Rows(func(scan postgres.Scan) error {
			var n int
			var f found
			err := scan(&n, &f.uni, &f.same, &f.created, &f.outputs)
			if err == nil {
				have[n-1] = f
			}
			return err
		}, rowsOfGroup, methods, tasks, outs)
		return &b, have
	}
	first, haveFirst := look(adds)
	return d.transact(ctx, first, func(ctx context.Context, c *postgres.Conn, s *state) (*postgres.Batch, []hashdb.Change, error) {
		var changes []hashdb.Change
		list, have := adds, haveFirst
		for {
			p := plan{mark: max(s.mark, s.sweeping), unis: map[goneKey]string{}, outs: map[goneKey][]*add{}}
			n := p.take(list, have)
			changes = append(changes, p.changes...)
			b := p.batch()
			if list = list[n:]; len(list) == 0 {
				return b, changes, nil
			}
			var next *postgres.Batch
			next, have = look(list)
			b.Add(next)
			if err := c.Send(ctx, b); err != nil {
				return nil, nil, err
			}
		}
	})
}

// plan is what a group adds, worked out one after the other.
type plan struct {
	mark    int
	changes []hashdb.Change
	unis    map[goneKey]string // of tasks, as far as looked at
	outs    map[goneKey][]*add // by output

	uMethod []int32
	uTask   [][]byte
	uUni    [][]byte
	outputs []*add
}

// take plans adds, and says how many: it stops behind one that the tables must be
// asked about anew, because it gives a unihash to a task that had outputs already.
func (p *plan) take(list []*add, have []found) int {
	for i, a := range list {
		f := have[i]
		key := goneKey{a.method, a.task}
		if a.out != "" {
			p.outputs = append(p.outputs, a)
		}
		again := false
		// What the task had before, or gets now, is what later ones may join.
		switch uni, ok := p.unis[key]; {
		case f.uni != nil:
			a.uni = text(f.uni)
		case ok:
			a.uni = uni
		case a.offer == "":
			a.uni = ""
		default:
			if a.uni = a.offer; a.join {
				a.uni = p.oldest(a, f)
			}
			p.changes = append(p.changes, hashdb.Change{Method: a.method, Task: a.task, Uni: a.uni})
			p.uMethod, p.uTask = append(p.uMethod, int32(a.method)), append(p.uTask, stored(a.task))
			if a.uni == a.task {
				p.uUni = append(p.uUni, nil)
			} else {
				p.uUni = append(p.uUni, stored(a.uni))
			}
			again = f.outputs
		}
		if a.uni != "" {
			p.unis[key] = a.uni
		}
		if a.out != "" {
			k := goneKey{a.method, a.out}
			p.outs[k] = append(p.outs[k], a)
		}
		if again {
			return i + 1
		}
	}
	return len(list)
}

// oldest gives the unihash of the oldest other task with that output, in the
// tables or before in this group; else the one that is offered.
func (p *plan) oldest(a *add, f found) string {
	uni, created := a.offer, int64(0)
	if f.same != nil {
		uni, created = text(f.same), *f.created
	}
	for _, o := range p.outs[goneKey{a.method, a.out}] {
		if o.task == a.task {
			continue
		}
		if u, ok := p.unis[goneKey{o.method, o.task}]; ok && (f.same == nil || o.created < created) {
			uni, created = u, o.created
			f.same = []byte{0}
		}
	}
	return uni
}

// batch gives the statements.
func (p *plan) batch() *postgres.Batch {
	var b postgres.Batch
	if n := len(p.outputs); n > 0 {
		methods, outs, created, tasks := make([]int32, n), make([][]byte, n), make([]int64, n), make([][]byte, n)
		text := make([][]*string, 6)
		for k := range text {
			text[k] = make([]*string, n)
		}
		some := false
		for i, a := range p.outputs {
			methods[i], outs[i], created[i], tasks[i] = int32(a.method), stored(a.out), a.created, stored(a.task)
			for k, s := range []*string{&a.extra.Owner, &a.extra.PN, &a.extra.PV, &a.extra.PR, &a.extra.Task, &a.extra.Siginfo} {
				if *s != "" {
					text[k][i], some = s, true
				}
			}
		}
		if some {
			b.Exec(nil, `INSERT INTO hash_outhash (method, "out", created, task, owner, pn, pv, pr, taskname, siginfo)
				SELECT * FROM unnest($1::int[], $2::bytea[], $3::bigint[], $4::bytea[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[]) ON CONFLICT DO NOTHING`,
				methods, outs, created, tasks, text[0], text[1], text[2], text[3], text[4], text[5])
		} else {
			b.Exec(nil, `INSERT INTO hash_outhash (method, "out", created, task) SELECT * FROM unnest($1::int[], $2::bytea[], $3::bigint[], $4::bytea[]) ON CONFLICT DO NOTHING`,
				methods, outs, created, tasks)
		}
	}
	if len(p.uTask) > 0 {
		b.Exec(nil, `INSERT INTO hash_unihash SELECT i.method, i.task, i.uni, $4 FROM unnest($1::int[], $2::bytea[], $3::bytea[]) AS i(method, task, uni) ON CONFLICT DO NOTHING`,
			p.uMethod, p.uTask, p.uUni, p.mark)
	}
	return &b
}

// Report records that a task with these inputs had this output, and gives the
// unihash of the task; see hashdb.DB.
func (d *DB) Report(ctx context.Context, method, task, out, offer string, x hashdb.Extra) (string, error) {
	m, err := d.method(ctx, method)
	if err != nil {
		return "", err
	}
	a := &add{method: m, task: task, out: out, created: d.now(), extra: x, offer: offer, join: true}
	err = d.add(ctx, a)
	return a.uni, err
}

// Assign gives a task a unihash, unless it has one, and says which it has.
func (d *DB) Assign(ctx context.Context, method, task, offer string) (string, error) {
	m, err := d.method(ctx, method)
	if err != nil {
		return "", err
	}
	a := &add{method: m, task: task, offer: offer}
	err = d.add(ctx, a)
	return a.uni, err
}

// Insert adds rows as another server knows them; what is known here stays.
func (d *DB) Insert(ctx context.Context, rows ...hashdb.Row) error {
	if d.opts.ReadOnly {
		return d.readOnly()
	}
	adds := make([]*add, len(rows))
	for i, r := range rows {
		m, err := d.method(ctx, r.Method)
		if err != nil {
			return err
		}
		adds[i] = &add{method: m, task: r.Taskhash, out: r.Outhash, created: r.Created.UnixMicro(), extra: r.Extra, offer: r.Unihash}
	}
	return d.add(ctx, adds...)
}

// Settled reports whether a report of that task and output would be answered
// from what is known here, without the unihash that is offered.
func (d *DB) Settled(ctx context.Context, method, task, out string) (ok bool, err error) {
	if uni, err := d.Unihash(ctx, method, task); err != nil || uni != "" {
		return uni != "", err
	}
	row, err := d.oldest(ctx, `JOIN hash_unihash u ON u.method = o.method AND u.task = o.task`, `o."out" = $2 AND o.task <> $3`, method, stored(out), stored(task))
	return row != nil, err
}

// ByTask gives the oldest output of a task that has a unihash, nil when it has
// none, or no output is known.
func (d *DB) ByTask(ctx context.Context, method, task string) (*hashdb.Row, error) {
	return d.oldest(ctx, `JOIN hash_unihash u ON u.method = o.method AND u.task = o.task`, `o.task = $2`, method, stored(task))
}

// ByOutput gives the oldest task with that output; with a unihash only if one is
// asked for.
func (d *DB) ByOutput(ctx context.Context, method, out string, withUnihash bool) (*hashdb.Row, error) {
	join := `LEFT JOIN`
	if withUnihash {
		join = `JOIN`
	}
	return d.oldest(ctx, join+` hash_unihash u ON u.method = o.method AND u.task = o.task`, `o."out" = $2`, method, stored(out))
}

const rowColumns = `o."out", o.created, o.task, o.owner, o.pn, o.pv, o.pr, o.taskname, o.siginfo`

// scanRow reads rowColumns, and the unihash and the mark of the task.
func scanRow(method string, scan postgres.Scan) (*hashdb.Row, error) {
	var out, task, uni []byte
	var created int64
	var mark *string
	var t [6]*string
	if err := scan(&out, &created, &task, &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &uni, &mark); err != nil {
		return nil, err
	}
	return &hashdb.Row{Method: method, Outhash: text(out), Created: time.UnixMicro(created).UTC(), Taskhash: text(task),
		Extra: hashdb.Extra{Owner: str(t[0]), PN: str(t[1]), PV: str(t[2]), PR: str(t[3]), Task: str(t[4]), Siginfo: str(t[5])}, Unihash: text(uni), Mark: str(mark)}, nil
}

func str(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func (d *DB) oldest(ctx context.Context, join, where, method string, args ...any) (row *hashdb.Row, err error) {
	err = d.pg.Read(ctx, func(c *postgres.Conn) error {
		row = nil
		return c.Rows(ctx, `SELECT `+rowColumns+`, coalesce(u.uni, u.task), k.name FROM hash_outhash o `+join+` LEFT JOIN hash_mark k ON k.id = u.mark
			WHERE o.method = (SELECT id FROM hash_method WHERE name = $1) AND `+where+` ORDER BY o.created LIMIT 1`, append([]any{method}, args...), func(scan postgres.Scan) (err error) {
			row, err = scanRow(method, scan)
			return err
		})
	})
	return row, err
}
