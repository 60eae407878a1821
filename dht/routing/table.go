package routing

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jirani/jirani/dht"
)

// docs/protocols/opendht.md §8, §9.3.
const (
	K = 8 // nodes in a bucket, nodes in an answer, nodes a value is put on

	bootstrapDepth = 6 // in bootstrap mode buckets above this depth split wherever they are
	maxDepth       = 8 * len(dht.InfoHash{})
)

// Confirm says what is known of a node offered to a Table.
type Confirm int

const (
	Mentioned Confirm = iota // another node told us of it
	Talked                   // it sent us something
	Answered                 // it answered a request of ours
)

// Table is the routing table of one address family. Create it with NewTable.
type Table struct {
	self      dht.InfoHash
	bootstrap bool
	rng       *rand.Rand
	buckets   []bucket // by start; together they cover all ids
	grown     time.Time
}

type bucket struct {
	start  dht.InfoHash // lowest id of its range
	depth  int          // how many leading bits of start all its ids share
	nodes  []*Node      // at most K, held
	cached *Node        // candidate for the next free place, held; may be nil
	time   time.Time    // last time one of its nodes answered
}

// NewTable returns an empty table of a node called self. bootstrap lets buckets everywhere split to depth 6, so that a
// node that serves as an entry point knows more of the network. rng picks nodes and ids to refresh.
func NewTable(self dht.InfoHash, bootstrap bool, rng *rand.Rand) *Table {
	return &Table{self: self, bootstrap: bootstrap, rng: rng, buckets: []bucket{{}}}
}

// Grown returns when our own bucket last received an offer, zero if never.
func (t *Table) Grown() time.Time { return t.grown }

// Depth returns the depth of our own bucket, at least 1 when the table was split.
func (t *Table) Depth() int { return t.buckets[t.find(t.self)].depth }

// NetworkSize estimates how many nodes there are: 8·2^depth (§9.3).
func (t *Table) NetworkSize() int { return K << min(t.Depth(), 50) }

// BucketLen returns how many nodes the bucket of id holds.
func (t *Table) BucketLen(id dht.InfoHash) int { return len(t.buckets[t.find(id)].nodes) }

// Counts is the state of a table in numbers.
type Counts struct{ Good, Dubious, Incoming, Buckets, Candidates int }

// Counts counts the nodes by quality.
func (t *Table) Counts(now time.Time) (c Counts) {
	c.Buckets = len(t.buckets)
	for _, b := range t.buckets {
		if b.cached != nil {
			c.Candidates++
		}
	}
	for n := range t.Nodes {
		switch {
		case n.Good(now):
			c.Good++
			if n.Incoming(now) {
				c.Incoming++
			}
		case !n.Expired:
			c.Dubious++
		}
	}
	return c
}

// Connected reports whether any node is good.
func (t *Table) Connected(now time.Time) bool {
	for n := range t.Nodes {
		if n.Good(now) {
			return true
		}
	}
	return false
}

// Nodes calls yield for every node in the table, bucket by bucket.
func (t *Table) Nodes(yield func(*Node) bool) {
	for i := range t.buckets {
		for _, n := range t.buckets[i].nodes {
			if !yield(n) {
				return
			}
		}
	}
}

// OwnFirst calls yield for every node, those of our own bucket first: the order of a state file (§15.1).
func (t *Table) OwnFirst(yield func(*Node) bool) {
	own := t.find(t.self)
	for _, n := range t.buckets[own].nodes {
		if !yield(n) {
			return
		}
	}
	for i := range t.buckets {
		if i == own {
			continue
		}
		for _, n := range t.buckets[i].nodes {
			if !yield(n) {
				return
			}
		}
	}
}

// Reset forgets when buckets were last confirmed, after our connectivity changed (§14.3).
func (t *Table) Reset() {
	t.grown = time.Time{}
	for i := range t.buckets {
		t.buckets[i].time = time.Time{}
	}
}

