package main

import (
	"net/netip"
	"sync"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/wire"
)

// crowd is a set of nodes that do nothing but be there: they answer what the server asks, so that it counts them good
// and hands them out.
type crowd struct {
	nodes []*client
	wg    sync.WaitGroup
}

func startNeighbors(to netip.AddrPort, n int) (*crowd, error) {
	c := new(crowd)
	for range n {
		node, err := newClient(to)
		if err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, node)
		c.wg.Go(node.answer) // ends when the socket is closed
	}
	return c, c.settle()
}

// settle lets the server meet the crowd: each node pings it and answers what it asks back.
func (c *crowd) settle() error {
	for range 40 {
		for _, n := range c.nodes {
			p := wire.Packet{Kind: wire.Ping, TID: 1, Network: networkID, ID: n.id}
			if err := n.conn.WriteTo(p.Append(nil), n.to); err != nil {
				return err
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
	return nil
}

func (c *crowd) stop() {
	for _, n := range c.nodes {
		n.conn.Close()
	}
	c.wg.Wait()
}

// answer replies to every request of the server.
func (c *client) answer() {
	in := messages(16)
	for {
		n, err := c.conn.ReadBatch(in)
		if err != nil {
			return
		}
		for i := range in[:n] {
			var p wire.Packet
			if p.Parse(in[i].Payload()) != nil || !p.Kind.IsRequest() {
				continue
			}
			r := wire.Packet{Kind: wire.Reply, TID: p.TID, Network: networkID, ID: c.id, PublicAddr: c.to.Addr(),
				Nodes4: dht.NodeAddr{ID: c.id, Addr: c.conn.LocalAddr()}.Append(nil), Token: []byte("crowd")}
			c.conn.WriteTo(r.Append(nil), in[i].Addr)
		}
	}
}
