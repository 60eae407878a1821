package wire_test

import (
	"net/netip"
	"testing"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/wire"
)

// exchange is what a server does per find: parse, build the answer, append it.
type exchange struct {
	in, out wire.Packet
	nodes   [8]dht.NodeAddr
	list    []byte
	buf     []byte
	token   [32]byte
}

func (x *exchange) answer(b []byte) error {
	if err := x.in.Parse(b); err != nil {
		return err
	}
	x.out.Reset()
	x.out.Kind, x.out.TID, x.out.ID = wire.Reply, x.in.TID, someID
	x.out.PublicAddr = peerA.Addr()
	if x.in.Kind == wire.Find || x.in.Kind == wire.Get {
		x.list = x.list[:0]
		for _, n := range x.nodes {
			x.list = n.Append(x.list)
		}
		x.out.Nodes4, x.out.Token = x.list, x.token[:]
	}
	x.buf = x.out.Append(x.buf[:0])
	return nil
}

func newExchange() *exchange {
	x := new(exchange)
	for i := range x.nodes {
		x.nodes[i] = dht.NodeAddr{ID: someKey, Addr: netip.MustParseAddrPort("192.0.2.9:4222")}
	}
	return x
}

func hotRequests() map[string][]byte {
	get := wire.Packet{Kind: wire.Get, ID: someID, InfoHash: someKey, TID: 7, HasQuery: true}
	get.Query = dht.Query{Select: []dht.Field{dht.FieldID}}
	byID := get
	byID.Query = dht.Query{Where: []dht.FieldValue{dht.WhereID(1 << 60)}}
	reqs := map[string][]byte{"get": get.Append(nil), "get-by-id": byID.Append(nil)}
	for _, p := range []wire.Packet{
		{Kind: wire.Ping, ID: someID, TID: 1 << 30},
		{Kind: wire.Find, ID: someID, InfoHash: someKey, TID: 1 << 30, Want: wire.Want4 | wire.Want6},
	} {
		reqs[p.Kind.String()] = p.Append(nil)
	}
	return reqs
}

// Ping, find and get are parsed and answered without allocating.
func TestHotPathDoesNotAllocate(t *testing.T) {
	x := newExchange()
	for name, b := range hotRequests() {
		if n := testing.AllocsPerRun(100, func() {
			if err := x.answer(b); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations per answer", name, n)
		}
		reply := x.buf
		var p wire.Packet
		var nodes []dht.NodeAddr
		if n := testing.AllocsPerRun(100, func() {
			if err := p.Parse(reply); err != nil {
				t.Fatal(err)
			}
			nodes, _ = p.AppendNodes(nodes[:0])
		}); n != 0 {
			t.Errorf("%s: %v allocations per reply read", name, n)
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	for name, req := range hotRequests() {
		b.Run(name, func(b *testing.B) {
			x := newExchange()
			b.ReportAllocs()
			for b.Loop() {
				if err := x.answer(req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseReply(b *testing.B) {
	x := newExchange()
	if err := x.answer(hotRequests()["find"]); err != nil {
		b.Fatal(err)
	}
	var p wire.Packet
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Parse(x.buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParsePut200(b *testing.B) {
	v := dht.Value{ID: 1 << 60, Data: make([]byte, 200)}
	p := wire.Packet{Kind: wire.Put, ID: someID, InfoHash: someKey, TID: 7, Token: make([]byte, 32)}
	p.SetValues([][]byte{v.Append(nil)})
	buf := p.Append(nil)
	var got wire.Packet
	b.ReportAllocs()
	for b.Loop() {
		if err := got.Parse(buf); err != nil {
			b.Fatal(err)
		}
		if _, _, err := dht.ParseValue(got.Values[0].Raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReassemble40k(b *testing.B) {
	header, parts := captured40k(b)
	r := wire.NewReassembler(wire.DefaultReassemblyLimits())
	var p wire.Packet
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Parse(header); err != nil {
			b.Fatal(err)
		}
		r.Header(epoch, peerA, &p)
		for _, part := range parts {
			if err := p.Parse(part); err != nil {
				b.Fatal(err)
			}
			r.Part(epoch, peerA, false, &p)
		}
	}
	if sets, _ := r.Usage(); sets != 0 {
		b.Fatal("unfinished sets")
	}
}
