package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/wire"
	"github.com/jirani/jirani/internal/udpio"
)

const (
	inFlight = 64      // requests unanswered at a time
	keys     = 100_000 // different places asked for
	listens  = 20_000
)

type kind struct {
	name string
	kind wire.Kind
}

// kinds in the order they are measured: put fills what get reads.
var kinds = []kind{{"ping", wire.Ping}, {"find", wire.Find}, {"put", wire.Put}, {"get", wire.Get}}

// load is a closed loop of requests from several sources. One socket is all of them: each sends from a loopback address of its own, so that
// thousands cost no more than one.
type load struct {
	conn *udpio.Conn
	half bool // of the ids the node measured lives in: its first bit
	row  int  // requests that a source sends in a row
	from []source
	out  []udpio.Message
	in   []udpio.Message
	p    wire.Packet
	tid  uint32
}

// source is one sender.
type source struct {
	addr  netip.Addr
	id    dht.InfoHash
	token []byte
}

func newLoad(to netip.AddrPort, sources, row int) (*load, error) {
	c, err := udpio.Listen(context.Background(), netip.MustParseAddrPort("0.0.0.0:0"), udpio.Config{ReadBuffer: 4 << 20, PacketInfo: true})
	if err != nil {
		return nil, err
	}
	l := &load{conn: c, row: row}
	for range inFlight {
		l.out = append(l.out, udpio.Message{Buf: make([]byte, 0, 1024), Addr: to})
		l.in = append(l.in, udpio.Message{Buf: make([]byte, 4096)})
	}
	for i := range sources {
		s := source{addr: netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), id: dht.RandomInfoHash()}
		if err := l.authorise(&s); err != nil {
			return nil, err
		}
		l.from = append(l.from, s)
	}
	return l, nil
}

// authorise fetches the write token of s, and the id of the node.
func (l *load) authorise(s *source) error {
	for range 20 {
		l.tid += 2
		p := wire.Packet{Kind: wire.Find, TID: l.tid, ID: s.id, InfoHash: s.id}
		l.fill(&l.out[0], &p, s)
		if _, err := l.conn.WriteBatch(l.out[:1]); err != nil {
			return err
		}
		l.receive(1, func(p *wire.Packet) {
			if p.TID == l.tid && len(p.Token) > 0 {
				s.token = append([]byte(nil), p.Token...)
				l.half = p.ID.Bit(0)
			}
		})
		if s.token != nil {
			return nil
		}
	}
	return errors.New("no token")
}

// run sends n requests and returns how many were answered.
func (l *load) run(k kind, n int) (answered int, err error) {
	found := 0
	for i := 0; i < n; {
		batch := min(inFlight, n-i)
		for j := range batch {
			l.tid += 2
			l.compose(&l.out[j], k, i+j)
		}
		if _, err := l.conn.WriteBatch(l.out[:batch]); err != nil {
			return answered, err
		}
		answered += l.receive(batch, func(p *wire.Packet) { found += min(len(p.Values), 1) })
		i += batch
	}
	if answered < n*9/10 {
		return answered, fmt.Errorf("%s: only %d of %d answered", k.name, answered, n)
	}
	if k.kind == wire.Get && found < n*9/10 {
		return answered, fmt.Errorf("only %d of %d values found", found, n)
	}
	return answered, nil
}

// place is the i-th key in one half of the ids. A node that knows eight others acknowledges and drops what all of them are closer to: of
// random keys one in 2^k, for neighbours that part from it at k different bits. There are neighbours in the other half, which are farther from
// these keys than the node measured.
func place(i int, half bool) (h dht.InfoHash) {
	binary.BigEndian.PutUint64(h[:], uint64(i+1)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(h[8:], uint64(i+1))
	h.SetBit(0, half)
	return h
}

var data [200]byte

func (l *load) compose(m *udpio.Message, k kind, i int) {
	s, p := &l.from[i/l.row%len(l.from)], &l.p
	p.Reset()
	p.Kind, p.TID, p.ID, p.InfoHash = k.kind, l.tid, s.id, place(i%keys, l.half)
	if k.kind == wire.Put {
		p.Token = s.token
		v := dht.Value{ID: dht.ValueID(i + 1), Data: data[:]}
		p.SetValues([][]byte{v.Append(nil)})
	}
	if k.kind == wire.Listen {
		p.Token, p.Version, p.SocketID = s.token, wire.ListenVersion, uint32(i+1)
		p.InfoHash = place(keys+i, l.half) // nothing is stored there
	}
	l.fill(m, p, s)
}

func (l *load) fill(m *udpio.Message, p *wire.Packet, s *source) {
	m.Buf = p.Append(m.Buf[:0])
	m.N, m.Local = len(m.Buf), s.addr
}

// receive reads up to n answers, waiting for each at most a moment, and returns how many came.
func (l *load) receive(n int, f func(*wire.Packet)) (got int) {
	l.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	for got < n {
		k, err := l.conn.ReadBatch(l.in)
		if err != nil {
			return got
		}
		for i := range l.in[:k] {
			if l.p.Parse(l.in[i].Payload()) == nil && l.p.Kind == wire.Reply {
				got++
				f(&l.p)
			}
		}
	}
	return got
}
