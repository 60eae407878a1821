package dhttest

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/jirani/jirani/dht/dhtnode"
)

// Node is a running node of a Cluster.
type Node struct {
	*dhtnode.Node
	Addr   netip.AddrPort
	conns  []*Conn
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Stop ends the node and waits for it. Nobody is told.
func (n *Node) Stop() {
	n.cancel()
	n.done.Wait()
	for _, c := range n.conns {
		c.Close()
	}
}

// Cluster is a set of nodes on one Net.
type Cluster struct {
	Net   *Net
	Nodes []*Node
	// Resolver looks up the bootstrap hosts of nodes started later; nil = the system's.
	Resolver dhtnode.Resolver

	next int
	tb   testing.TB
}

// NewCluster returns an empty cluster that stops its nodes when the test ends.
func NewCluster(tb testing.TB, l Link) *Cluster {
	c := &Cluster{Net: NewNet(l, 1), tb: tb}
	return c
}

// Addr returns the address the i-th node ever started has, each in a network of its own.
func Addr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), dhtnode.DefaultPort)
}

// Start runs a node with cfg.
func (c *Cluster) Start(cfg dhtnode.Config) *Node {
	c.tb.Helper()
	addr := Addr(c.next)
	c.next++
	return c.StartAt(addr, cfg)
}

// StartAt runs a node at addr.
func (c *Cluster) StartAt(addr netip.AddrPort, cfg dhtnode.Config) *Node {
	c.tb.Helper()
	return c.StartOn(cfg, addr)
}

// StartOn runs a node with a socket on each address.
func (c *Cluster) StartOn(cfg dhtnode.Config, addrs ...netip.AddrPort) *Node {
	c.tb.Helper()
	n := &Node{Addr: addrs[0]}
	deps := dhtnode.Deps{Resolver: c.Resolver}
	for _, a := range addrs {
		conn := c.Net.Listen(a)
		n.conns, deps.Conns = append(n.conns, conn), append(deps.Conns, conn)
	}
	var err error
	if n.Node, err = dhtnode.New(cfg, deps); err != nil {
		c.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.done.Go(func() { n.Run(ctx) })
	c.Nodes = append(c.Nodes, n)
	return n
}

// Grow starts count nodes that enter by the cluster's first node, the first of all being that node.
func (c *Cluster) Grow(count int, cfg dhtnode.Config) {
	c.tb.Helper()
	for range count {
		if len(c.Nodes) > 0 {
			cfg.Bootstrap = []string{c.Nodes[0].Addr.String()}
		}
		c.Start(cfg)
	}
}

// Settle lets time pass until every node is connected, at most limit.
func (c *Cluster) Settle(limit time.Duration) {
	c.tb.Helper()
	for end := time.Now().Add(limit); ; {
		missing := 0
		for _, n := range c.Nodes {
			if v4, _ := n.Status(); v4 != dhtnode.Connected {
				missing++
			}
		}
		if missing == 0 {
			return
		}
		if time.Now().After(end) {
			c.tb.Fatalf("%d of %d nodes are not connected after %v", missing, len(c.Nodes), limit)
		}
		Pass(100 * time.Millisecond)
	}
}

// Pass lets time go by.
func Pass(d time.Duration) { <-time.After(d) }

// Stop ends all nodes.
func (c *Cluster) Stop() {
	var all sync.WaitGroup
	for _, n := range c.Nodes {
		all.Go(n.Stop)
	}
	all.Wait()
	c.Nodes = nil
}
