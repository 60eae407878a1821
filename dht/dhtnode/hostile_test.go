package dhtnode_test

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/dhttest"
	"github.com/jirani/jirani/dht/wire"
	"github.com/jirani/jirani/internal/udpio"
)

// alone runs f with one node and somebody who sends it packets by hand.
func alone(t *testing.T, cfg dhtnode.Config, f func(t *testing.T, n *dhttest.Node, p *prober)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := dhttest.NewCluster(t, dhttest.Link{})
		defer c.Stop()
		n := c.Start(cfg)
		f(t, n, &prober{t, c.Net.Listen(netip.MustParseAddrPort("10.99.0.1:5000")), n.Addr})
	})
}

var stranger = dht.HashText("stranger")

// large is a value of 40 KiB.
func large() []byte { return (&dht.Value{ID: 7, Data: bytes.Repeat([]byte("x"), 40<<10)}).Append(nil) }

// putInParts sends a put of values by hand, its parts in the order given.
func (p *prober) putInParts(tid uint32, token []byte, values [][]byte, order func([][]byte) [][]byte) (answers [][]byte) {
	pkt := wire.Packet{Kind: wire.Put, TID: tid, ID: stranger, InfoHash: dht.HashText("k"), Token: token}
	pkt.SetValues(values)
	all := [][]byte{pkt.Append(nil)}
	for piece := range wire.EachPart(values) {
		all = append(all, pkt.AppendPart(nil, piece))
	}
	for _, b := range order(all) {
		p.send(b)
	}
	synctest.Wait()
	return p.received()
}

func TestPartsRepeatedReorderedAndMissing(t *testing.T) {
	alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
		token := p.token(stranger)
		twice := func(all [][]byte) (out [][]byte) {
			for _, b := range all {
				out = append(out, b, b)
			}
			return out
		}
		backwards := func(all [][]byte) (out [][]byte) {
			out = append(out, all[0])
			for i := len(all) - 1; i > 0; i-- {
				out = append(out, all[i])
			}
			return out
		}
		for name, order := range map[string]func([][]byte) [][]byte{"twice": twice, "backwards": backwards} {
			if got := p.putInParts(100, token, [][]byte{large()}, order); len(got) != 1 {
				t.Errorf("%s: %d answers to a put in parts", name, len(got))
			}
			dhttest.Pass(5 * time.Second) // the last repetitions wait for a header until then
		}
		p.putInParts(200, token, [][]byte{large()}, func(all [][]byte) [][]byte { return all[:len(all)-1] })
		if s := n.Stats(); s.ReassemblySets != 1 {
			t.Errorf("%d sets while a part is missing", s.ReassemblySets)
		}
		dhttest.Pass(15 * time.Second)
		if s := n.Stats(); s.ReassemblySets != 0 || s.ReassemblyBytes != 0 {
			t.Errorf("an incomplete set stays: %d sets, %d bytes", s.ReassemblySets, s.ReassemblyBytes)
		}
	})
}

// TestPartsBeforeTheirHeader: a datagram overtaken by the next costs a sender who has shown to be there nothing; what
// strangers send ahead is not kept.
func TestPartsBeforeTheirHeader(t *testing.T) {
	late := func(all [][]byte) [][]byte { return append(all[1:len(all):len(all)], all[0]) }
	alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
		token := p.token(stranger)
		if got := p.putInParts(1, token, [][]byte{large()}, late); len(got) != 0 {
			t.Errorf("%d answers to a stranger's put whose header came last", len(got))
		}
		if s := n.Stats(); s.Parts["stray"] == 0 || s.Parts["early"] != 0 {
			t.Errorf("a stranger's early parts: %v", s.Parts)
		}
		small := (&dht.Value{ID: 1, Data: []byte("v")}).Append(nil)
		p.putInParts(2, token, [][]byte{small}, func(all [][]byte) [][]byte { return all[:1] }) // shows the token
		if got := p.putInParts(3, token, [][]byte{large()}, late); len(got) != 1 {
			t.Errorf("%d answers to a put whose header came last", len(got))
		}
		if s := n.Stats(); s.Parts["early"] == 0 || s.Parts["complete"] != 1 {
			t.Errorf("early parts: %v", s.Parts)
		}
		p.putInParts(4, token, [][]byte{large()}, func(all [][]byte) [][]byte { return all[1:] })
		dhttest.Pass(15 * time.Second)
		if s := n.Stats(); s.ReassemblySets != 0 || s.ReassemblyBytes != 0 {
			t.Errorf("parts whose header never comes stay: %d sets, %d bytes", s.ReassemblySets, s.ReassemblyBytes)
		}
	})
}

