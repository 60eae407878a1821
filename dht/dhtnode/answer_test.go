package dhtnode

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/routing"
	"github.com/jirani/jirani/dht/storage"
	"github.com/jirani/jirani/dht/wire"
	"github.com/jirani/jirani/internal/udpio"
)

// sink is a socket that takes everything and brings nothing.
type sink struct{ sent int }

func (s *sink) ReadBatch([]udpio.Message) (int, error) { select {} }
func (s *sink) WriteBatch(ms []udpio.Message) (int, error) {
	s.sent += len(ms)
	return len(ms), nil
}
func (s *sink) LocalAddr() netip.AddrPort       { return netip.MustParseAddrPort("192.0.2.1:4222") }
func (s *sink) SetReadDeadline(time.Time) error { return nil }

var asker = netip.MustParseAddrPort("198.51.100.7:4222")

// answering returns a reader of a node whose table is full of good nodes, not running.
func answering(tb testing.TB) (*Node, *reader, *sink) {
	tb.Helper()
	s := new(sink)
	cfg := Config{RateLimit: -1, RateLimitPerSource: -1, ID: dht.HashText("me"),
		Storage: storage.Limits{Bytes: 1 << 40, BytesPerSource: 1 << 40}}
	n, err := New(cfg, Deps{Conns: []Conn{s}})
	if err != nil {
		tb.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	n.turn(func(now time.Time) {
		f := n.fam[inet4]
		for i := range 500 {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), 4222)
			node := f.cache.Get(randomID(r), addr, false, now)
			node.Replied(now)
			f.table.Offer(node, routing.Answered, now, nil)
		}
		node := f.cache.Get(dht.HashText("asker"), asker, true, now)
		node.Replied(now)
	})
	rd := newReader(n, 0)
	tb.Cleanup(func() { freeRoom(rd.room) })
	return n, rd, s
}

func randomID(r *rand.Rand) (id dht.InfoHash) {
	for i := range id {
		id[i] = byte(r.UintN(256))
	}
	return id
}

// batchOf encodes count requests as one batch of datagrams.
func batchOf(count int, p *wire.Packet) []udpio.Message {
	p.ID = dht.HashText("asker")
	ms := make([]udpio.Message, count)
	for i := range ms {
		p.TID = uint32(i + 1)
		b := p.Append(nil)
		ms[i] = udpio.Message{Buf: b, N: len(b), Addr: asker}
	}
	return ms
}

// requests are the hot ones, with what they need in place.
func requests(n *Node) map[string]*wire.Packet {
	key := n.self // what is near us is stored
	var token []byte
	n.turn(func(now time.Time) {
		token = append([]byte(nil), n.tokens.issue(asker)...)
		v := &dht.Value{ID: 1, Data: make([]byte, 200)}
		n.storeValue(key, v, now, asker, now)
	})
	put := &wire.Packet{Kind: wire.Put, InfoHash: key, Token: token}
	put.SetValues([][]byte{(&dht.Value{ID: 1, Data: make([]byte, 200)}).Append(nil)})
	return map[string]*wire.Packet{
		"ping": {Kind: wire.Ping},
		"find": {Kind: wire.Find, InfoHash: dht.HashText("target")},
		"get":  {Kind: wire.Get, InfoHash: key},
		"put":  put,
	}
}

func TestHotAnswersDoNotAllocate(t *testing.T) {
	n, r, s := answering(t)
	reqs := requests(n)
	for _, name := range []string{"ping", "find", "get"} {
		ms := batchOf(udpio.MaxBatch, reqs[name])
		r.batch(ms)
		s.sent = 0
		if got := testing.AllocsPerRun(50, func() { r.batch(ms) }); got != 0 {
			t.Errorf("a batch of %d %s answers allocates %v times", len(ms), name, got)
		}
		if s.sent < 50*len(ms) {
			t.Errorf("%s: only %d answers", name, s.sent)
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	for _, name := range []string{"ping", "find", "get", "put"} {
		b.Run(name, func(b *testing.B) {
			n, r, _ := answering(b)
			ms := batchOf(udpio.MaxBatch, requests(n)[name])
			b.ReportAllocs()
			for done := 0; done < b.N; done += len(ms) {
				r.batch(ms[:min(len(ms), b.N-done)])
			}
		})
	}
}

// BenchmarkIdleListens: what a second costs a node with listeners that have nothing to hear. It must not depend on their
// number.
func BenchmarkIdleListens(b *testing.B) {
	for _, count := range []int{0, 1000, 20000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			n, _, _ := answering(b)
			n.turn(func(now time.Time) {
				for i := range count {
					l := storage.Listener{Node: dht.HashText("asker"), Addr: asker, Socket: uint32(i + 1), Version: 1}
					if _, ok := n.store.Listen(dht.HashText(fmt.Sprint(i)), l, now); !ok {
						b.Fatal("no room")
					}
				}
			})
			for b.Loop() {
				n.turn(func(now time.Time) { n.agenda.run(now) })
			}
		})
	}
}

// TestIdleSearchForgetsTheDead: a search that nobody uses any more is offered newcomers for an hour.
func TestIdleSearchForgetsTheDead(t *testing.T) {
	n, _, _ := answering(t)
	f, key := n.fam[inet4], dht.HashText("key")
	r := rand.New(rand.NewPCG(2, 2))
	offer := func(dies bool) {
		n.turn(func(now time.Time) {
			node := f.cache.Get(randomID(r), asker, false, now)
			node.Replied(now)
			n.offerSearches(f, node, now)
			if dies {
				node.Expire()
			}
		})
	}
	n.turn(func(now time.Time) { n.searchFor(f, key, now) })
	for range 8 {
		offer(false)
	}
	for range 200 {
		offer(true)
	}
	if got := len(f.searches[key].nodes); got > searchNodes {
		t.Errorf("%d nodes in an idle search", got)
	}
}
