package nameserver

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// connTable bounds the connections of the server. Over the limit the
// connection that has waited longest for a request is closed, so that whoever
// only holds connections open cannot keep others out. Connections with a
// request under way are never closed; the servers' own timeouts end them.
type connTable struct {
	limit int

	mu      sync.Mutex
	waiting list.List                  // of net.Conn between requests, longest first; guarded by mu
	conns   map[net.Conn]*list.Element // nil element: request under way; guarded by mu
	shed    int                        // connections closed here; guarded by mu
}

func newConnTable(limit int) *connTable {
	return &connTable{limit: limit, conns: make(map[net.Conn]*list.Element)}
}

// track is an http.Server's ConnState hook.
func (t *connTable) track(c net.Conn, state http.ConnState) {
	if victim := t.change(c, state); victim != nil {
		victim.Close() // its serving goroutine ends and reports StateClosed
	}
}

func (t *connTable) change(c net.Conn, state http.ConnState) (victim net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.conns[c]; e != nil {
		t.waiting.Remove(e)
	}
	switch state {
	case http.StateNew, http.StateIdle:
		t.conns[c] = t.waiting.PushBack(c)
	case http.StateActive:
		t.conns[c] = nil
	default:
		delete(t.conns, c)
	}
	front := t.waiting.Front()
	if len(t.conns) <= t.limit || front == nil {
		return nil
	}
	victim = t.waiting.Remove(front).(net.Conn)
	delete(t.conns, victim)
	t.shed++
	return victim
}

func (t *connTable) counts() (open, shed int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns), t.shed
}
