package routing

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
)

var (
	t0   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	addr = netip.MustParseAddrPort("192.0.2.1:4222")
)

func testRand() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// randomID draws an id; prefix sets its first byte.
func randomID(r *rand.Rand) (id dht.InfoHash) {
	for i := range id {
		id[i] = byte(r.UintN(256))
	}
	return id
}

func goodNode(c *Cache, id dht.InfoHash, now time.Time) *Node {
	n := c.Get(id, addr, false, now)
	n.Replied(now)
	return n
}

func TestQuality(t *testing.T) {
	n := &Node{ID: dht.HashText("x"), Addr: addr}
	if n.Good(t0) || !n.Dubious(t0) {
		t.Error("a node never heard of is dubious")
	}
	n.Replied(t0)
	if !n.Good(t0) || n.Incoming(t0) {
		t.Error("a node that just replied is good and not incoming")
	}
	if n.Good(t0.Add(10*time.Minute + 1)) {
		t.Error("a node silent for over 10 minutes is not good")
	}
	n.Heard(t0.Add(100 * time.Minute))
	if at := t0.Add(105 * time.Minute); !n.Good(at) || !n.Incoming(at) {
		t.Error("heard 5 minutes ago, replied 105 minutes ago: good and incoming")
	}
	n.Heard(t0.Add(121 * time.Minute))
	if n.Good(t0.Add(121 * time.Minute)) {
		t.Error("no reply for over 120 minutes is not good")
	}
	n.Expire()
	if n.Dubious(t0) {
		t.Error("an expired node is not dubious")
	}
	n.Heard(t0)
	if n.Expired {
		t.Error("a packet revives")
	}
	for i := range 4 {
		if n.Expired {
			t.Errorf("expired after %d authentication errors", i)
		}
		n.AuthError()
	}
	if !n.Expired {
		t.Error("four authentication errors in a row expire")
	}
}

func TestTransactionNumbersAreNeverZero(t *testing.T) {
	n := &Node{nextTID: 0xffffffff}
	if got := n.NextTID(); got != 0xffffffff {
		t.Errorf("NextTID = %d", got)
	}
	if got := n.NextTID(); got != 1 {
		t.Errorf("NextTID after the largest = %d, want 1", got)
	}
}

func TestClosestIsExact(t *testing.T) {
	r := testRand()
	self := randomID(r)
	for _, bootstrap := range []bool{false, true} {
		c, tab := NewCache(1<<16), NewTable(self, bootstrap, r)
		for range 2000 {
			tab.Offer(goodNode(c, randomID(r), t0), Answered, t0, nil)
		}
		all := slices.Collect(tab.Nodes)
		for range 200 {
			target := randomID(r)
			slices.SortFunc(all, func(a, b *Node) int { return compare(a.ID, b.ID, target) })
			if got := tab.Closest(nil, target, K, t0); !slices.Equal(got, all[:K]) {
				t.Fatalf("Closest(%v) with bootstrap=%v is not the nearest %d", target, bootstrap, K)
			}
		}
	}
}

func TestClosestLeavesOutTheLate(t *testing.T) {
	c, table := NewCache(8), NewTable(dht.HashText("me"), false, testRand())
	n := goodNode(c, dht.HashText("x"), t0)
	table.Offer(n, Answered, t0, nil)
	if n.Late = true; len(table.Closest(nil, n.ID, K, t0)) != 0 {
		t.Error("a node that does not answer is named")
	}
	if n.Heard(t0); len(table.Closest(nil, n.ID, K, t0)) != 1 {
		t.Error("a node heard again is not named")
	}
	if n.Quiet(t0.Add(time.Minute)) || !n.Quiet(t0.Add(time.Minute+1)) {
		t.Error("a node is quiet once not heard for over a minute")
	}
	if n.Pending = 1; n.Quiet(t0.Add(time.Hour)) {
		t.Error("a node being asked need not be asked")
	}
}

