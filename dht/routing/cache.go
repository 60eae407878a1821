package routing

import (
	"net/netip"
	"slices"
	"time"

	"github.com/jirani/jirani/dht"
)

// DefaultIdle is how many records that nothing refers to a Cache keeps: enough to refill any search, small enough that
// a flood of invented ids costs about a megabyte.
const DefaultIdle = 4096

// Cache holds the node records of one address family. Create it with NewCache.
type Cache struct {
	nodes map[dht.InfoHash]*Node
	addrs map[netip.AddrPort]*Node // one record for each address, rather one that proved to be there
	idle  Node                     // sentinel of the ring of records nobody holds, most recently heard first
	nidle int
	max   int // bound of nidle
}

// NewCache returns a cache that keeps at most maxIdle records nobody holds.
func NewCache(maxIdle int) *Cache {
	c := &Cache{nodes: make(map[dht.InfoHash]*Node), addrs: make(map[netip.AddrPort]*Node), max: maxIdle}
	c.idle.prev, c.idle.next = &c.idle, &c.idle
	return c
}

// Len returns the number of records.
func (c *Cache) Len() int { return len(c.nodes) }

// Find returns the record of id, or nil.
func (c *Cache) Find(id dht.InfoHash) *Node { return c.nodes[id] }

// At returns a record whose node is at addr, or nil; of several, one that has shown to receive there is preferred.
func (c *Cache) At(addr netip.AddrPort) *Node { return c.addrs[addr] }

// place enters n into the index by address, unless there is one that is known to be there.
func (c *Cache) place(n *Node) {
	if o := c.addrs[n.Addr]; o == nil || o.Proved.IsZero() {
		c.addrs[n.Addr] = n
	}
}

func (c *Cache) displace(n *Node) {
	if c.addrs[n.Addr] == n {
		delete(c.addrs, n.Addr)
	}
}

// Get returns the record of id, creating it at addr if there is none. If there is one at another address it is moved
// when it is not good, else returned as it is: the caller must compare Addr before it believes a packet from addr to
// come from the node. client is only used for a new record.
func (c *Cache) Get(id dht.InfoHash, addr netip.AddrPort, client bool, now time.Time) *Node {
	if n := c.nodes[id]; n != nil {
		if n.Addr != addr && !n.Good(now) && n.Pending == 0 {
			c.displace(n)
			n.Addr, n.Proved = addr, time.Time{}
			c.place(n)
		}
		return n
	}
	n := &Node{ID: id, Addr: addr, Client: client, cache: c}
	c.nodes[id] = n
	c.place(n)
	c.linkIdle(n)
	return n
}

// ForgiveAll clears expiry and reply times of all records (§14.3).
func (c *Cache) ForgiveAll() {
	for _, n := range c.nodes {
		n.Forgive()
	}
}

// lostTries bounds the records looked at for one that is lost.
const lostTries = 64

// Lost returns one, by chance, of the nodes that answered once and then stopped, or nil.
func (c *Cache) Lost() *Node {
	tries := lostTries
	for _, n := range c.nodes {
		if n.Expired && !n.LastReply.IsZero() && n.Pending == 0 {
			return n
		}
		if tries--; tries == 0 {
			break
		}
	}
	return nil
}

// Closest appends to dst the records closest to target that are not expired and not clients, at most max, nearest
// first. It looks at every record: for starting and refilling searches, not for answering.
func (c *Cache) Closest(dst []*Node, target dht.InfoHash, max int) []*Node {
	best := dst[len(dst):]
	for _, n := range c.nodes {
		if n.Expired || n.Client {
			continue
		}
		if len(best) == max && !Closer(n.ID, best[max-1].ID, target) {
			continue
		}
		i, _ := slices.BinarySearchFunc(best, n, func(a, b *Node) int { return compare(a.ID, b.ID, target) })
		if len(best) < max {
			best = slices.Insert(best, i, n)
		} else {
			copy(best[i+1:], best[i:max-1])
			best[i] = n
		}
	}
	return append(dst, best...)
}

func (c *Cache) linkIdle(n *Node) {
	n.prev, n.next = &c.idle, c.idle.next
	n.prev.next, n.next.prev = n, n
	c.nidle++
	for c.nidle > c.max {
		last := c.idle.prev
		c.unlinkIdle(last)
		delete(c.nodes, last.ID)
		c.displace(last)
		last.cache = nil
	}
}

func (c *Cache) unlinkIdle(n *Node) {
	n.prev.next, n.next.prev = n.next, n.prev
	n.prev, n.next = nil, nil
	c.nidle--
}

func (c *Cache) touch(n *Node) {
	if c.idle.next == n {
		return
	}
	c.unlinkIdle(n)
	c.linkIdle(n)
}
