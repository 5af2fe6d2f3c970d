package hashserv

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"slipway/internal/asyncrpc"
	"slipway/internal/hashserv/hashdb"
)

// maxBurst is how many lines are answered together.
const maxBurst = 4096

// burstBuffers are what a burst needs.
type burstBuffers struct {
	out   []byte
	lines [][]byte
}

var bursts = sync.Pool{New: func() any { return &burstBuffers{} }}

// stream answers lines until END: burst gets those that have arrived, and appends
// an answer with a newline for each to out.
func (x *session) stream(ctx context.Context, burst func(out []byte, lines [][]byte) ([]byte, error)) error {
	if err := x.c.WriteMessage("ok"); err != nil {
		return err
	}
	for {
		line, err := x.c.ReadLine()
		if err != nil {
			return err
		}
		b := bursts.Get().(*burstBuffers) // while it waits, a client holds none
		out, lines := b.out, b.lines
		start, end := time.Now(), false
		// What has arrived stays where it is until a read has to wait.
		for lines = lines[:0]; ; {
			line = bytes.TrimRight(line, " \t\r\n\v\f")
			if end = len(line) == 0 || string(line) == "END"; end {
				break
			}
			if lines = append(lines, line); len(lines) == maxBurst || !x.c.More() {
				break
			}
			if line, err = x.c.ReadLine(); err != nil {
				return err
			}
		}
		if len(lines) > 0 {
			out, err = burst(out[:0], lines)
			if werr := x.c.WriteLines(out); werr != nil {
				return werr
			}
			if err != nil {
				x.c.Flush()
				return err
			}
			x.s.stats.add(len(lines), time.Since(start))
		}
		if b.out, b.lines = out, lines; cap(out) < 1<<20 {
			clear(lines)
			bursts.Put(b)
		}
		if end {
			x.c.WriteLine([]byte("ok"))
			return x.c.Flush()
		}
		if err := x.c.Flush(); err != nil {
			return err
		}
	}
}

func (x *session) getStream(ctx context.Context, _ request) (any, error) {
	var misses []int
	return nil, x.stream(ctx, func(out []byte, lines [][]byte) ([]byte, error) {
		if err := x.s.ready(ctx); err != nil {
			return out, err
		}
		misses = misses[:0]
		for i, l := range lines {
			method, task, ok := split(l)
			if !ok {
				return out, errBad
			}
			var known bool
			var err error
			if out, known, err = x.s.appendUnihash(ctx, out, method, task); err != nil {
				return out, err
			}
			if !known {
				misses = append(misses, i)
			}
			out = append(out, '\n')
		}
		if r, ok := x.s.DB.(remote); ok && len(misses) > 0 {
			answers, err := r.Unihashes(ctx, pick(lines, misses))
			if err != nil {
				return nil, err
			}
			out, misses = fill(out, misses, answers, "")
		}
		x.s.hits.hit.Add(int64(len(lines) - len(misses)))
		x.s.hits.miss.Add(int64(len(misses)))
		if len(misses) == 0 || x.s.up == nil {
			return out, nil
		}
		return x.s.fillFromUpstream(ctx, out, lines, misses, "get-stream", "", func(i int, answer []byte) []byte {
			if !x.s.valid(string(answer)) {
				return nil
			}
			method, task, _ := split(lines[i])
			x.s.backfill.put(hashdb.Row{Method: string(method), Taskhash: string(task), Unihash: string(answer)})
			return answer
		}), nil
	})
}

// split gives the two words of a line.
func split(l []byte) (method, task []byte, ok bool) {
	if i := bytes.IndexByte(l, ' '); i > 0 && dense(l[:i]) && dense(l[i+1:]) {
		return l[:i], l[i+1:], true
	}
	words := bytes.Fields(l)
	if len(words) != 2 {
		return nil, nil, false
	}
	return words[0], words[1], true
}

// dense reports that there is something, and no blank in it.
func dense(b []byte) bool {
	for _, c := range b {
		if c <= ' ' {
			return false
		}
	}
	return len(b) > 0
}

