package hashserv

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// stats are times of requests, as BitBake's server reports them.
type stats struct {
	mu            sync.Mutex
	num           float64
	total, max    float64
	mean, squares float64 // Welford's
}

// add counts n requests that took d together.
func (s *stats) add(n int, d time.Duration) {
	if n == 0 {
		return
	}
	each, k := d.Seconds()/float64(n), float64(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	delta := each - s.mean
	s.squares += delta * delta * s.num * k / (s.num + k)
	s.num += k
	s.mean += delta * k / s.num
	s.total += d.Seconds()
	s.max = math.Max(s.max, each)
}

func (s *stats) values() map[string]float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := map[string]float64{"num": s.num, "total_time": s.total, "max_time": s.max, "average": 0, "stdev": 0}
	if s.num > 0 {
		v["average"] = s.total / s.num
	}
	if s.num > 1 {
		v["stdev"] = math.Sqrt(s.squares / (s.num - 1))
	}
	return v
}

func (s *stats) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.num, s.total, s.max, s.mean, s.squares = 0, 0, 0, 0, 0
}

// counters of lookups.
type counters struct{ hit, miss atomic.Int64 }
