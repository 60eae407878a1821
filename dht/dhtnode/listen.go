package dhtnode

import (
	"slices"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/storage"
)

// lingerFor is how long the network is listened on after the last local listener left
// (docs/protocols/opendht.md §10.4).
const lingerFor = 60 * time.Second

// maxCached bounds the values a listen knows from one node, the oldest giving way (§11.1).
const maxCached = 4096

// Event is news of one value at a key listened on.
type Event struct {
	Value   *dht.Value // shared: do not change it
	Expired bool       // no node has it any more; false: it is new or changed
}

// Listener is a running listen. Cancel it.
type Listener struct {
	n     *Node
	key   dht.InfoHash
	query dht.Query
	call  func(Event)
	w     *watch // nil once cancelled; guarded by the node's lock
}

// watch is one listen on the network, serving all local listeners whose query it covers (§10.4). Owned by the node's
// lock.
type watch struct {
	n         *Node
	key       dht.InfoHash
	query     dht.Query
	listeners []*Listener
	values    map[dht.ValueID]*cached
	linger    timer // ends the watch; set while nobody listens
	expiry    timer // the next cached value that ends by itself
}

// cached is a value that some holder has: nodes listened on, or our own storage (the nil holder).
type cached struct {
	v       *dht.Value
	holders map[*listenState]time.Time // until when, unless refreshed
}

// Listen calls f for every value at key that passes q's conditions: those there are now, later ones, changed ones, and
// those that expire. f runs in a goroutine of the node, one call at a time, must not block, and may call the node.
// Signed values whose signature does not verify are left out. Listen returns at once; nothing is lost before the network
// is reached, since nodes send a new listener all they have. It goes on until Cancel.
func (n *Node) Listen(key dht.InfoHash, q dht.Query, f func(Event)) (*Listener, error) {
	if key.IsZero() || len(q.Select) > 0 || !encodable(q) {
		return nil, ErrInvalid
	}
	l := &Listener{n: n, key: key, query: q.Clone(), call: f}
	n.turn(func(now time.Time) { n.addListener(l, now) })
	return l, nil
}

// Cancel ends the listen. f may still run once for what was under way.
func (l *Listener) Cancel() {
	l.n.turn(func(now time.Time) {
		w := l.w
		if w == nil {
			return
		}
		l.w = nil
		w.listeners = slices.DeleteFunc(w.listeners, func(o *Listener) bool { return o == l })
		if len(w.listeners) == 0 {
			l.n.agenda.set(&w.linger, now.Add(lingerFor))
		}
	})
}

// addListener joins a watch that covers the query, or starts one.
func (n *Node) addListener(l *Listener, now time.Time) {
	w := n.coveringWatch(l.key, l.query)
	if w == nil {
		w = n.newWatch(l.key, l.query, now)
	}
	n.agenda.stop(&w.linger)
	l.w = w
	w.listeners = append(w.listeners, l)
	w.current(func(v *dht.Value) { l.tell(Event{Value: v}) })
}

func (n *Node) coveringWatch(key dht.InfoHash, q dht.Query) *watch {
	for _, w := range n.watches[key] {
		if q.CoveredBy(w.query) {
			return w
		}
	}
	return nil
}

// syncedWatch returns a watch that knows all values q asks for: every node listened on has acknowledged (§10.4).
func (n *Node) syncedWatch(key dht.InfoHash, q dht.Query) *watch {
	w := n.coveringWatch(key, q)
	if w == nil {
		return nil
	}
	for _, f := range n.families {
		if s := f.searches[key]; s == nil || !s.listening(w) {
			return nil
		}
	}
	return w
}

func (n *Node) newWatch(key dht.InfoHash, q dht.Query, now time.Time) *watch {
	w := &watch{n: n, key: key, query: q, values: make(map[dht.ValueID]*cached)}
	w.linger.fire = func(time.Time) { w.end() }
	w.expiry.fire = w.expire
	n.watches[key] = append(n.watches[key], w)
	n.store.Values(key, now, func(sv storage.Value) bool {
		if v, _, err := dht.ParseValue(sv.Raw); err == nil && q.Match(v) {
			w.values[v.ID] = &cached{v: v, holders: map[*listenState]time.Time{nil: {}}}
		}
		return true
	})
	for _, f := range n.families {
		n.searchFor(f, key, now)
	}
	return w
}