func TestClosestDoesNotAllocate(t *testing.T) {
	r := testRand()
	c, tab := NewCache(1<<16), NewTable(randomID(r), false, r)
	for range 500 {
		tab.Offer(goodNode(c, randomID(r), t0), Answered, t0, nil)
	}
	dst, target := make([]*Node, 0, K), randomID(r)
	if n := testing.AllocsPerRun(100, func() { tab.Closest(dst, target, K, t0) }); n != 0 {
		t.Errorf("Closest allocates %v times", n)
	}
}

func TestBucketsSplitAroundOurselves(t *testing.T) {
	r := testRand()
	self := randomID(r)
	c, tab := NewCache(1<<16), NewTable(self, false, r)
	for range 5000 {
		tab.Offer(goodNode(c, randomID(r), t0), Answered, t0, nil)
	}
	for i := range tab.buckets {
		b := &tab.buckets[i]
		if len(b.nodes) > K {
			t.Errorf("bucket %d holds %d nodes", i, len(b.nodes))
		}
		for _, n := range b.nodes {
			if n.ID.CommonBits(b.start) < b.depth {
				t.Errorf("bucket %d of depth %d holds a stranger", i, b.depth)
			}
		}
		if i > 0 && tab.buckets[i-1].start.Compare(b.start) >= 0 {
			t.Errorf("bucket %d out of order", i)
		}
	}
	// 5000 nodes: our bucket is about log2(5000/8) ≈ 9 bits deep.
	if d := tab.Depth(); d < 7 || d > 12 {
		t.Errorf("Depth = %d for 5000 nodes", d)
	}
	if got := tab.NetworkSize(); got != K<<tab.Depth() {
		t.Errorf("NetworkSize = %d", got)
	}
}

func TestFullBucket(t *testing.T) {
	r := testRand()
	var self dht.InfoHash
	self[0] = 0x80 // far from the ids below: their bucket does not split once it is not ours
	self[19] = 1
	c, tab := NewCache(1<<16), NewTable(self, false, r)
	far := func() dht.InfoHash { id := randomID(r); id[0] &= 0x7f; return id }
	near := func() dht.InfoHash { id := randomID(r); id[0] |= 0x80; return id }
	tab.Offer(goodNode(c, near(), t0), Answered, t0, nil)
	var old []*Node
	for len(old) < K {
		n := goodNode(c, far(), t0)
		if in, _ := tab.Offer(n, Answered, t0, nil); in {
			old = append(old, n)
		}
	}
	x := goodNode(c, far(), t0)
	if in, ping := tab.Offer(x, Answered, t0, nil); in || len(ping) != 0 {
		t.Errorf("Offer to a full good bucket = %v, ping %v", in, ping)
	}
	later := t0.Add(11 * time.Minute)
	y := goodNode(c, far(), later)
	in, ping := tab.Offer(y, Answered, later, nil)
	if in || len(ping) != 1 || ping[0] != old[0] {
		t.Errorf("Offer to a full bucket of doubtful nodes: inserted %v, ping %v, want the first doubtful", in, ping)
	}
	old[0].Expire()
	if in, _ = tab.Offer(y, Answered, later, nil); !in {
		t.Error("an expired node gives way")
	}
	old[1].Expire()
	z := goodNode(c, far(), later)
	for _, n := range old[2:] {
		n.Replied(later)
	}
	old[1].Expired = false
	tab.Offer(z, Talked, later, nil)
	old[1].Expire()
	if ping := tab.Sweep(nil); len(ping) != 1 || ping[0] != z {
		t.Errorf("Sweep pings %v, want the cached candidate", ping)
	}
}

func TestClientsAndOurselvesStayOut(t *testing.T) {
	r := testRand()
	self := randomID(r)
	c, tab := NewCache(8), NewTable(self, false, r)
	if in, _ := tab.Offer(c.Get(self, addr, false, t0), Answered, t0, nil); in {
		t.Error("own id inserted")
	}
	if in, _ := tab.Offer(c.Get(randomID(r), addr, true, t0), Answered, t0, nil); in {
		t.Error("client inserted")
	}
}

