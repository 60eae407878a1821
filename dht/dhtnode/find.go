package dhtnode

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/routing"
	"github.com/jirani/jirani/dht/wire"
)

// Pong is a node's answer to a ping.
type Pong struct {
	Node dht.NodeAddr
	RTT  time.Duration
}

// Ping asks the node at addr whether it lives. It waits for the answer, up to about 8 seconds (ErrTimeout).
func (n *Node) Ping(ctx context.Context, addr netip.AddrPort) (Pong, error) {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	f := n.fam[familyOf(addr.Addr())]
	if f == nil || martian(addr) {
		return Pong{}, ErrInvalid
	}
	result := make(chan Pong, 1)
	n.turn(func(now time.Time) {
		n.requestAddr(f, addr, &wire.Packet{Kind: wire.Ping}, now, func(a answer, _ time.Time) {
			if a.node != nil {
				result <- Pong{dht.NodeAddr{ID: a.node.ID, Addr: addr}, a.rtt}
			}
			close(result)
		})
	})
	select {
	case p, ok := <-result:
		if !ok {
			return Pong{}, ErrTimeout
		}
		return p, nil
	case <-ctx.Done():
		return Pong{}, ctx.Err()
	case <-n.done:
		return Pong{}, ErrClosed
	}
}

// findOp is a Find in progress.
type findOp struct {
	key     dht.InfoHash
	pending int // families still looking
	nodes   []dht.NodeAddr
	done    chan struct{}
}

// Find looks up the nodes closest to target, up to 8 of each family, nearest first within a family. It waits until both
// families' searches are complete.
func (n *Node) Find(ctx context.Context, target dht.InfoHash) ([]dht.NodeAddr, error) {
	if target.IsZero() {
		return nil, ErrInvalid
	}
	op := &findOp{key: target, done: make(chan struct{})}
	n.turn(func(now time.Time) {
		for _, f := range n.families {
			s := n.searchFor(f, target, now)
			s.finds = append(s.finds, op)
			op.pending++
		}
	})
	if err := n.wait(ctx, op.done); err != nil {
		n.turn(func(time.Time) { op.cancel(n) })
		return nil, err
	}
	if len(op.nodes) == 0 {
		return nil, ErrNotConnected
	}
	return op.nodes, nil
}

// wait waits for an operation.
func (n *Node) wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-n.done:
		return ErrClosed
	}
}

func (op *findOp) cancel(n *Node) {
	for _, f := range n.families {
		if s := f.searches[op.key]; s != nil {
			s.finds = slices.DeleteFunc(s.finds, func(o *findOp) bool { return o == op })
			s.mark()
		}
	}
}

// finishFinds hands the closest nodes to those who look for them.
func (s *search) finishFinds(now time.Time) {
	if len(s.finds) == 0 {
		return
	}
	var nodes []dht.NodeAddr
	for _, sn := range s.nodes {
		if sn.isSynced(now) && len(nodes) < routing.K {
			nodes = append(nodes, dht.NodeAddr{ID: sn.node.ID, Addr: sn.node.Addr})
		}
	}
	for _, op := range s.finds {
		op.nodes = append(op.nodes, nodes...)
		if op.pending--; op.pending == 0 {
			close(op.done)
		}
	}
	s.finds = nil
}
