package dhtnode

import (
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

// handOver announces the values at key that others put here.
func (n *Node) handOver(key dht.InfoHash, now time.Time) {
	families := 0
	for range n.families {
		families++
	}
	everywhere := n.farIn(key, now) == families
	var moved []dht.ValueID
	n.store.Values(key, now, func(sv storage.Value) bool {
		v, _, err := dht.ParseValue(sv.Raw)
		if err != nil || !sv.Source.IsValid() || sv.Ends.Sub(now) <= replicateLeft {
			return true
		}
		if !n.announcing(key, v.ID) {
			n.announce(key, v, sv.Created, now)
			moved = append(moved, v.ID)
		}
		return true
	})
	for _, id := range moved {
		if everywhere {
			n.store.Remove(key, id)
		}
	}
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
func (n *Node) announce(key dht.InfoHash, v *dht.Value, created, now time.Time) {
	p := &put{n: n, key: key, v: v, raw: v.Append(nil), created: created, lifetime: n.types.Lifetime(v.Type),
		pending: make(map[*family]bool)}
	n.puts[key] = append(n.puts[key], p)
	for _, f := range n.families {
		p.pending[f] = true
		n.searchFor(f, key, now)
	}
}