// end stops the listen on the network. There is no message for that: it is just not renewed.
func (w *watch) end() {
	n := w.n
	rest := slices.DeleteFunc(n.watches[w.key], func(o *watch) bool { return o == w })
	if n.watches[w.key] = rest; len(rest) == 0 {
		delete(n.watches, w.key)
	}
	n.agenda.stop(&w.expiry)
	for _, f := range n.families {
		s := f.searches[w.key]
		if s == nil {
			continue
		}
		for _, sn := range s.nodes {
			if ls := sn.listens[w]; ls != nil {
				ls.close()
				delete(sn.listens, w)
			}
		}
		s.mark()
	}
}

// current calls f for each value known now.
func (w *watch) current(f func(*dht.Value)) {
	for _, c := range w.values {
		f(c.v)
	}
}

func (l *Listener) tell(e Event) {
	if !l.query.Match(e.Value) {
		return
	}
	l.n.events.post(func() {
		if !e.Expired && e.Value.IsSigned() && e.Value.Verify() != nil {
			return
		}
		l.call(e)
	})
}

func (w *watch) tell(e Event) {
	for _, l := range w.listeners {
		l.tell(e)
	}
}

// add notes that h has v until the given time, zero = until told otherwise.
func (w *watch) add(v *dht.Value, h *listenState, until time.Time) {
	c := w.values[v.ID]
	switch {
	case c == nil:
		c = &cached{v: v, holders: make(map[*listenState]time.Time)}
		w.values[v.ID] = c
		w.tell(Event{Value: v})
	case c.v.Equal(v):
	case v.Seq > c.v.Seq || len(c.holders) == 0:
		c.v = v
		w.tell(Event{Value: v})
	default:
		return // an older version, or a stranger's value under the same id
	}
	if _, ok := c.holders[h]; !ok && h != nil {
		h.known++
	}
	c.holders[h] = until
	if !until.IsZero() {
		w.n.agenda.setEarlier(&w.expiry, until)
	}
}

// remove notes that h no longer has the value.
func (w *watch) remove(id dht.ValueID, h *listenState) {
	c := w.values[id]
	if c == nil {
		return
	}
	if _, ok := c.holders[h]; !ok {
		return
	}
	if delete(c.holders, h); h != nil {
		h.known--
	}
	if len(c.holders) == 0 {
		delete(w.values, id)
		w.tell(Event{Value: c.v, Expired: true})
	}
}

// orphan notes that nothing more will be heard of h. What others hold too is theirs now; the rest lives out its time.
func (w *watch) orphan(h *listenState) {
	for _, c := range w.values {
		if _, ok := c.holders[h]; ok && len(c.holders) > 1 {
			delete(c.holders, h)
		}
	}
}

// expire drops what was not refreshed in time (§11.1).
func (w *watch) expire(now time.Time) {
	for id, c := range w.values {
		for h, until := range c.holders {
			if !until.IsZero() && !until.After(now) {
				w.remove(id, h)
			}
		}
	}
	w.schedule()
}

func (w *watch) schedule() {
	var first time.Time
	for _, c := range w.values {
		for _, until := range c.holders {
			if !until.IsZero() && (first.IsZero() || until.Before(first)) {
				first = until
			}
		}
	}
	if first.IsZero() {
		w.n.agenda.stop(&w.expiry)
	} else {
		w.n.agenda.set(&w.expiry, first)
	}
}

// localStored tells local listeners what our own storage got.
func (n *Node) localStored(key dht.InfoHash, v *dht.Value, _ time.Time) {
	for _, w := range n.watches[key] {
		if w.query.Match(v) {
			w.add(v, nil, time.Time{})
		}
	}
}

// localGone tells local listeners what our own storage dropped.
func (n *Node) localGone(key dht.InfoHash, ids []dht.ValueID, _ time.Time) {
	for _, w := range n.watches[key] {
		for _, id := range ids {
			w.remove(id, nil)
		}
	}
}
