package hashdb

import (
	"encoding/binary"
	"encoding/hex"

	"slipway/internal/errs"
	"slipway/internal/hashserv/litefile"
)

// change is one row of unihash that came or went.
type change struct {
	drop   bool
	method uint32
	task   string
	uni    string
	rec    *record // what of it is not in the tables yet; nil: all is
}

// Flags of a change in the journal.
const (
	flagDrop, flagSame, flagTaskText, flagUniText = 1, 2, 4, 8
	flagRecord, flagOutText, flagBare             = 16, 32, 64
)

func encodeChanges(list []change) []byte {
	b := []byte{}
	put := func(s string) (out []byte, isText bool) {
		if h, ok := unhex(s); ok {
			return h, false
		}
		return []byte(s), true
	}
	for _, c := range list {
		flags := byte(0)
		task, isText := put(c.task)
		if isText {
			flags |= flagTaskText
		}
		var uni []byte
		switch {
		case c.drop:
			flags |= flagDrop | flagSame
		case c.rec != nil && c.rec.bare:
			flags |= flagBare | flagSame
		case c.uni == c.task:
			flags |= flagSame
		default:
			if uni, isText = put(c.uni); isText {
				flags |= flagUniText
			}
		}
		var out []byte
		if c.rec != nil {
			flags |= flagRecord
			if out, isText = put(c.rec.out); isText {
				flags |= flagOutText
			}
		}
		b = binary.AppendUvarint(append(b, flags), uint64(c.method))
		b = append(binary.AppendUvarint(b, uint64(len(task))), task...)
		if flags&flagSame == 0 {
			b = append(binary.AppendUvarint(b, uint64(len(uni))), uni...)
		}
		if c.rec != nil {
			b = append(binary.AppendUvarint(b, uint64(len(out))), out...)
			b = binary.AppendVarint(b, c.rec.created)
			b = binary.AppendUvarint(b, uint64(c.rec.extra))
			b = binary.AppendUvarint(b, uint64(c.rec.mark))
		}
	}
	return b
}

func decodeChanges(b []byte) (list []change, err error) {
	bad := errs.E(errs.Unavailable, "the journal of the hash database is damaged", errs.Hint("stop the servers, delete the rows of table journal but the last, start again"))
	num := func() (uint64, bool) {
		n, l := binary.Uvarint(b)
		if l <= 0 {
			return 0, false
		}
		b = b[l:]
		return n, true
	}
	str := func(isText bool) (string, bool) {
		n, ok := num()
		if !ok || n > uint64(len(b)) {
			return "", false
		}
		s := b[:n]
		b = b[n:]
		if isText {
			return string(s), true
		}
		return hex.EncodeToString(s), true
	}
	for len(b) > 0 {
		flags := b[0]
		b = b[1:]
		m, ok := num()
		if !ok || m > 1<<31 {
			return nil, bad
		}
		c := change{drop: flags&flagDrop != 0, method: uint32(m)}
		if c.task, ok = str(flags&flagTaskText != 0); !ok {
			return nil, bad
		}
		if c.uni = c.task; flags&flagSame == 0 {
			if c.uni, ok = str(flags&flagUniText != 0); !ok {
				return nil, bad
			}
		}
		if flags&flagRecord != 0 {
			c.rec = &record{bare: flags&flagBare != 0}
			if c.rec.out, ok = str(flags&flagOutText != 0); !ok {
				return nil, bad
			}
			created, l := binary.Varint(b)
			if l <= 0 {
				return nil, bad
			}
			b = b[l:]
			extra, ok1 := num()
			mark, ok2 := num()
			if !ok1 || !ok2 || c.drop || extra > 1<<62 || mark > 1<<62 {
				return nil, bad
			}
			c.rec.created, c.rec.extra, c.rec.mark = created, int64(extra), int64(mark)
		}
		list = append(list, c)
	}
	return list, nil
}

// journalLen is how many transactions the journal keeps. An index that lags
// further behind is filled anew.
const journalLen = 4096

// pending is what a transaction does to the index.
type pending struct {
	d       *DB
	tx      *litefile.Tx
	list    []change
	known   map[rowKey]string   // rows that this transaction inserted
	gone    map[rowKey]struct{} // rows that it deleted
	outs    map[rowKey][]int    // places in list of the records with that output
	methods map[string]uint32   // that it made
	mark    int64               // for new rows
	marked  bool                // mark has been read
	direct  bool                // reports go into the tables at once
}

