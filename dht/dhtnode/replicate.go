package dhtnode

import (
	"context"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/routing"
	"github.com/jirani/jirani/dht/storage"
)

// Storage maintenance (docs/protocols/opendht.md §12.4), an option that is off by default everywhere.
const (
	replicateEvery = 10 * time.Minute
	replicateLeft  = 10 * time.Minute // values with less life left are let go
	replicateKeys  = 256              // keys looked after in one round, so that a full node does not flood the network
)

// leaving is how many announcements Leave has under way at once.
const leaving = 128

// replicate hands values at keys that are no longer ours to the nodes that are closer now, and drops them when that is so
// in every family.
func (n *Node) replicate(now time.Time) {
	n.agenda.set(&n.replica, now.Add(replicateEvery))
	budget := replicateKeys
	var far []dht.InfoHash
	for key := range n.store.Keys {
		if n.farIn(key, now) > 0 {
			if far = append(far, key); len(far) == budget {
				break
			}
		}
	}
	for _, key := range far {
		n.handOver(key, now)
	}
}

// farIn counts the families in which 8 good nodes are closer to key than we are; with fewer known it is ours.
func (n *Node) farIn(key dht.InfoHash, now time.Time) (far int) {
	for _, f := range n.families {
		n.closest = f.table.Closest(n.closest[:0], key, routing.K, now)
		if c := len(n.closest); c == routing.K && routing.Closer(n.closest[c-1].ID, n.self, key) {
			far++
		}
	}
	return far
}

// handOver announces the values at key that others put here. Where we are needed in no family, a value is dropped, but not
// before somebody has acknowledged it: upstream drops it at once, and with it the last copy if nobody answers.
func (n *Node) handOver(key dht.InfoHash, now time.Time) {
	families := 0
	for range n.families {
		families++
	}
	everywhere := n.farIn(key, now) == families
	for _, v := range n.valuesAt(key, now, func(sv storage.Value) bool {
		return sv.Source.IsValid() && sv.Ends.Sub(now) > replicateLeft
	}) {
		if n.announcing(key, v.ID) {
			continue
		}
		p := n.announce(key, v.Value, v.created, now)
		if everywhere {
			p.ended = func(acked int) { n.handedOver(key, v.Value, acked) }
		}
	}
}

// handedOver drops a value that others hold now, unless it has become another one. Listeners are not told: it is not gone
// from the network, and they listen where it went.
func (n *Node) handedOver(key dht.InfoHash, v *dht.Value, acked int) {
	if held, ok := n.held(key, v.ID); ok && acked > 0 && held.Equal(v) {
		n.store.Remove(key, v.ID)
		n.localGone(key, []dht.ValueID{v.ID}, n.now)
	}
}

// heldValue is a stored value that was read.
type heldValue struct {
	*dht.Value
	created time.Time
}

func (n *Node) valuesAt(key dht.InfoHash, now time.Time, want func(storage.Value) bool) (values []heldValue) {
	n.store.Values(key, now, func(sv storage.Value) bool {
		if v, _, err := dht.ParseValue(sv.Raw); err == nil && want(sv) {
			values = append(values, heldValue{v, sv.Created})
		}
		return true
	})
	return values
}

func (n *Node) announcing(key dht.InfoHash, id dht.ValueID) bool {
	for _, p := range n.puts[key] {
		if p.v.ID == id {
			return true
		}
	}
	return false
}

// announce puts a value on the closest nodes and not here.
func (n *Node) announce(key dht.InfoHash, v *dht.Value, created, now time.Time) *put {
	p := &put{n: n, key: key, v: v, raw: v.Append(nil), created: created, lifetime: n.types.Lifetime(v.Type),
		pending: make(map[*family]bool)}
	n.puts[key] = append(n.puts[key], p)
	for _, f := range n.families {
		p.pending[f] = true
		n.searchFor(f, key, now)
	}
	return p
}

// Leave announces every value stored here, others' and our own, to the nodes closest to it, so that they lack nothing once
// this node is gone. Like upstream it does so only with Config.Maintain; otherwise the other holders are relied on. Call it
// while Run still runs. It returns how many values somebody acknowledged; the error is ctx's when it ended first.
func (n *Node) Leave(ctx context.Context) (handed int, err error) {
	if !n.cfg.Maintain {
		return 0, nil
	}
	n.mu.Lock()
	var keys []dht.InfoHash
	for key := range n.store.Keys {
		keys = append(keys, key)
	}
	n.mu.Unlock()
	ended := make(chan int, leaving)
	running := 0
	take := func(limit int) error {
		for ; running > limit; running-- {
			select {
			case acked := <-ended:
				handed += min(acked, 1)
			case <-ctx.Done():
				return ctx.Err()
			case <-n.done:
				return ErrClosed
			}
		}
		return nil
	}
	for _, key := range keys {
		for _, v := range n.leavingAt(key) {
			if err := take(leaving - 1); err != nil {
				return handed, err
			}
			running++
			n.turn(func(now time.Time) {
				n.announce(key, v.Value, v.created, now).ended = func(acked int) { ended <- acked }
			})
		}
	}
	return handed, take(0)
}

// leavingAt returns the values at key. Those we put permanently count as new, so that their holders keep them for a whole
// life more.
func (n *Node) leavingAt(key dht.InfoHash) (values []heldValue) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.clock()
	values = n.valuesAt(key, now, func(storage.Value) bool { return true })
	for i, v := range values {
		for _, p := range n.puts[key] {
			if p.permanent && p.v.ID == v.ID {
				values[i].created = now
			}
		}
	}
	return values
}