// TestEarlyPartsCountAgainstTheRate: parts of nothing known are not a way around the limit of requests.
func TestEarlyPartsCountAgainstTheRate(t *testing.T) {
	alone(t, dhtnode.Config{RateLimitPerSource: 10}, func(t *testing.T, n *dhttest.Node, p *prober) {
		token := p.token(stranger)
		small := (&dht.Value{ID: 1, Data: []byte("v")}).Append(nil)
		p.putInParts(2, token, [][]byte{small}, func(all [][]byte) [][]byte { return all[:1] })
		p.putInParts(3, token, [][]byte{large()}, func(all [][]byte) [][]byte { return all[1:] })
		if s := n.Stats(); s.Parts["early"] != 8 || s.Drops["rate_limited"] == 0 {
			t.Errorf("%d early parts kept at a limit of 10 requests, two of them spent; %v", s.Parts["early"], s.Drops)
		}
	})
}

// TestPartsAreSentInBursts: what would overflow the receiver's buffer comes a little later, and all of it comes.
func TestPartsAreSentInBursts(t *testing.T) {
	alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
		key := dht.HashText("k")
		const values = 100
		for i := range values {
			v := &dht.Value{ID: dht.ValueID(i + 1), Data: make([]byte, 10<<10)}
			n.Put(t.Context(), key, v, dhtnode.PutOptions{}) // alone: kept here only
		}
		token := p.token(stranger)
		small := (&dht.Value{ID: 1, Data: []byte("v")}).Append(nil)
		p.putInParts(2, token, [][]byte{small}, func(all [][]byte) [][]byte { return all[:1] })
		get := (&wire.Packet{Kind: wire.Get, TID: 9, ID: stranger, InfoHash: key}).Append(nil)
		p.send(get)
		parts, most := 0, 0
		for range 200 {
			synctest.Wait()
			now := 0
			for more := p.all(); len(more) > 0; more = p.all() {
				for _, b := range more {
					var pkt wire.Packet
					if pkt.Parse(b) == nil && pkt.Kind == wire.Part {
						now++
					}
				}
			}
			parts, most = parts+now, max(most, now)
			dhttest.Pass(time.Millisecond)
		}
		if most != 64 {
			t.Errorf("%d parts at once", most)
		}
		if parts < 80*9 { // 1 MiB of them, the bound of one answer
			t.Errorf("only %d parts in 200 ms", parts)
		}
	})
}

func TestPartsWithoutTokenCostNothing(t *testing.T) {
	alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
		got := p.putInParts(1, make([]byte, 32), [][]byte{large()}, func(all [][]byte) [][]byte { return all })
		if len(got) != 1 {
			t.Errorf("%d answers, want the refusal", len(got))
		}
		if s := n.Stats(); s.ReassemblyBytes != 0 || s.Parts["stray"] == 0 || s.ErrorsOut["401"] != 1 {
			t.Errorf("reassembly holds %d bytes, parts %v, refusals %v", s.ReassemblyBytes, s.Parts, s.ErrorsOut)
		}
	})
}

