package dhtnode_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/dhttest"
)

// lasting is a value that lives for seven days, so that maintenance cares for it.
func lasting(s string) *dht.Value { return &dht.Value{Type: dht.TypeTrustRequest, Data: []byte(s)} }

// nearest returns the nodes by distance to key.
func nearest(c *dhttest.Cluster, key dht.InfoHash) []*dhttest.Node {
	return slices.SortedFunc(slices.Values(c.Nodes), func(a, b *dhttest.Node) int { return key.CloserTo(a.ID(), b.ID()) })
}

// near returns an id that shares all but the last bytes with key.
func near(key dht.InfoHash, i int) dht.InfoHash {
	key[18] ^= byte(i + 1)
	return key
}

// moved starts a network with or without storage maintenance, puts a value from a node that then leaves, and returns how many of
// eight newcomers next to its key hold it an hour later, and how many of all others.
func moved(t *testing.T, maintain bool) (newcomers, others int) {
	cfg := dhtnode.Config{Maintain: maintain}
	synctest.Test(t, func(t *testing.T) {
		c := dhttest.NewCluster(t, dhttest.Link{Latency: latency})
		defer c.Stop()
		c.Grow(20, cfg)
		c.Settle(time.Minute)
		dhttest.Pass(time.Minute)
		key := dht.HashText("moves")
		owner := nearest(c, key)[len(c.Nodes)-1]
		put(t, owner, key, lasting("v"), dhtnode.PutOptions{})
		owner.Stop()
		c.Nodes = slices.DeleteFunc(c.Nodes, func(n *dhttest.Node) bool { return n == owner })
		before := len(c.Nodes)
		cfg.Bootstrap = []string{nearest(c, key)[0].Addr.String()}
		for i := range 8 {
			cfg.ID = near(key, i)
			c.Start(cfg)
		}
		c.Settle(time.Minute)
		dhttest.Pass(time.Hour)
		for i, n := range c.Nodes {
			switch values := n.Stats().Storage.Values; {
			case i >= before:
				newcomers += values
			default:
				others += values
			}
		}
		if got := get(t, c.Nodes[len(c.Nodes)-1], key); len(got) != 1 {
			t.Errorf("found %q", got)
		}
	})
	return newcomers, others
}

// Maintenance brings values to nodes that are closer now, and lets those who are not needed any more forget them
// (docs/protocols/opendht.md §12.4).
func TestMaintenanceMovesValues(t *testing.T) {
	// Some of the others may know fewer than eight who are closer, and rightly keep it.
	if newcomers, others := moved(t, true); newcomers != 8 || others > 4 {
		t.Errorf("with maintenance %d of 8 newcomers hold the value, and %d others; want 8 and few", newcomers, others)
	}
	if newcomers, others := moved(t, false); newcomers != 0 || others != 8 {
		t.Errorf("without it %d newcomers hold the value, and %d others; want none and 8", newcomers, others)
	}
}

// A value that nobody takes is not dropped: those who are closer died before they could be given it.
func TestMaintenanceKeepsWhatNobodyTakes(t *testing.T) {
	network(t, 12, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		key := dht.HashText("stays")
		started := time.Now() // the first round is ten minutes later
		keeper := c.Start(dhtnode.Config{ID: near(key, 0), Maintain: true, Bootstrap: []string{c.Nodes[0].Addr.String()}})
		c.Settle(time.Minute)
		for _, n := range c.Nodes[:12] { // some may not have met it yet
			if _, err := n.Ping(t.Context(), keeper.Addr); err != nil {
				t.Fatal(err)
			}
		}
		put(t, c.Nodes[1], key, lasting("v"), dhtnode.PutOptions{})
		dhttest.Pass(8 * time.Minute)
		for i := range 8 {
			id := key
			id[19] ^= byte(i + 1) // closer than the keeper
			c.Start(dhtnode.Config{ID: id, Bootstrap: []string{keeper.Addr.String()}})
		}
		c.Settle(time.Minute)
		dhttest.Pass(time.Until(started.Add(10*time.Minute - time.Second)))
		for _, n := range c.Nodes {
			if n != keeper {
				n.Stop()
			}
		}
		c.Nodes = []*dhttest.Node{keeper}
		dhttest.Pass(3 * time.Minute)
		if s := keeper.Stats().Storage; s.Values != 1 {
			t.Errorf("the last copy is gone: %+v", s)
		}
	})
}

// Leave with maintenance puts what only the leaver has where it belongs; without, it does nothing.
func TestLeave(t *testing.T) {
	for _, maintain := range []bool{true, false} {
		t.Run(fmt.Sprint(maintain), func(t *testing.T) {
			network(t, 12, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
				leaver := c.Start(dhtnode.Config{Maintain: maintain, Bootstrap: []string{c.Nodes[0].Addr.String()}})
				c.Settle(time.Minute)
				key, own := dht.HashText("remote"), dht.HashText("own")
				put(t, leaver, key, text("remote"), dhtnode.PutOptions{})
				put(t, leaver, own, text("own"), dhtnode.PutOptions{Permanent: true})
				dhttest.Pass(9 * time.Minute)
				before := c.Net.Sent()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				handed, err := leaver.Leave(ctx)
				want := 0
				if maintain {
					want = 2
				}
				if err != nil || handed != want {
					t.Errorf("Leave = %d, %v; want %d", handed, err, want)
				}
				if sent := c.Net.Sent() - before; !maintain && sent != 0 {
					t.Errorf("%d datagrams without maintenance", sent)
				}
				leaver.Stop()
				c.Nodes = c.Nodes[:12]
				dhttest.Pass(9 * time.Minute)
				for _, k := range []dht.InfoHash{key, own} {
					if got := get(t, c.Nodes[3], k); len(got) != want/2 {
						t.Errorf("9 minutes after it left: %q", got)
					}
				}
			})
		})
	}
}
