package dhtnode_test

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/dhttest"
)

// hosts is a resolver whose answers can change.
type hosts struct {
	mu    sync.Mutex
	addrs map[string]netip.Addr
	asked int
}

func (h *hosts) set(name string, a netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.addrs = map[string]netip.Addr{name: a}
}

func (h *hosts) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	if a, ok := h.addrs[host]; ok {
		return []netip.Addr{a}, nil
	}
	return nil, context.DeadlineExceeded
}

// TestDeadEntryPointCostsLittle: a node whose only entry point is dead tries at a growing pace and rests between
// (docs/protocols/opendht.md §14.2).
func TestDeadEntryPointCostsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dhttest.NewCluster(t, dhttest.Link{Latency: latency})
		defer c.Stop()
		n := c.Start(dhtnode.Config{Bootstrap: []string{"192.0.2.1:4222"}})
		l, err := n.Listen(dht.HashText("k"), dht.Query{}, func(dhtnode.Event) {})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Cancel()
		go n.Put(t.Context(), dht.HashText("k"), text("v"), dhtnode.PutOptions{Permanent: true})
		// Three sends a round; rounds after 10, 20, 40 … seconds.
		before := 0
		for _, w := range []struct {
			until    time.Duration
			from, to int
		}{{time.Minute, 6, 12}, {10 * time.Minute, 6, 12}, {time.Hour, 9, 15}, {24 * time.Hour, 3 * 90, 3 * 100}} {
			dhttest.Pass(w.until)
			sent := c.Net.Sent() - before
			before += sent
			if sent < w.from || sent > w.to {
				t.Errorf("%d datagrams within %v, want %d–%d", sent, w.until, w.from, w.to)
			}
		}
	})
}

// TestDeadAcquaintanceCostsLittle: the same after the only other node was known, listened on and stored on, and died.
func TestDeadAcquaintanceCostsLittle(t *testing.T) {
	network(t, 2, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		n := c.Nodes[1]
		key := dht.HashText("k")
		l, err := n.Listen(key, dht.Query{}, func(dhtnode.Event) {})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Cancel()
		put(t, n, key, text("v"), dhtnode.PutOptions{Permanent: true})
		c.Nodes[0].Stop()
		c.Nodes = c.Nodes[1:]
		dhttest.Pass(time.Hour)
		before := c.Net.Sent()
		dhttest.Pass(24 * time.Hour)
		if sent := c.Net.Sent() - before; sent == 0 || sent > 24*60 {
			t.Errorf("%d datagrams in a day without anybody there; at most one a minute, and not none", sent)
		}
	})
}

// TestEntryPointComesBackElsewhere: its name has another address after an outage of a night, and it another id.
func TestEntryPointComesBackElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := new(hosts)
		c := dhttest.NewCluster(t, dhttest.Link{Latency: latency})
		c.Resolver = h
		defer c.Stop()
		entry := c.Start(dhtnode.Config{})
		h.set("entry.example", entry.Addr.Addr())
		n := c.Start(dhtnode.Config{Bootstrap: []string{"entry.example"}})
		c.Settle(time.Minute)
		entry.Stop()
		c.Nodes = c.Nodes[1:]
		h.set("", netip.Addr{})
		dhttest.Pass(9 * time.Hour)
		if v4, _ := n.Status(); v4 == dhtnode.Connected {
			t.Fatalf("status %v without anybody there", v4)
		}
		asked := h.asked
		again := c.Start(dhtnode.Config{})
		h.set("entry.example", again.Addr.Addr())
		dhttest.Pass(16 * time.Minute)
		if v4, _ := n.Status(); v4 != dhtnode.Connected {
			t.Errorf("status %v a quarter of an hour after the entry point came back", v4)
		}
		if asked == 0 || asked > 60 {
			t.Errorf("name looked up %d times in nine hours", asked)
		}
	})
}