type rowKey struct {
	method uint32
	task   string
}

// pend gives the pending changes of a transaction, shared by all functions in it.
func (d *DB) pend(tx *litefile.Tx) *pending {
	return tx.State(d, func() any {
		p := &pending{d: d, tx: tx, known: map[rowKey]string{}, gone: map[rowKey]struct{}{}, outs: map[rowKey][]int{}, methods: map[string]uint32{}}
		tx.Before(p.journal)
		return p
	}).(*pending)
}

// journal writes the changes down, and has them applied after the commit.
func (p *pending) journal() error {
	if len(p.methods) > 0 {
		p.tx.After(func() { p.d.publish(p.methods) })
	}
	if len(p.list) == 0 && !p.direct {
		return nil
	}
	_, seq, err := p.tx.Exec(`INSERT INTO journal (changes) VALUES (?)`, encodeChanges(p.list))
	if err != nil {
		return err
	}
	if p.direct {
		if _, _, err := p.tx.Exec(`UPDATE state SET merged = ?`, seq); err != nil {
			return err
		}
	}
	if seq%(journalLen/4) == 0 {
		if _, _, err := p.tx.Exec(`DELETE FROM journal WHERE seq <= min(?, (SELECT merged FROM state))`, seq-journalLen); err != nil {
			return err
		}
	}
	p.tx.After(func() {
		p.d.apply.Lock()
		defer p.d.apply.Unlock()
		if p.d.seq == seq-1 { // else a reader was here first, through the journal
			p.d.change(seq, p.list)
			p.d.seq = seq
		}
		if p.direct {
			p.d.recent.Load().merged(seq)
		}
	})
	return nil
}

// method gives the number of a method, a new one when need be.
func (p *pending) method(name string) (uint32, error) {
	if id, ok := (*p.d.methods.Load())[name]; ok {
		return id, nil
	}
	if id, ok := p.methods[name]; ok {
		return id, nil
	}
	id, err := p.tx.Int(`SELECT id FROM method WHERE name = ?`, name)
	if err == nil && id == 0 {
		_, id, err = p.tx.Exec(`INSERT INTO method (name) VALUES (?)`, name)
	}
	if err != nil {
		return 0, err
	}
	p.methods[name] = uint32(id)
	return uint32(id), nil
}

// unihash gives what the transaction sees for a task.
func (p *pending) unihash(method uint32, task string) (string, bool, error) {
	k := rowKey{method, task}
	if u, ok := p.known[k]; ok {
		return u, true, nil
	}
	if _, ok := p.gone[k]; ok {
		return "", false, nil
	}
	if u, ok := p.d.idx.Load().getText(method, task); ok {
		return u, true, nil
	}
	if whole := p.d.whole(); whole != nil {
		u, ok := whole.getText(method, task) // it may have become whole since the first look
		return u, ok, nil
	}
	if u, ok := p.d.recent.Load().unihash(method, task); ok {
		return u, true, nil
	}
	return unihashOf(p.tx.Conn, method, task)
}

// currentMark is the mark of new rows.
func (p *pending) currentMark() (int64, error) {
	if !p.marked {
		m, err := p.tx.Int(`SELECT max(mark, sweeping) FROM state`)
		if err != nil {
			return 0, err
		}
		p.mark, p.marked = m, true
	}
	return p.mark, nil
}

// insert adds a row that is not there.
func (p *pending) insert(method uint32, task, uni string) error {
	mark, err := p.currentMark()
	if err != nil {
		return err
	}
	var u any
	if uni != task {
		u = stored(uni)
	}
	n, _, err := p.tx.Exec(`INSERT OR IGNORE INTO unihash VALUES (?, ?, ?, ?)`, int(method), stored(task), u, mark)
	if err == nil && n > 0 {
		p.came(method, task, uni)
	}
	return err
}

func (p *pending) came(method uint32, task, uni string) {
	p.learn(method, task, uni)
	p.list = append(p.list, change{method: method, task: task, uni: uni})
}

// learn notes a unihash for the rest of the transaction.
func (p *pending) learn(method uint32, task, uni string) {
	k := rowKey{method, task}
	p.known[k] = uni
	delete(p.gone, k)
}

func (p *pending) dropped(method uint32, task string) {
	k := rowKey{method, task}
	p.gone[k] = struct{}{}
	delete(p.known, k)
	p.list = append(p.list, change{drop: true, method: method, task: task})
}
