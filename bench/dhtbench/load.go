package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/wire"
	"github.com/jirani/jirani/internal/udpio"
)

const (
	networkID = 9
	sockets   = 8
	window    = 32                     // requests in flight per socket
	lostAfter = 200 * time.Millisecond // without any answer: the window is sent anew
)

// client is one socket of the generator.
type client struct {
	conn  *udpio.Conn
	to    netip.AddrPort
	id    dht.InfoHash
	tid   uint32
	token []byte
	rng   *rand.Rand
	buf   []byte
}

func newClient(to netip.AddrPort) (*client, error) {
	conn, err := udpio.Listen(context.Background(), netip.MustParseAddrPort("127.0.0.1:0"),
		udpio.Config{ReadBuffer: 8 << 20, WriteBuffer: 8 << 20})
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, to: to, id: dht.RandomInfoHash(), tid: rand.Uint32N(1 << 30),
		rng: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))}, nil
}

// request makes the next request of a load. It may use everything of c.
type request func(c *client, p *wire.Packet)

// send writes n requests.
func (c *client) send(n int, next request) error {
	c.buf = c.buf[:0]
	ms := make([]udpio.Message, n)
	for i := range ms {
		from := len(c.buf)
		c.tid++
		p := wire.Packet{TID: c.tid, Network: networkID, Client: true, ID: c.id, Token: c.token}
		next(c, &p)
		c.buf = p.Append(c.buf)
		ms[i].N = len(c.buf) - from
		ms[i].Addr = c.to
	}
	rest := c.buf // only now: appending may have moved it
	for i := range ms {
		ms[i].Buf, rest = rest[:ms[i].N], rest[ms[i].N:]
	}
	_, err := c.conn.WriteBatch(ms)
	return err
}

// drive keeps the window full until answers reach limit, counted over all clients.
func (c *client) drive(ctx context.Context, next request, answers *atomic.Int64, limit int64) error {
	if err := c.send(window, next); err != nil {
		return err
	}
	in := messages(udpio.MaxBatch)
	var p wire.Packet
	for answers.Load() < limit && ctx.Err() == nil {
		c.conn.SetReadDeadline(time.Now().Add(lostAfter))
		n, err := c.conn.ReadBatch(in)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if err := c.send(window, next); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		got := 0
		for i := range in[:n] {
			if err := p.Parse(in[i].Payload()); err != nil || p.Kind == wire.Error {
				return fmt.Errorf("answer %v %s: %v", p.Kind, p.Text, err)
			}
			if p.Kind == wire.Reply {
				got++
			}
		}
		answers.Add(int64(got))
		if err := c.send(got, next); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func messages(n int) []udpio.Message {
	ms := make([]udpio.Message, n)
	for i := range ms {
		ms[i].Buf = make([]byte, 4096)
	}
	return ms
}

// fetchToken asks for the write token of the client's address.
func (c *client) fetchToken() error {
	in := messages(1)
	for range 20 {
		err := c.send(1, func(c *client, p *wire.Packet) { p.Kind, p.InfoHash = wire.Find, dht.RandomInfoHash() })
		if err != nil {
			return err
		}
		c.conn.SetReadDeadline(time.Now().Add(lostAfter))
		for {
			if _, err := c.conn.ReadBatch(in); err != nil {
				break
			}
			var p wire.Packet
			if p.Parse(in[0].Payload()) == nil && p.Kind == wire.Reply && len(p.Token) > 0 {
				c.token = append([]byte(nil), p.Token...)
				return nil
			}
		}
	}
	return errors.New("no token")
}

// load is the generator: its sockets, each with a token.
type load []*client

func newLoad(to netip.AddrPort) (l load, err error) {
	for range sockets {
		c, err := newClient(to)
		if err != nil {
			return nil, err
		}
		l = append(l, c)
		if err := c.fetchToken(); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l load) close() {
	for _, c := range l {
		c.conn.Close()
	}
}

// run asks until there were n answers.
func (l load) run(ctx context.Context, n int, next request) error {
	var answers atomic.Int64
	errs := make([]error, len(l))
	var wg sync.WaitGroup
	for i, c := range l {
		wg.Go(func() { errs[i] = c.drive(ctx, next, &answers, int64(n)) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
