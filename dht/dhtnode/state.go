package dhtnode

import (
	"net/netip"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/routing"
	"github.com/jirani/jirani/dht/state"
	"github.com/jirani/jirani/dht/storage"
)

// Export returns what is worth keeping over a restart: the id, the good nodes, ours and others' values
// (docs/protocols/opendht.md §15.1). It may be called at any time, also after Run.
func (n *Node) Export() *state.State {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.clock()
	s := &state.State{ID: n.self}
	for _, f := range n.families {
		f.table.OwnFirst(func(node *routing.Node) bool {
			if node.Good(now) {
				s.Nodes = append(s.Nodes, dht.NodeAddr{ID: node.ID, Addr: node.Addr})
			}
			return true
		})
	}
	for key := range n.store.Keys {
		n.store.Values(key, now, func(sv storage.Value) bool {
			if v, _, err := dht.ParseValue(sv.Raw); err == nil {
				s.Values = append(s.Values, n.stored(key, v, sv))
			}
			return true
		})
	}
	return s
}

// stored says who put a value by what storage remembers, an IPv4 address or the network of an IPv6 one. The port is 0 and nobody's
// loss: whoever reads the file only asks whose quota the value counts against, and ports have no part in that (§12.1).
func (n *Node) stored(key dht.InfoHash, v *dht.Value, sv storage.Value) state.Stored {
	st := state.Stored{Key: key, Value: v, Created: sv.Created, Ends: sv.Ends, Permanent: sv.Ends.IsZero()}
	if sv.Source.IsValid() {
		st.Source = netip.AddrPortFrom(sv.Source, 0)
	}
	return st
}

// Import takes nodes and values from an earlier life. The id is not to be taken over by a node whose listeners were lost. Nothing in s is
// believed: nodes are offered unverified, values pass the policies of their types again, within all quotas. It returns
// how many values were taken. Call it before Run: it checks signatures itself.
func (n *Node) Import(s *state.State) (taken int) {
	for _, a := range s.Nodes {
		n.AddNode(a)
	}
	for _, st := range s.Values {
		ok := st.Value.IsSigned() && st.Value.Verify() == nil
		n.turn(func(now time.Time) {
			n.verified = nil
			if ok {
				n.verified = st.Value
			}
			if n.restore(st, now) {
				taken++
			}
		})
	}
	return taken
}

// restore stores one value as a put of its source would, but never longer than it had left.
func (n *Node) restore(st state.Stored, now time.Time) bool {
	v, key := st.Value, st.Key
	if key.IsZero() || v.ID == 0 || !st.Ends.After(now) || n.store.Has(key) && n.hasValue(key, v.ID) {
		return false
	}
	v, err := n.types.Get(v.Type).Store(key, v, st.Source)
	if err != nil {
		return false
	}
	n.encoded = v.Append(n.encoded[:0])
	sv := storage.Value{Raw: n.encoded, ID: v.ID, Type: v.Type, Created: st.Created, Source: st.Source.Addr()}
	return n.insert(key, v, sv, st.Ends.Sub(st.Created), now)
}

func (n *Node) hasValue(key dht.InfoHash, id dht.ValueID) bool {
	_, ok := n.store.Get(key, id)
	return ok
}