// TestNoLargeAnswerToAForgedSource: a small get from an address that proved nothing brings a ping and no value; the value
// follows when the address answers.
func TestNoLargeAnswerToAForgedSource(t *testing.T) {
	alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
		v, _, _ := dht.ParseValue(large())
		key := dht.HashText("k")
		if err := n.Put(t.Context(), key, v, dhtnode.PutOptions{}); !errors.Is(err, dhtnode.ErrNotConnected) {
			t.Fatalf("Put alone = %v", err)
		}
		get := (&wire.Packet{Kind: wire.Get, TID: 9, ID: stranger, InfoHash: key}).Append(nil)
		p.send(get)
		synctest.Wait()
		size := 0
		var pings []uint32
		for _, b := range p.all() {
			size += len(b)
			var pkt wire.Packet
			if pkt.Parse(b) == nil && pkt.Kind == wire.Ping {
				pings = append(pings, pkt.TID)
			}
		}
		if size > 200 || len(pings) == 0 {
			t.Fatalf("%d bytes to an unproved address, %d pings", size, len(pings))
		}
		for _, tid := range pings {
			pong := (&wire.Packet{Kind: wire.Reply, TID: tid, ID: stranger, PublicAddr: n.Addr.Addr()}).Append(nil)
			p.send(pong)
		}
		synctest.Wait()
		parts := 0
		for _, b := range p.all() {
			var pkt wire.Packet
			if pkt.Parse(b) == nil && pkt.Kind == wire.Part {
				parts++
			}
		}
		if want := len(large())/wire.PieceSize + 1; parts != want {
			t.Errorf("%d parts after the proof, want %d", parts, want)
		}
	})
}

// all returns every datagram received.
func (p *prober) all() (got [][]byte) {
	ms := make([]udpio.Message, 64)
	for i := range ms {
		ms[i].Buf = make([]byte, 4096)
	}
	for _, m := range ms[:p.conn.TryReadBatch(ms)] {
		got = append(got, bytes.Clone(m.Payload()))
	}
	return got
}

// TestIDIsNotHijacked: a packet with the id of a good node from elsewhere does not move that node.
func TestIDIsNotHijacked(t *testing.T) {
	network(t, 5, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		victim, n := c.Nodes[1], c.Nodes[2]
		if _, err := n.Ping(t.Context(), victim.Addr); err != nil { // they may not have met yet
			t.Fatal(err)
		}
		thief := &prober{t, c.Net.Listen(netip.MustParseAddrPort("10.99.0.1:5000")), n.Addr}
		b := (&wire.Packet{Kind: wire.Ping, TID: 1, ID: victim.ID()}).Append(nil)
		for range 10 {
			thief.send(b)
			dhttest.Pass(time.Second)
		}
		if n.Stats().Conflicts == 0 {
			t.Error("the attempt was not counted")
		}
		found, err := n.Find(t.Context(), victim.ID())
		if err != nil || found[0].ID != victim.ID() || found[0].Addr != victim.Addr {
			t.Errorf("Find = %v, %v, want %v first", found, err, victim.Addr)
		}
	})
}

// TestForgedAnswers: replies from another address, or with a wrong number, are not answers.
func TestForgedAnswers(t *testing.T) {
	alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		for tid := range uint32(100) {
			b := (&wire.Packet{Kind: wire.Reply, TID: tid, ID: stranger, Token: make([]byte, 32)}).Append(nil)
			p.send(b)
		}
		_, err := n.Ping(ctx, netip.MustParseAddrPort("10.99.0.2:5000"))
		if !errors.Is(err, dhtnode.ErrTimeout) {
			t.Errorf("Ping of nobody = %v", err)
		}
		if s := n.Stats(); s.Drops["unasked"] != 100 || s.IPv4.Good != 0 {
			t.Errorf("unasked %d, good %d", s.Drops["unasked"], s.IPv4.Good)
		}
	})
}

