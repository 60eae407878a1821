package fake

import (
	"net/http"
	"slices"
	"sync"
	"time"
)

// Push is a message that a simulator accepted.
type Push struct {
	Token  string
	Path   string
	Header http.Header
	Body   []byte // as sent; for Web Push the plaintext if the subscription's keys are known
	At     time.Time
}

// record is what a simulator remembers.
type record struct {
	mu       sync.Mutex
	keep     bool
	accepted []Push
	counts   map[int]int    // answers by status
	tries    map[string]int // requests by token
	changed  chan struct{}  // closed and replaced at each answer
}

func newRecord(keep bool) *record {
	return &record{keep: keep, counts: make(map[int]int), tries: make(map[string]int), changed: make(chan struct{})}
}

func (r *record) try(token string) {
	if !r.keep {
		return
	}
	r.mu.Lock()
	r.tries[token]++
	r.mu.Unlock()
}

func (r *record) answer(status int, p *Push) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[status]++
	if !r.keep {
		return
	}
	if p != nil {
		p.At = time.Now()
		r.accepted = append(r.accepted, *p)
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// Accepted returns the messages taken so far, if the simulator was asked to remember them.
func (r *record) Accepted() []Push {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.accepted)
}

// Answers returns how many answers of each status were given.
func (r *record) Answers() map[int]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[int]int, len(r.counts))
	for status, n := range r.counts {
		out[status] = n
	}
	return out
}

// Tries returns how many requests came for a token, whatever the answer.
func (r *record) Tries(token string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tries[token]
}

// Changed returns a channel that is closed at the next answer.
func (r *record) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}
