package distributor

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	keepalive  = 45 * time.Second
	slots      = 45 // of the keepalive wheel, one per second
	maxPending = 16 // messages held for a receiver; beyond them it reads from the database
	writeLimit = 10 * time.Second
)

var (
	errFull       = errors.New("distributor: too many receivers")
	errPerAddress = errors.New("distributor: too many receivers at this address")
	errClosing    = errors.New("distributor: shutting down")
)

// hub knows who receives what. An idle receiver costs an entry here and the goroutine that waits for its
// connection to end; one that writes exists only while there is something to write.
type hub struct {
	store      *store
	max, perIP int
	wg         *sync.WaitGroup
	delivered  atomic.Uint64
	ctx        context.Context // ends with close, interrupts reads from the database
	cancel     context.CancelFunc

	mu      sync.Mutex
	topics  map[string][]*receiver
	byAddr  map[netip.Addr]int
	wheel   [slots]map[*receiver]struct{}
	n       int
	closing bool
}

// sink writes events to a connection. Its methods are not called concurrently, except close.
type sink interface {
	// write sends whole JSON objects; message tells the events that are not notices.
	write(event string, objects ...[]byte) error
	close()
}

// receiver is one stream. Fields below mu belong to it; last belongs to the goroutine that writes.
type receiver struct {
	hub    *hub
	topics []string
	names  string // as asked for, for notices
	addr   netip.Addr
	slot   int
	sink   sink
	last   int64 // newest seq written, or where to begin

	mu      sync.Mutex
	pending []entry
	writing bool
	lagging bool // there is more in the database than in pending
	latest  bool // begin with the newest kept message only
	closed  bool
}

// entry is something to write.
type entry struct {
	seq   int64 // of a message, 0 for a notice
	event string
	json  []byte
}

func newHub(s *store, max, perIP int, wg *sync.WaitGroup) *hub {
	h := &hub{store: s, max: max, perIP: perIP, wg: wg, topics: make(map[string][]*receiver), byAddr: make(map[netip.Addr]int)}
	h.ctx, h.cancel = context.WithCancel(context.Background()) // the hub's own life, ended by close
	for i := range h.wheel {
		h.wheel[i] = make(map[*receiver]struct{})
	}
	return h
}

// run sends keepalives until ctx is done.
func (h *hub) run(ctx context.Context) {
	tick := time.NewTicker(keepalive / slots)
	defer tick.Stop()
	for slot := 0; ; slot = (slot + 1) % slots {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			h.keepalive(slot, now)
		}
	}
}

func (h *hub) keepalive(slot int, now time.Time) {
	h.mu.Lock()
	due := make([]*receiver, 0, len(h.wheel[slot]))
	for r := range h.wheel[slot] {
		due = append(due, r)
	}
	h.mu.Unlock()
	for _, r := range due {
		r.push(entry{event: eventKeepalive, json: appendNotice(nil, now.UnixMicro(), eventKeepalive, r.names)})
	}
}

// admit enters a receiver. It begins with the open notice and, if pos says so, with what was kept.
func (h *hub) admit(r *receiver, pos position, limited bool) error {
	r.hub, r.slot, r.latest, r.lagging = h, rand.N(slots), pos.latest, pos.replay
	now := time.Now()
	r.pending = []entry{{event: eventOpen, json: appendNotice(nil, now.UnixMicro(), eventOpen, r.names)}}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closing:
		return errClosing
	case h.n >= h.max:
		return errFull
	case limited && h.byAddr[r.addr] >= h.perIP:
		return errPerAddress
	}
	r.last = pos.after
	if !pos.replay {
		r.last = h.store.newest()
	}
	h.n++
	h.byAddr[r.addr]++
	h.wheel[r.slot][r] = struct{}{}
	for _, t := range r.topics {
		h.topics[t] = append(h.topics[t], r)
	}
	r.mu.Lock()
	r.wake()
	r.mu.Unlock()
	return nil
}

