package dhtnode_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/dhttest"
)

const (
	latency = 20 * time.Millisecond
	rtt     = 2 * latency
)

// network runs f in a bubble with a settled cluster of size nodes.
func network(t *testing.T, size int, l dhttest.Link, f func(t *testing.T, c *dhttest.Cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := dhttest.NewCluster(t, l)
		defer c.Stop()
		c.Grow(size, dhtnode.Config{})
		c.Settle(time.Minute)
		dhttest.Pass(time.Minute)
		f(t, c)
	})
}

func text(s string) *dht.Value { return &dht.Value{Data: []byte(s)} }

// get returns the data of all values at key as n finds them.
func get(t *testing.T, n *dhttest.Node, key dht.InfoHash) (found []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := n.Get(ctx, key, dht.Query{}, func(v *dht.Value) bool {
		found = append(found, string(v.Data))
		return true
	})
	if err != nil {
		t.Errorf("Get: %v", err)
	}
	slices.Sort(found)
	return found
}

func put(t *testing.T, n *dhttest.Node, key dht.InfoHash, v *dht.Value, o dhtnode.PutOptions) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := n.Put(ctx, key, v, o); err != nil {
		t.Errorf("Put: %v", err)
	}
}

func TestPutThenGetFromAnyNode(t *testing.T) {
	network(t, 100, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		for i, n := range c.Nodes {
			key := dht.HashText(fmt.Sprint("key ", i))
			put(t, n, key, text("v"), dhtnode.PutOptions{})
			for _, j := range []int{(i + 1) % 100, (i + 37) % 100, (i + 71) % 100} {
				if got := get(t, c.Nodes[j], key); len(got) != 1 || got[0] != "v" {
					t.Errorf("node %d put, node %d found %q", i, j, got)
				}
			}
		}
	})
}

func TestListenLatency(t *testing.T) {
	network(t, 100, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		var mu sync.Mutex
		var took []time.Duration
		for i := range 50 {
			key := dht.HashText(fmt.Sprint("listen ", i))
			var sent time.Time
			heard := make(chan struct{})
			var once sync.Once
			l, err := c.Nodes[i].Listen(key, dht.Query{}, func(e dhtnode.Event) {
				once.Do(func() {
					mu.Lock()
					took = append(took, time.Since(sent))
					mu.Unlock()
					close(heard)
				})
			})
			if err != nil {
				t.Fatal(err)
			}
			// A sender that has looked at the place before, as one in a conversation has.
			get(t, c.Nodes[99-i], key)
			dhttest.Pass(5 * time.Second)
			sent = time.Now()
			put(t, c.Nodes[99-i], key, text("v"), dhtnode.PutOptions{})
			select {
			case <-heard:
			case <-time.After(time.Minute):
				t.Errorf("listener %d heard nothing", i)
			}
			l.Cancel()
		}
		slices.Sort(took)
		if median := took[len(took)/2]; median >= 3*rtt {
			t.Errorf("median of %d from put to listener is %v, want under %v", len(took), median, 3*rtt)
		}
		t.Logf("put to listener: median %v, worst %v (round trip %v)", took[len(took)/2], took[len(took)-1], rtt)
	})
}

func TestNothingIsLostWhenAThirdVanishes(t *testing.T) {
	network(t, 100, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		for i := range 100 {
			put(t, c.Nodes[i], dht.HashText(fmt.Sprint("k", i)), text("v"), dhtnode.PutOptions{})
		}
		var dead []*dhttest.Node
		for i := 0; i < len(c.Nodes); i++ {
			if i%10 < 3 {
				dead = append(dead, c.Nodes[i])
			}
		}
		c.Nodes = slices.DeleteFunc(c.Nodes, func(n *dhttest.Node) bool { return slices.Contains(dead, n) })
		for _, n := range dead {
			n.Stop()
		}
		for i := range 100 {
			n := c.Nodes[i%len(c.Nodes)]
			if got := get(t, n, dht.HashText(fmt.Sprint("k", i))); len(got) != 1 {
				t.Errorf("value %d lost", i)
			}
		}
	})
}

func TestHealsFromAPartition(t *testing.T) {
	link := dhttest.Link{Latency: latency}
	network(t, 40, link, func(t *testing.T, c *dhttest.Cluster) {
		side := func(i int) bool { return i%2 == 0 }
		inA := map[string]bool{}
		for i, n := range c.Nodes {
			inA[n.Addr.Addr().String()] = side(i)
		}
		cut := link
		cut.Cut = func(from, to netip.Addr) bool { return inA[from.String()] != inA[to.String()] }
		c.Net.Set(cut)
		dhttest.Pass(5 * time.Hour) // both sides have given each other up
		keyA, keyB := dht.HashText("put in A"), dht.HashText("put in B")
		put(t, c.Nodes[0], keyA, text("a"), dhtnode.PutOptions{Permanent: true})
		put(t, c.Nodes[1], keyB, text("b"), dhtnode.PutOptions{Permanent: true})
		if got := get(t, c.Nodes[3], keyA); len(got) != 0 {
			t.Fatal("the partition leaks")
		}
		c.Net.Set(link)
		dhttest.Pass(40 * time.Minute)
		for i := range 10 {
			if got := get(t, c.Nodes[2*i+1], keyA); len(got) != 1 {
				t.Errorf("node %d of B does not find A's value", 2*i+1)
			}
			if got := get(t, c.Nodes[2*i], keyB); len(got) != 1 {
				t.Errorf("node %d of A does not find B's value", 2*i)
			}
		}
	})
}

func TestLossyNetwork(t *testing.T) {
	link := dhttest.Link{Latency: latency, Jitter: 30 * time.Millisecond, Loss: 0.1, Twice: 0.1}
	network(t, 30, link, func(t *testing.T, c *dhttest.Cluster) {
		for i := range 20 {
			key := dht.HashText(fmt.Sprint("lossy ", i))
			put(t, c.Nodes[i], key, text("v"), dhtnode.PutOptions{})
			if got := get(t, c.Nodes[29-i], key); len(got) != 1 {
				t.Errorf("value %d not found over a lossy network: %q", i, got)
			}
		}
	})
}

// TestColdPut: a node that has just started and puts at once takes a few round trips, not a pause of any timer.
func TestColdPut(t *testing.T) {
	network(t, 100, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		var took []time.Duration
		for i := range 30 {
			start := time.Now()
			n := c.Start(dhtnode.Config{Bootstrap: []string{c.Nodes[i].Addr.String()}})
			key := dht.HashText(fmt.Sprint("cold ", i))
			put(t, n, key, text("v"), dhtnode.PutOptions{})
			took = append(took, time.Since(start))
			if got := get(t, c.Nodes[99-i], key); len(got) != 1 {
				t.Errorf("put %d is not found", i)
			}
		}
		slices.Sort(took)
		if median := took[len(took)/2]; median > 9*rtt {
			t.Errorf("median of %d first puts is %v, want at most %v", len(took), median, 9*rtt)
		}
		t.Logf("start to acknowledged put: median %v, worst %v (round trip %v)", took[len(took)/2], took[len(took)-1], rtt)
	})
}