func (x *session) existsStream(ctx context.Context, _ request) (any, error) {
	var misses []int
	r, isRemote := x.s.DB.(remote)
	return nil, x.stream(ctx, func(out []byte, lines [][]byte) ([]byte, error) {
		if err := x.s.ready(ctx); err != nil {
			return out, err
		}
		misses = misses[:0]
		for i, l := range lines {
			known, err := x.s.exists(ctx, l)
			if err != nil {
				return out, err
			}
			switch {
			case known:
				out = append(out, "true\n"...)
			case x.s.up == nil && !isRemote:
				out = append(out, "false\n"...)
			default:
				misses = append(misses, i)
				out = append(out, "\n"...)
			}
		}
		if isRemote && len(misses) > 0 {
			answers, err := r.Exist(ctx, pick(lines, misses))
			if err != nil {
				return nil, err
			}
			none := ""
			if x.s.up == nil {
				none = "false"
			}
			out, misses = fill(out, misses, answers, none)
		}
		if len(misses) == 0 || x.s.up == nil {
			return out, nil
		}
		return x.s.fillFromUpstream(ctx, out, lines, misses, "exists-stream", "false", func(_ int, answer []byte) []byte {
			if string(answer) == "true" {
				return answer
			}
			return nil
		}), nil
	})
}

// fillFromUpstream asks the upstream about the missed lines, all in one round
// trip, and puts what take makes of its answers, or none, into their lines of out.
func (s *Server) fillFromUpstream(ctx context.Context, out []byte, lines [][]byte, misses []int, command, none string, take func(i int, answer []byte) []byte) []byte {
	ask := pick(lines, misses)
	answers := make([][]byte, len(misses))
	if err := s.up.stream(ctx, command, ask, func(n int, answer []byte) error {
		answers[n] = bytes.Clone(take(misses[n], answer))
		return nil
	}); err != nil {
		clear(answers) // half of a failed answer would be right, too, but why
	}
	full, _ := fill(out, misses, answers, none)
	return full
}

// pick gives the lines at those places.
func pick(lines [][]byte, places []int) [][]byte {
	list := make([][]byte, len(places))
	for n, i := range places {
		list[n] = lines[i]
	}
	return list
}

// fill puts answers, or none for nil, into the lines of out that were missed, and
// says which still are.
func fill(out []byte, misses []int, answers [][]byte, none string) (full []byte, still []int) {
	full = make([]byte, 0, len(out)+66*len(misses))
	n, i := 0, 0
	for l := range bytes.Lines(out) {
		if n < len(misses) && misses[n] == i {
			if full = append(full, answers[n]...); answers[n] == nil {
				full = append(full, none...)
				still = append(still, i)
			}
			full = append(full, '\n')
			n++
		} else {
			full = append(full, l...)
		}
		i++
	}
	return full, still
}

func (x *session) gcMarkStream(ctx context.Context, _ request) (any, error) {
	return nil, x.stream(ctx, func(out []byte, lines [][]byte) ([]byte, error) {
		type markLine struct {
			Mark  *string         `json:"mark"`
			Where json.RawMessage `json:"where"`
		}
		var mark string
		var wheres []hashdb.Where
		flush := func() error {
			if len(wheres) == 0 {
				return nil
			}
			counts, err := x.s.DB.Mark(ctx, mark, wheres...)
			if err != nil {
				return sweepRefusal(err)
			}
			for _, n := range counts {
				out = fmt.Appendf(out, "{\"count\": %d}\n", n)
			}
			wheres = wheres[:0]
			return nil
		}
		for _, l := range lines {
			var m markLine
			var bad error
			if err := json.Unmarshal(l, &m); err != nil {
				bad = asyncrpc.Refusal(fmt.Sprintf("Could not decode JSONL input '%.200s'", l))
			} else if m.Mark == nil || m.Where == nil {
				bad = asyncrpc.Refusal("Input line is missing key 'mark' or 'where'")
			}
			var w hashdb.Where
			if bad == nil {
				w, bad = where(m.Where)
			}
			if bad != nil {
				// The lines before it count.
				if err := flush(); err != nil {
					return out, err
				}
				return out, bad
			}
			if *m.Mark != mark {
				if err := flush(); err != nil {
					return out, err
				}
				mark = *m.Mark
			}
			wheres = append(wheres, w)
		}
		return out, flush()
	})
}
