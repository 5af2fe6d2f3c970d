package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"

	"slipway/internal/errs"
)

// qmp speaks QEMU's machine protocol (docs/interop/qmp-spec of QEMU): JSON
// objects, a greeting first, answers in the order of the questions, events
// between them.
type qmp struct {
	conn    net.Conn
	greeted chan struct{}
	gone    chan struct{} // the connection has ended

	ask     sync.Mutex // one question at a time
	number  int
	answers chan message
}

type message struct {
	ID     int
	QMP    json.RawMessage
	Return json.RawMessage
	Error  *struct{ Class, Desc string }
	Event  string
	Data   json.RawMessage
}

// socketPair gives our end and the one that QEMU gets as a file: no path on disk.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "qmp"), os.NewFile(uintptr(fds[1]), "qmp")
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		_ = theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}

// newQMP reads until the connection ends; event is called for each event, in order.
func newQMP(conn net.Conn, event func(name string, data json.RawMessage)) *qmp {
	q := &qmp{conn: conn, greeted: make(chan struct{}), gone: make(chan struct{}), answers: make(chan message, 64)}
	go func() {
		defer close(q.gone)
		for dec := json.NewDecoder(conn); ; {
			var m message
			if dec.Decode(&m) != nil {
				return
			}
			switch {
			case m.QMP != nil:
				close(q.greeted)
			case m.Event != "":
				event(m.Event, m.Data)
			default:
				q.answers <- m
			}
		}
	}()
	return q
}

var errGone = errors.New("QEMU has ended")

// run asks one thing and gives the answer.
func (q *qmp) run(ctx context.Context, command string, args map[string]any) (json.RawMessage, error) {
	q.ask.Lock()
	defer q.ask.Unlock()
	q.number++
	question := map[string]any{"execute": command, "id": q.number}
	if args != nil {
		question["arguments"] = args
	}
	b, err := json.Marshal(question)
	if err != nil {
		return nil, err
	}
	if _, err := q.conn.Write(append(b, '\n')); err != nil {
		return nil, errGone
	}
	for {
		select {
		case m := <-q.answers:
			switch {
			case m.ID != q.number: // of a question that was given up
			case m.Error != nil:
				return nil, errs.E(errs.Failed, "QEMU: "+command+": "+m.Error.Desc)
			default:
				return m.Return, nil
			}
		case <-q.gone:
			return nil, errGone
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
