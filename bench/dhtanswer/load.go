package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/wire"
	"github.com/jirani/jirani/internal/udpio"
)

// inFlight is how many requests are unanswered at a time; sources is over how many sockets they are spread.
const (
	inFlight = 64
	sources  = 4
	keys     = 100_000 // different places asked for
	listens  = 20_000
)

type kind struct {
	name string
	kind wire.Kind
}

// kinds in the order they are measured: put fills what get reads.
var kinds = []kind{{"ping", wire.Ping}, {"find", wire.Find}, {"put", wire.Put}, {"get", wire.Get}}

// load is a closed loop of requests from a few sources.
type load struct {
	to   netip.AddrPort
	half bool // of the ids the node measured lives in: its first bit
	from []*source
}

type source struct {
	conn  *udpio.Conn
	id    dht.InfoHash
	token []byte
	out   []udpio.Message
	in    []udpio.Message
	p     wire.Packet
	tid   uint32
}

func newLoad(to netip.AddrPort) (*load, error) {
	l := &load{to: to}
	for range sources {
		c, err := udpio.Listen(context.Background(), netip.MustParseAddrPort("127.0.0.1:0"), udpio.Config{ReadBuffer: 4 << 20})
		if err != nil {
			return nil, err
		}
		s := &source{conn: c, id: dht.RandomInfoHash()}
		for range inFlight {
			s.out = append(s.out, udpio.Message{Buf: make([]byte, 0, 1024), Addr: to})
			s.in = append(s.in, udpio.Message{Buf: make([]byte, 4096)})
		}
		node, err := s.authorise(to)
		if err != nil {
			return nil, err
		}
		l.half = node.Bit(0)
		l.from = append(l.from, s)
	}
	return l, nil
}

// authorise fetches the write token, and the id of the node.
func (s *source) authorise(to netip.AddrPort) (node dht.InfoHash, err error) {
	for range 20 {
		p := wire.Packet{Kind: wire.Find, TID: 1, ID: s.id, InfoHash: s.id}
		if err := s.conn.WriteTo(p.Append(nil), to); err != nil {
			return node, err
		}
		s.receive(1, func(p *wire.Packet) {
			if p.TID == 1 && len(p.Token) > 0 {
				s.token, node = append([]byte(nil), p.Token...), p.ID
			}
		})
		if s.token != nil {
			return node, nil
		}
	}
	return node, errors.New("no token")
}

// run sends n requests and returns how many were answered.
func (l *load) run(k kind, n int) (answered int, err error) {
	found := 0
	for i := 0; i < n; {
		s := l.from[i/inFlight%len(l.from)]
		batch := min(inFlight, n-i)
		first := s.tid + 2
		for j := range batch {
			s.tid = first + uint32(j)
			s.compose(&s.out[j], k, i+j, l.half)
		}
		if _, err := s.conn.WriteBatch(s.out[:batch]); err != nil {
			return answered, err
		}
		answered += s.receive(batch, func(p *wire.Packet) { found += min(len(p.Values), 1) })
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

func (s *source) compose(m *udpio.Message, k kind, i int, half bool) {
	p := &s.p
	p.Reset()
	p.Kind, p.TID, p.ID, p.InfoHash = k.kind, s.tid, s.id, place(i%keys, half)
	if k.kind == wire.Put {
		p.Token = s.token
		v := dht.Value{ID: dht.ValueID(i + 1), Data: data[:]}
		p.SetValues([][]byte{v.Append(nil)})
	}
	if k.kind == wire.Listen {
		p.Token, p.Version, p.SocketID = s.token, wire.ListenVersion, uint32(i+1)
		p.InfoHash = place(keys+i, half) // nothing is stored there
	}
	m.Buf = p.Append(m.Buf[:0])
	m.N = len(m.Buf)
}

// receive reads up to n answers, waiting for each at most a moment, and returns how many came.
func (s *source) receive(n int, f func(*wire.Packet)) (got int) {
	s.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	for got < n {
		k, err := s.conn.ReadBatch(s.in)
		if errors.Is(err, os.ErrDeadlineExceeded) || err != nil {
			return got
		}
		for i := range s.in[:k] {
			if s.p.Parse(s.in[i].Payload()) != nil {
				continue
			}
			if s.p.Kind == wire.Reply {
				got++
				f(&s.p)
			}
		}
	}
	return got
}
