package routing

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/jirani/jirani/dht"
)

// docs/protocols/opendht.md §8.
const (
	replyGoodFor  = 120 * time.Minute // a node is good only if it replied within this time
	heardGoodFor  = 10 * time.Minute  // … and was heard within this time
	quietAfter    = time.Minute       // a node not heard for this long may have died
	maxAuthErrors = 3                 // one more 401 in a row expires the node
)

// Node is what we know of one node id in one address family (docs/protocols/opendht.md §9.1).
// Fields are owned by whoever owns the Cache; ID never changes.
type Node struct {
	ID     dht.InfoHash
	Addr   netip.AddrPort
	Client bool // it said that it only asks (`s`): never offered to the table

	LastHeard time.Time // any packet from it; zero means never
	LastReply time.Time // an answer to one of our requests; zero means never
	Proved    time.Time // showed that it receives at Addr: answered us, or used a token of ours
	Expired   bool      // stopped answering, or unreachable
	Late      bool      // left the first send of a request of ours unanswered, and was not heard since
	Pending   int       // our requests to it that are in flight; kept by the engine

	authErrors int
	nextTID    uint32
	refs       int
	cache      *Cache
	prev, next *Node // place in the cache's idle list, when refs is 0
}

// Good reports whether the node may be handed out to others and counts as part of the network (§9.2).
func (n *Node) Good(now time.Time) bool {
	return !n.Expired && !n.LastReply.IsZero() &&
		now.Sub(n.LastReply) <= replyGoodFor && now.Sub(n.LastHeard) <= heardGoodFor
}

// Quiet reports whether the node should be asked whether it still lives before it is named much longer.
func (n *Node) Quiet(now time.Time) bool { return n.Pending == 0 && now.Sub(n.LastHeard) > quietAfter }

// Dubious reports whether the node is neither good nor expired.
func (n *Node) Dubious(now time.Time) bool { return !n.Expired && !n.Good(now) }

// Incoming reports whether a good node has talked to us since its last answer.
func (n *Node) Incoming(now time.Time) bool { return n.Good(now) && n.LastHeard.After(n.LastReply) }

// Heard records a packet from the node. It revives an expired one.
func (n *Node) Heard(now time.Time) {
	n.LastHeard, n.Expired, n.Late = now, false, false
	if n.refs == 0 && n.cache != nil {
		n.cache.touch(n)
	}
}

// Replied records an answer to a request of ours.
func (n *Node) Replied(now time.Time) {
	n.Heard(now)
	n.LastReply, n.Proved, n.authErrors = now, now, 0
}

// Expire marks a node that left its requests unanswered or cannot be reached.
func (n *Node) Expire() { n.Expired = true }

// AuthError counts a refused token and expires a node that refuses again and again (§3.3). It returns how many there
// were in a row.
func (n *Node) AuthError() int {
	n.authErrors++
	if n.authErrors > maxAuthErrors {
		n.Expired = true
	}
	return n.authErrors
}

// Accepted ends a row of authentication errors.
func (n *Node) Accepted() { n.authErrors = 0 }

// Forgive clears what we held against the node after our own connectivity changed (§14.3).
func (n *Node) Forgive() {
	n.LastHeard, n.LastReply, n.Expired, n.Late = time.Time{}, time.Time{}, false, false
}

// NextTID returns a fresh transaction or socket number: a counter for each node with a random start, never zero (§1.3).
func (n *Node) NextTID() uint32 {
	if n.nextTID == 0 {
		n.nextTID = rand.Uint32() | 1
	}
	tid := n.nextTID
	if n.nextTID++; n.nextTID == 0 {
		n.nextTID = 1
	}
	return tid
}

// Hold keeps the record out of the reach of the cache's eviction until Release.
func (n *Node) Hold() {
	if n.refs++; n.refs == 1 && n.cache != nil {
		n.cache.unlinkIdle(n)
	}
}

// Release ends one Hold.
func (n *Node) Release() {
	if n.refs--; n.refs < 0 {
		panic("routing: Release without Hold")
	}
	if n.refs == 0 && n.cache != nil {
		n.cache.linkIdle(n)
	}
}