// Offer proposes a node (§9.3). It reports whether the node is new in the table, and appends to ping the nodes whose
// state should be asked for now because the node found no place.
func (t *Table) Offer(n *Node, c Confirm, now time.Time, ping []*Node) (inserted bool, _ []*Node) {
	if n.ID == t.self || n.ID == (dht.InfoHash{}) || n.Client {
		return false, ping
	}
	for {
		i := t.find(n.ID)
		b := &t.buckets[i]
		if c == Answered {
			b.time = now
		}
		if slices.Contains(b.nodes, n) {
			return false, ping
		}
		own := t.contains(i, t.self)
		if own {
			t.grown = now
		}
		if b.place(n) {
			return true, ping
		}
		ping = b.pingDoubtful(now, ping)
		if !t.splittable(b, own, now) {
			b.keepCandidate(n, c)
			return false, ping
		}
		if b.cached != nil {
			ping = append(ping, b.cached)
		}
		t.split(i)
	}
}

// splittable: only a full bucket without doubtful nodes is worth splitting, except for the very first.
func (t *Table) splittable(b *bucket, own bool, now time.Time) bool {
	if b.depth >= maxDepth-1 || !own && !(t.bootstrap && b.depth < bootstrapDepth) {
		return false
	}
	return len(t.buckets) == 1 || !slices.ContainsFunc(b.nodes, func(n *Node) bool { return n.Dubious(now) })
}

// split cuts bucket i in half at its next bit.
func (t *Table) split(i int) {
	old := t.buckets[i]
	low := bucket{start: old.start, depth: old.depth + 1, time: old.time}
	high := low
	high.start.SetBit(old.depth, true)
	for _, n := range old.nodes {
		if n.ID.Bit(old.depth) {
			high.nodes = append(high.nodes, n)
		} else {
			low.nodes = append(low.nodes, n)
		}
	}
	if c := old.cached; c != nil {
		if c.ID.Bit(old.depth) {
			high.cached = c
		} else {
			low.cached = c
		}
	}
	t.buckets[i] = low
	t.buckets = slices.Insert(t.buckets, i+1, high)
}

// place puts n into a free place or that of an expired node.
func (b *bucket) place(n *Node) bool {
	if len(b.nodes) >= K {
		i := slices.IndexFunc(b.nodes, func(o *Node) bool { return o.Expired })
		if i < 0 {
			return false
		}
		b.nodes[i].Release()
		b.nodes = slices.Delete(b.nodes, i, i+1)
	}
	n.Hold()
	b.nodes = append(b.nodes, n)
	if b.cached == n {
		b.cached = nil
		n.Release()
	}
	return true
}

// pingDoubtful appends the first node that is not good and not being asked already.
func (b *bucket) pingDoubtful(now time.Time, ping []*Node) []*Node {
	for _, o := range b.nodes {
		if !o.Good(now) && o.Pending == 0 {
			return append(ping, o)
		}
	}
	return ping
}

// keepCandidate remembers n for the next free place.
func (b *bucket) keepCandidate(n *Node, c Confirm) {
	if b.cached == n || c == Mentioned && b.cached != nil {
		return
	}
	if b.cached != nil {
		b.cached.Release()
	}
	n.Hold()
	b.cached = n
}

// Sweep removes expired nodes and appends to ping the candidates for the places that became free.
func (t *Table) Sweep(ping []*Node) []*Node {
	for i := range t.buckets {
		b := &t.buckets[i]
		kept := b.nodes[:0]
		for _, n := range b.nodes {
			if n.Expired {
				n.Release()
			} else {
				kept = append(kept, n)
			}
		}
		lost := len(kept) < len(b.nodes)
		clear(b.nodes[len(kept):])
		b.nodes = kept
		if lost && b.cached != nil {
			ping = append(ping, b.cached)
		}
	}
	return ping
}

// find returns the index of the bucket whose range holds id.
func (t *Table) find(id dht.InfoHash) int {
	lo, hi := 0, len(t.buckets) // buckets[lo].start <= id < buckets[hi].start
	for hi-lo > 1 {
		mid := (lo + hi) / 2
		if compare(t.buckets[mid].start, id, dht.InfoHash{}) <= 0 {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

func (t *Table) contains(i int, id dht.InfoHash) bool {
	return t.buckets[i].start.CommonBits(id) >= t.buckets[i].depth
}
