package dhtnode

import (
	"context"
	"sync"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/pht"
)

// Index returns the prefix hash tree of that name, kept on the network through n (docs/protocols/opendht.md §17).
func (n *Node) Index(name string, spec pht.Spec) *pht.Index {
	return pht.New(name, spec, indexNetwork{n}, nil)
}

// indexNetwork is a node as package pht needs it.
type indexNetwork struct{ *Node }

// Put stores v once; entries of an index are inserted again by whoever wants them to stay.
func (x indexNetwork) Put(ctx context.Context, place dht.InfoHash, v *dht.Value) error {
	return x.Node.Put(ctx, place, v, PutOptions{})
}

// Watch listens until yield returns false.
func (x indexNetwork) Watch(ctx context.Context, place dht.InfoHash, q dht.Query, yield func(*dht.Value) bool) error {
	enough := make(chan struct{})
	stop := sync.OnceFunc(func() { close(enough) })
	l, err := x.Listen(place, q, func(e Event) {
		select {
		case <-enough:
			return
		default:
		}
		if !e.Expired && !yield(e.Value) {
			stop()
		}
	})
	if err != nil {
		return err
	}
	defer l.Cancel()
	select {
	case <-enough:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
