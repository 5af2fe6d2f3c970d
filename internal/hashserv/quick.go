package hashserv

import (
	"bytes"
	"context"
	"time"

	"slipway/internal/asyncrpc"
	"slipway/internal/hashserv/hashdb"
)

// Quick answers the messages that builds send by the thousand, get and report,
// when they are as BitBake writes them: one command, a flat object of plain ASCII.
// It leaves all others, and all that needs an upstream or a base, to Handle, and
// answers as that would; see asyncrpc.Quick.
func (x *session) Quick(ctx context.Context, msg, out []byte) (answer []byte, ok bool, err error) {
	var m flat
	if !m.parse(msg) {
		return out, false, nil
	}
	start := time.Now()
	switch string(m.command) {
	case "get":
		answer, ok, err = x.quickGet(ctx, &m, out)
	case "report":
		answer, ok, err = x.quickReport(ctx, &m, out)
	}
	if ok {
		x.s.stats.add(1, time.Since(start))
	}
	return answer, ok, err
}

func (x *session) quickGet(ctx context.Context, m *flat, out []byte) ([]byte, bool, error) {
	method, task := m.text("method"), m.text("taskhash")
	if method == nil || task == nil || m.has("all") && m.kind("all") != isFalse || !x.can(read, false) {
		return out, false, nil
	}
	if err := x.s.ready(ctx); err != nil {
		return out, false, err
	}
	head := len(out)
	out = appendEquivalence(out, method, task)
	out, known, err := x.s.appendUnihash(ctx, out, method, task)
	if err != nil || !known {
		return out[:head], false, err // a miss is for Handle, which may know whom to ask
	}
	x.s.hits.hit.Add(1)
	return append(out, `"}`...), true, nil
}

func (x *session) quickReport(ctx context.Context, m *flat, out []byte) ([]byte, bool, error) {
	if x.s.ReadOnly || x.s.Base != nil || x.s.up != nil || !x.can(read|reporting, false) {
		return out, false, nil
	}
	method, task, output, offer := m.text("method"), m.text("taskhash"), m.text("outhash"), m.text("unihash")
	if method == nil || task == nil || output == nil || offer == nil || !hashdb.ValidUnihash(string(offer)) {
		return out, false, nil
	}
	var e hashdb.Extra
	for _, f := range m.fields[:m.n] {
		var to *string
		switch string(f.key) {
		case "owner":
			to = &e.Owner
		case "PN":
			to = &e.PN
		case "PV":
			to = &e.PV
		case "PR":
			to = &e.PR
		case "task":
			to = &e.Task
		case "outhash_siginfo":
			to = &e.Siginfo
		default:
			continue
		}
		switch f.kind {
		case isText:
			*to = string(f.value)
		case isNull:
		default:
			return out, false, nil
		}
	}
	if x.user != nil {
		e.Owner = x.user.Name
	}
	uni, err := x.s.DB.Report(ctx, string(method), string(task), string(output), string(offer), e)
	if err != nil {
		return out, false, err
	}
	return append(append(appendEquivalence(out, method, task), uni...), `"}`...), true, nil
}

// appendEquivalence begins the short answer about a task, up to its unihash. The
// two texts need no escapes: flat takes none that would.
func appendEquivalence(out, method, task []byte) []byte {
	out = append(append(out, `{"taskhash":"`...), task...)
	out = append(append(out, `","method":"`...), method...)
	return append(out, `","unihash":"`...)
}

// flat is a message with one command whose value is an object of plain values.
type flat struct {
	command []byte
	fields  [16]flatField
	n       int
}

type flatField struct {
	key, value []byte
	kind       flatKind
}

type flatKind uint8

const (
	isText flatKind = iota + 1
	isNull
	isTrue
	isFalse
)

// parse reads JSON of that form alone: printable ASCII, no escapes, no numbers,
// no key twice. What it refuses may be good JSON still.
func (m *flat) parse(b []byte) bool {
	p := flatParser{b}
	if !p.eat('{') || !p.text(&m.command) || !p.eat(':') || !p.eat('{') {
		return false
	}
	for first := true; !p.eat('}'); first = false {
		if !first && !p.eat(',') || m.n == len(m.fields) {
			return false
		}
		f := &m.fields[m.n]
		if !p.text(&f.key) || !p.eat(':') || m.has(string(f.key)) {
			return false
		}
		switch {
		case p.text(&f.value):
			f.kind = isText
		case p.word("null"):
			f.kind = isNull
		case p.word("true"):
			f.kind = isTrue
		case p.word("false"):
			f.kind = isFalse
		default:
			return false
		}
		m.n++
	}
	return p.eat('}') && p.end()
}

func (m *flat) find(key string) *flatField {
	for i := range m.fields[:m.n] {
		if string(m.fields[i].key) == key {
			return &m.fields[i]
		}
	}
	return nil
}

func (m *flat) has(key string) bool { return m.find(key) != nil }

func (m *flat) kind(key string) flatKind {
	if f := m.find(key); f != nil {
		return f.kind
	}
	return 0
}

// text gives a text that is there, else nil.
func (m *flat) text(key string) []byte {
	if f := m.find(key); f != nil && f.kind == isText {
		return f.value
	}
	return nil
}

type flatParser struct{ b []byte }

func (p *flatParser) space() {
	for len(p.b) > 0 && (p.b[0] == ' ' || p.b[0] == '\t' || p.b[0] == '\r' || p.b[0] == '\n') {
		p.b = p.b[1:]
	}
}

func (p *flatParser) eat(c byte) bool {
	p.space()
	if len(p.b) == 0 || p.b[0] != c {
		return false
	}
	p.b = p.b[1:]
	return true
}

func (p *flatParser) word(w string) bool {
	p.space()
	if len(p.b) < len(w) || string(p.b[:len(w)]) != w {
		return false
	}
	p.b = p.b[len(w):]
	return true
}

func (p *flatParser) text(to *[]byte) bool {
	p.space()
	if len(p.b) == 0 || p.b[0] != '"' {
		return false
	}
	n := bytes.IndexByte(p.b[1:], '"')
	if n < 0 {
		return false
	}
	s := p.b[1 : 1+n]
	for _, c := range s {
		if c < 0x20 || c > 0x7e || c == '\\' {
			return false
		}
	}
	*to, p.b = s, p.b[n+2:]
	return true
}

func (p *flatParser) end() bool {
	p.space()
	return len(p.b) == 0
}

var _ asyncrpc.Quick = (*session)(nil)