// leave takes a receiver out.
func (h *hub) leave(r *receiver) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.wheel[r.slot][r]; !ok {
		return
	}
	delete(h.wheel[r.slot], r)
	h.n--
	if h.byAddr[r.addr]--; h.byAddr[r.addr] == 0 {
		delete(h.byAddr, r.addr)
	}
	for _, t := range r.topics {
		h.topics[t] = without(h.topics[t], r)
		if len(h.topics[t]) == 0 {
			delete(h.topics, t)
		}
	}
}

func without(list []*receiver, r *receiver) []*receiver {
	for i := range list {
		if list[i] == r {
			list[i] = list[len(list)-1]
			list[len(list)-1] = nil
			return list[:len(list)-1]
		}
	}
	return list
}

// publish hands a committed message to those who are listening. It does not block on them.
func (h *hub) publish(m *message) {
	h.mu.Lock()
	list := append([]*receiver(nil), h.topics[m.topic]...)
	h.mu.Unlock()
	if len(list) == 0 {
		return
	}
	e := entry{seq: m.seq, event: eventMessage, json: m.appendJSON(nil)}
	for _, r := range list {
		r.push(e)
	}
}

// close ends all streams and admits no more.
func (h *hub) close() {
	h.mu.Lock()
	h.closing = true
	var all []*receiver
	for _, slot := range h.wheel {
		for r := range slot {
			all = append(all, r)
		}
	}
	h.mu.Unlock()
	h.cancel()
	for _, r := range all {
		r.close()
	}
}

func (h *hub) stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Stats{Receivers: h.n, Topics: len(h.topics), Delivered: h.delivered.Load()}
}

// push queues an entry and has it written.
func (r *receiver) push(e entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return
	case e.seq > 0 && (r.lagging || len(r.pending) >= maxPending):
		r.lagging = true // the database has it
	case len(r.pending) < 2*maxPending:
		r.pending = append(r.pending, e)
	}
	r.wake()
}

// wake starts the writing goroutine if there is none. The caller holds mu.
func (r *receiver) wake() {
	if !r.writing && !r.closed {
		r.writing = true
		r.hub.wg.Go(r.write) // ends when nothing is left to write
	}
}

// write writes until nothing is left.
func (r *receiver) write() {
	for {
		r.mu.Lock()
		list, lagging := r.pending, r.lagging
		r.pending = nil
		if len(list) == 0 {
			r.lagging = false
		}
		if r.closed || (len(list) == 0 && !lagging) {
			r.writing = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		var err error
		if len(list) > 0 {
			err = r.writeAll(list)
		} else {
			err = r.catchUp()
		}
		if err != nil {
			r.close()
		}
	}
}

func (r *receiver) writeAll(list []entry) error {
	for _, e := range list {
		if e.seq > 0 && e.seq <= r.last {
			continue
		}
		if err := r.sink.write(e.event, e.json); err != nil {
			return err
		}
		if e.seq > 0 {
			r.last = e.seq
			r.hub.delivered.Add(1)
		}
	}
	return nil
}

// catchUp writes what the database has beyond last.
func (r *receiver) catchUp() error {
	for {
		var page []*message
		var err error
		if r.latest {
			page, err = r.hub.store.latest(r.hub.ctx, r.topics, time.Now())
		} else {
			page, err = r.hub.store.after(r.hub.ctx, r.topics, r.last, time.Now())
		}
		if err != nil || len(page) == 0 {
			r.latest = false
			return err
		}
		r.latest = false
		objects := make([][]byte, len(page))
		for i, m := range page {
			objects[i] = m.appendJSON(nil)
		}
		if err := r.sink.write(eventMessage, objects...); err != nil {
			return err
		}
		r.last = page[len(page)-1].seq
		r.hub.delivered.Add(uint64(len(page)))
		if len(page) < pageLen {
			return nil
		}
	}
}

// close ends a stream, from any goroutine.
func (r *receiver) close() {
	r.mu.Lock()
	was := r.closed
	r.closed = true
	r.mu.Unlock()
	if !was {
		r.sink.close()
		r.hub.leave(r)
	}
}