// TestUpdatesOnlyFromTheNodeListenedOn: who guesses key and socket number is answered and ignored.
func TestUpdatesOnlyFromTheNodeListenedOn(t *testing.T) {
	network(t, 3, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		n, key := c.Nodes[2], dht.HashText("k")
		heard := make(chan dhtnode.Event, 10)
		l, _ := n.Listen(key, dht.Query{}, func(e dhtnode.Event) { heard <- e })
		defer l.Cancel()
		dhttest.Pass(5 * time.Second)
		p := &prober{t, c.Net.Listen(netip.MustParseAddrPort("10.99.0.1:5000")), n.Addr}
		v := (&dht.Value{ID: 5, Data: []byte("forged")}).Append(nil)
		for sid := range uint32(64) {
			up := wire.Packet{Kind: wire.Update, TID: sid, ID: stranger, InfoHash: key, SocketID: sid, Version: 1}
			up.SetValues([][]byte{v})
			b := up.Append(nil)
			p.send(b)
		}
		dhttest.Pass(time.Second)
		select {
		case e := <-heard:
			t.Errorf("heard %q from a stranger", e.Value.Data)
		default:
		}
		answers := 0
		for _, b := range p.all() {
			var pkt wire.Packet
			if pkt.Parse(b) == nil && pkt.Kind == wire.Reply {
				answers++
			}
		}
		if answers < 60 { // the last few may stand behind our own questions
			t.Errorf("%d of 64 updates answered", answers)
		}
	})
}

// TestRefusingNodeIsLeftAlone: 401 to everything must not become a loop (docs/protocols/opendht.md §3.3).
func TestRefusingNodeIsLeftAlone(t *testing.T) {
	alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
		l, _ := n.Listen(dht.HashText("k"), dht.Query{}, func(dhtnode.Event) {})
		defer l.Cancel()
		n.AddNode(dht.NodeAddr{ID: stranger, Addr: p.conn.LocalAddr()})
		asked := 0
		for range 600 {
			dhttest.Pass(100 * time.Millisecond)
			for _, b := range p.all() {
				var q wire.Packet
				if q.Parse(b) != nil || !q.Kind.IsRequest() {
					continue
				}
				asked++
				a := wire.Packet{Kind: wire.Reply, TID: q.TID, ID: stranger, PublicAddr: n.Addr.Addr(), Token: make([]byte, 32)}
				if q.Kind == wire.Listen {
					a = wire.Packet{Kind: wire.Error, TID: q.TID, ID: stranger, Code: wire.CodeUnauthorized}
				}
				out := a.Append(nil)
				p.send(out)
			}
		}
		if asked < 4 || asked > 60 {
			t.Errorf("asked a refusing node %d times in a minute", asked)
		}
	})
}

func TestRateLimit(t *testing.T) {
	alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
		b := (&wire.Packet{Kind: wire.Ping, TID: 1, ID: stranger}).Append(nil)
		for range 3000 {
			p.send(b)
		}
		synctest.Wait()
		if s := n.Stats(); s.Out["reply"] != 1024 || s.Drops["rate_limited"] != 3000-1024 {
			t.Errorf("%d of 3000 pings answered, %d dropped; want 1024 answered", s.Out["reply"], s.Drops["rate_limited"])
		}
	})
}

func TestAllowList(t *testing.T) {
	cfg := dhtnode.Config{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	alone(t, cfg, func(t *testing.T, n *dhttest.Node, p *prober) {
		if got := p.ask((&wire.Packet{Kind: wire.Ping, TID: 1, ID: stranger}).Append(nil)); len(got) != 0 {
			t.Errorf("a stranger was answered")
		}
		if n.Stats().Drops["filtered"] != 1 {
			t.Error("not counted")
		}
	})
}

func TestMalformedPackets(t *testing.T) {
	alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
		whole := (&wire.Packet{Kind: wire.Find, TID: 1, ID: stranger, InfoHash: stranger}).Append(nil)
		for i := range whole {
			p.ask(whole[:i])
			broken := bytes.Clone(whole)
			broken[i] ^= 0xff
			p.ask(broken)
		}
		p.ask([]byte{0x81, 0xa1, 'e', 0x90})
		if s := n.Stats(); s.Drops["malformed"] == 0 {
			t.Error("nothing counted as malformed")
		}
		if got := p.ask(whole); len(got) != 1 {
			t.Errorf("the node no longer answers: %d", len(got))
		}
	})
}
