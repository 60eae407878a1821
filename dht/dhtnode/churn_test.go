package dhtnode_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/dhttest"
	"github.com/jirani/jirani/dht/wire"
	"github.com/jirani/jirani/internal/udpio"
)

// named asks the node at to for the nodes closest to target, as a newcomer would, and returns their addresses.
func named(t *testing.T, net *dhttest.Net, to netip.AddrPort, target dht.InfoHash) (addrs []netip.AddrPort) {
	t.Helper()
	conn := net.Listen(netip.MustParseAddrPort("192.0.2.77:4222"))
	defer conn.Close()
	q := wire.Packet{Kind: wire.Find, TID: 5, ID: dht.HashText("newcomer"), InfoHash: target, Client: true}
	b := q.Append(nil)
	conn.WriteBatch([]udpio.Message{{Buf: b, N: len(b), Addr: to}})
	dhttest.Pass(4 * rtt)
	in := []udpio.Message{{Buf: make([]byte, udpio.MaxDatagram)}}
	if conn.TryReadBatch(in) != 1 {
		t.Fatal("no answer")
	}
	var p wire.Packet
	if err := p.Parse(in[0].Payload()); err != nil {
		t.Fatal(err)
	}
	list, err := p.AppendNodes(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		addrs = append(addrs, a.Addr)
	}
	return addrs
}

// TestEntryPointNamesTheLiving: a server by which others enter asks nobody anything by itself. That its neighbours died it must find out all
// the same, or it sends newcomers to the dead.
func TestEntryPointNamesTheLiving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dhttest.NewCluster(t, dhttest.Link{Latency: latency})
		defer c.Stop()
		c.Grow(10, dhtnode.Config{})
		c.Settle(time.Minute)
		dhttest.Pass(time.Minute)
		entry := c.Nodes[0]
		dead, total, missed := 0, 0, 0
		rng := rand.New(rand.NewPCG(1, 2))
		for round := range 120 {
			for range 2 {
				i := 1 + rng.IntN(len(c.Nodes)-1)
				c.Nodes[i].Stop()
				c.Nodes = slices.Delete(c.Nodes, i, i+1)
			}
			for range 2 {
				c.Start(dhtnode.Config{Bootstrap: []string{entry.Addr.String()}})
			}
			dhttest.Pass(2 * time.Second)
			key := dht.HashText(fmt.Sprint("round ", round))
			put(t, c.Nodes[1+rng.IntN(9)], key, text("v"), dhtnode.PutOptions{})
			if got := get(t, c.Nodes[1+rng.IntN(9)], key); len(got) != 1 {
				missed++
			}
			dhttest.Pass(13 * time.Second)
			for _, a := range named(t, c.Net, entry.Addr, dht.HashText(fmt.Sprint("newcomer ", round))) {
				total++
				if !slices.ContainsFunc(c.Nodes, func(n *dhttest.Node) bool { return n.Addr == a }) {
					dead++
				}
			}
		}
		t.Logf("%d of %d named were dead, %d gets missed", dead, total, missed)
		if dead > total/2 { // 28 % of what is named, and of what lived within the minute before; 75 % for one who never asks
			t.Errorf("%d of %d nodes named were dead", dead, total)
		}
		if missed > 0 {
			t.Errorf("%d gets missed a value just put", missed)
		}
	})
}
