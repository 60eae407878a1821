package allocation

import "sync"

// Quota counts allocations per key, such as a user or a client's address, against one limit. Keys without allocations take no memory. It is
// safe for concurrent use.
type Quota[K comparable] struct {
	limit int // 0 means none, and then nothing is counted

	mu    sync.Mutex
	count map[K]int // guarded by mu
}

// NewQuota returns a quota of limit allocations per key; 0 means no limit.
func NewQuota[K comparable](limit int) *Quota[K] {
	return &Quota[K]{limit: limit, count: make(map[K]int)}
}

// Take counts one more for key, unless that would pass the limit.
func (q *Quota[K]) Take(key K) bool {
	if q.limit == 0 {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.count[key] >= q.limit {
		return false
	}
	q.count[key]++
	return true
}

// Give takes one back.
func (q *Quota[K]) Give(key K) {
	if q.limit == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.count[key]--; q.count[key] <= 0 {
		delete(q.count, key)
	}
}