func TestMaintain(t *testing.T) {
	r := testRand()
	c, tab := NewCache(1<<16), NewTable(randomID(r), false, r)
	if got := tab.Maintain(t0, nil); len(got) != 0 {
		t.Errorf("an empty table asks %v", got)
	}
	for range 300 {
		tab.Offer(goodNode(c, randomID(r), t0), Answered, t0, nil)
	}
	if got := tab.Maintain(t0, nil); len(got) != 1 || !got[0].Both || got[0].Target.CommonBits(tab.self) < 152 {
		t.Errorf("a table that just grew asks %v, want one find near ourselves", got)
	}
	got := tab.Maintain(t0.Add(11*time.Minute), nil)
	if len(got) < len(tab.buckets)-1 {
		t.Errorf("%d finds for %d stale buckets", len(got), len(tab.buckets))
	}
}

func TestCacheIsBoundedAndDoesNotMoveGoodNodes(t *testing.T) {
	r := testRand()
	c := NewCache(100)
	held := c.Get(randomID(r), addr, false, t0)
	held.Hold()
	for range 1000 {
		c.Get(randomID(r), addr, false, t0)
	}
	if c.Len() != 101 || c.Find(held.ID) != held {
		t.Errorf("Len = %d, held record present %v", c.Len(), c.Find(held.ID) == held)
	}
	held.Release()
	other := netip.MustParseAddrPort("192.0.2.66:1")
	held.Replied(t0)
	if c.Get(held.ID, other, false, t0); held.Addr != addr {
		t.Error("a forged packet moved a good node")
	}
	if c.Get(held.ID, other, false, t0.Add(time.Hour)); held.Addr != other {
		t.Error("a node that is not good any more moves")
	}
}

func TestCacheClosest(t *testing.T) {
	r := testRand()
	c := NewCache(1 << 16)
	for range 1000 {
		c.Get(randomID(r), addr, false, t0)
	}
	target := randomID(r)
	var all []*Node
	for _, n := range c.nodes {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b *Node) int { return compare(a.ID, b.ID, target) })
	if got := c.Closest(nil, target, 14); !slices.Equal(got, all[:14]) {
		t.Error("Closest is not exact")
	}
}

func TestCacheFindsByAddress(t *testing.T) {
	c := NewCache(2)
	now := time.Now()
	a, b := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:1")
	first := c.Get(dht.HashText("first"), a, false, now)
	first.Replied(now)
	if c.Get(dht.HashText("second"), a, false, now); c.At(a) != first {
		t.Error("a new id takes the place of a node that answered")
	}
	moved := c.Get(dht.HashText("second"), b, false, now)
	if moved.Addr != b || c.At(b) != moved {
		t.Errorf("moved to %v, found there %v", moved.Addr, c.At(b))
	}
	c.Get(dht.HashText("third"), netip.MustParseAddrPort("192.0.2.3:1"), false, now)
	c.Get(dht.HashText("fourth"), netip.MustParseAddrPort("192.0.2.4:1"), false, now)
	if c.At(a) != nil || c.At(b) != nil || len(c.addrs) != c.Len() {
		t.Errorf("%d addresses of %d records", len(c.addrs), c.Len())
	}
}

func TestCacheLost(t *testing.T) {
	c := NewCache(8)
	never, gone := c.Get(dht.HashText("never answered"), addr, false, t0), c.Get(dht.HashText("gone"), addr, false, t0)
	goodNode(c, dht.HashText("there"), t0)
	gone.Replied(t0)
	if n := c.Lost(); n != nil {
		t.Errorf("Lost = %v while nobody is", n.ID)
	}
	never.Expire()
	gone.Expire()
	if n := c.Lost(); n != gone {
		t.Errorf("Lost = %v", n)
	}
	if gone.Pending = 1; c.Lost() != nil {
		t.Error("who is being asked was found")
	}
}
