package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/wire"
)

const (
	valueSize = 200
	neighbors = 32
	idle      = 10 * time.Second
)

var storedKey = dht.HashText("dhtbench")

func value(id dht.ValueID) []byte {
	v := dht.Value{ID: id, Data: make([]byte, valueSize)}
	return v.Append(nil)
}

func measureFind(ctx context.Context, o options, s *server) (float64, error) {
	return withNeighbors(ctx, o, s, func(c *client, p *wire.Packet) {
		p.Kind, p.InfoHash = wire.Find, randomHash(c)
	})
}

func measureGet(ctx context.Context, o options, s *server) (float64, error) {
	if err := put(ctx, s, 1, func(*client) dht.InfoHash { return storedKey }); err != nil {
		return 0, err
	}
	return withNeighbors(ctx, o, s, func(c *client, p *wire.Packet) {
		p.Kind, p.InfoHash = wire.Get, storedKey
	})
}

func measurePut(ctx context.Context, o options, s *server) (float64, error) {
	l, err := newLoad(s.addr)
	if err != nil {
		return 0, err
	}
	defer l.close()
	return perAnswer(ctx, o, s, l, putRequest(randomHash))
}

func measureMemory(ctx context.Context, o options, s *server) (float64, error) {
	if err := put(ctx, s, o.values, randomHash); err != nil {
		return 0, err
	}
	rss, err := s.rss()
	return float64(rss) / (1 << 20), err
}

// measureListens returns what the listens add to the idle server.
func measureListens(ctx context.Context, o options, s *server) (float64, error) {
	before, err := idleCPU(s)
	if err != nil {
		return 0, err
	}
	l, err := newLoad(s.addr)
	if err != nil {
		return 0, err
	}
	defer l.close()
	err = l.run(ctx, o.listens, func(c *client, p *wire.Packet) {
		p.Kind, p.InfoHash, p.Version, p.SocketID = wire.Listen, randomHash(c), wire.ListenVersion, p.TID
	})
	if err != nil {
		return 0, err
	}
	after, err := idleCPU(s)
	if err != nil {
		return 0, err
	}
	fmt.Printf("<!-- idle ms CPU per second: %.2f without listens, %.2f with -->\n", before, after)
	return after, nil
}

func idleCPU(s *server) (float64, error) {
	from, err := s.cpu()
	if err != nil {
		return 0, err
	}
	time.Sleep(idle)
	to, err := s.cpu()
	return float64((to - from).Milliseconds()) / idle.Seconds(), err
}

func putRequest(key func(*client) dht.InfoHash) request {
	var ids atomic.Uint64
	return func(c *client, p *wire.Packet) {
		p.Kind, p.InfoHash = wire.Put, key(c)
		p.SetValues([][]byte{value(dht.ValueID(ids.Add(1)))})
	}
}

func put(ctx context.Context, s *server, n int, key func(*client) dht.InfoHash) error {
	l, err := newLoad(s.addr)
	if err != nil {
		return err
	}
	defer l.close()
	if n == 1 {
		return l[:1].run(ctx, 1, func(_ *client, p *wire.Packet) {
			p.Kind, p.InfoHash = wire.Put, key(nil)
			p.SetValues([][]byte{value(1)})
		})
	}
	return l.run(ctx, n, putRequest(key))
}

func randomHash(c *client) (h dht.InfoHash) {
	for i := range h {
		h[i] = byte(c.rng.Uint32())
	}
	return h
}

func withNeighbors(ctx context.Context, o options, s *server, next request) (float64, error) {
	n, err := startNeighbors(s.addr, neighbors)
	if err != nil {
		return 0, err
	}
	defer n.stop()
	l, err := newLoad(s.addr)
	if err != nil {
		return 0, err
	}
	defer l.close()
	return perAnswer(ctx, o, s, l, next)
}

// perAnswer returns the microseconds of the server's processor per answer, after a warm-up.
func perAnswer(ctx context.Context, o options, s *server, l load, next request) (float64, error) {
	if err := l.run(ctx, o.requests/10, next); err != nil {
		return 0, err
	}
	from, err := s.cpu()
	if err != nil {
		return 0, err
	}
	if err := l.run(ctx, o.requests, next); err != nil {
		return 0, err
	}
	to, err := s.cpu()
	return float64((to - from).Microseconds()) / float64(o.requests), err
}
