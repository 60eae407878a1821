package dhtnode

import (
	"net/netip"
	"time"
)

// Status says how well a node is connected, per family (docs/protocols/opendht.md §14.1).
type Status int

// The states.
const (
	Disconnected Status = iota // nobody known to be there, and nobody being asked
	Connecting                 // waiting for somebody to answer
	Connected                  // at least one good node
)

var statusNames = [...]string{"disconnected", "connecting", "connected"}

// String is the status in lower case.
func (s Status) String() string { return statusNames[s] }

// Status returns the state of each family; one the node has no socket of is disconnected.
func (n *Node) Status() (v4, v6 Status) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.clock()
	return n.familyStatus(inet4, now), n.familyStatus(inet6, now)
}

// OnStatus makes f be called, from a goroutine of the node, whenever the status of a family changes. One f at a time;
// nil ends it.
func (n *Node) OnStatus(f func(v4, v6 Status)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.onStatus = f
}

// PublicAddrs returns what others say our addresses are, the best supported first (§14.4).
func (n *Node) PublicAddrs() (v4, v6 []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f := n.fam[inet4]; f != nil {
		v4 = f.votes.all()
	}
	if f := n.fam[inet6]; f != nil {
		v6 = f.votes.all()
	}
	return v4, v6
}

func (n *Node) familyStatus(i int, now time.Time) Status {
	f := n.fam[i]
	if f == nil {
		return Disconnected
	}
	connecting := n.boot.pending(i) > 0
	for node := range f.table.Nodes {
		switch {
		case node.Good(now):
			return Connected
		case node.Dubious(now):
			connecting = true
		}
	}
	if connecting {
		return Connecting
	}
	return Disconnected
}

// connected is called after every reply; only the first in a while changes anything.
func (n *Node) connected(now time.Time) {
	for i := range n.families {
		if n.status[i] != Connected {
			n.checkStatus(now)
			return
		}
	}
}

// checkStatus acts on changes: on connection waiting searches go on and the certificate is published; when both families
// are disconnected bootstrap starts again (§14.2).
func (n *Node) checkStatus(now time.Time) {
	changed, online, lost := false, false, true
	for i, f := range n.families {
		s := n.familyStatus(i, now)
		if s == Connected && n.status[i] != Connected {
			online = true
			n.wakeSearches(f)
			n.searchFor(f, n.self, now).explore = true // get to know the neighbourhood at once
		}
		if s != Disconnected {
			lost = false
		}
		changed = changed || s != n.status[i]
		n.status[i] = s
	}
	if online {
		n.boot.connected()
		n.online(now)
	}
	if lost || changed {
		n.markSearches() // those of a family without nodes end once nothing is waited for any more
	}
	if lost {
		poke(n.rearm)
	}
	if changed {
		v4, v6 := n.status[inet4], n.status[inet6]
		n.log.Info("status changed", "ipv4", v4.String(), "ipv6", v6.String())
		if f := n.onStatus; f != nil {
			n.events.post(func() { f(v4, v6) })
		}
	}
}

// waiting reports whether operations should wait for a connection to come (§10.5).
func (n *Node) waiting(now time.Time) bool {
	return n.familyStatus(inet4, now) == Connecting || n.familyStatus(inet6, now) == Connecting || n.boot.due()
}
