package asyncrpc

import "sync/atomic"

// budget is memory that connections share. A nil budget is without end.
type budget struct{ left atomic.Int64 }

func newBudget(n int64) *budget {
	b := &budget{}
	b.left.Store(n)
	return b
}

func (b *budget) take(n int64) bool {
	if b == nil {
		return true
	}
	if b.left.Add(-n) < 0 {
		b.left.Add(n)
		return false
	}
	return true
}

func (b *budget) give(n int64) {
	if b != nil {
		b.left.Add(n)
	}
}
