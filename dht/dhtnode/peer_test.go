package dhtnode_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/dhttest"
	"github.com/jirani/jirani/dht/wire"
	"github.com/jirani/jirani/internal/udpio"
)

// heard is a request a peer got.
type heard struct {
	at   time.Time
	kind wire.Kind
	sid  uint32
	said *wire.Packet // what it asked for, without values
}

// peer is a node acted by the test: it answers as a good one does, unless script says otherwise.
type peer struct {
	id     dht.InfoHash
	conn   *dhttest.Conn
	script func(q *wire.Packet, a *wire.Packet) *wire.Packet // may change or replace the answer; nil = none

	mu  sync.Mutex
	log []heard
}

func newPeer(c *dhttest.Cluster, id dht.InfoHash, addr netip.AddrPort) *peer {
	p := &peer{id: id, conn: c.Net.Listen(addr)}
	go p.run()
	return p
}

func (p *peer) run() {
	ms := make([]udpio.Message, 16)
	for i := range ms {
		ms[i].Buf = make([]byte, 4096)
	}
	for {
		k, err := p.conn.ReadBatch(ms)
		if err != nil {
			return
		}
		for _, m := range ms[:k] {
			p.handle(&m)
		}
	}
}

func (p *peer) handle(m *udpio.Message) {
	var q wire.Packet
	if q.Parse(m.Payload()) != nil || !q.Kind.IsRequest() {
		return
	}
	p.mu.Lock()
	said := &wire.Packet{InfoHash: q.InfoHash, Want: q.Want, HasCreated: q.HasCreated, ValueID: q.ValueID}
	p.log = append(p.log, heard{time.Now(), q.Kind, q.SocketID, said})
	script := p.script
	p.mu.Unlock()
	a := &wire.Packet{Kind: wire.Reply, TID: q.TID, ID: p.id, PublicAddr: m.Addr.Addr()}
	switch q.Kind {
	case wire.Find, wire.Get, wire.Listen:
		a.Token = bytes.Repeat([]byte{7}, 32)
	case wire.Put:
		v, _, _ := dht.ParseValue(q.Values[0].Raw)
		a.HasValueID, a.ValueID = true, v.ID
	case wire.Refresh:
		a.HasValueID, a.ValueID = true, q.ValueID
	}
	if script != nil {
		a = script(&q, a)
	}
	if a != nil {
		b := a.Append(nil)
		p.conn.WriteBatch([]udpio.Message{{Buf: b, N: len(b), Addr: m.Addr}})
	}
}

// take returns what was asked since the last call, of the kinds given or all.
func (p *peer) take(kinds ...wire.Kind) (log []heard) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.log {
		if len(kinds) == 0 || slices.Contains(kinds, h.kind) {
			log = append(log, h)
		}
	}
	p.log = nil
	return log
}

func (p *peer) act(script func(q, a *wire.Packet) *wire.Packet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.script = script
}

// peered runs f with one node that knows one acted peer.
func peered(t *testing.T, cfg dhtnode.Config, f func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, p *peer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := dhttest.NewCluster(t, dhttest.Link{Latency: latency})
		defer c.Stop()
		p := newPeer(c, dht.HashText("peer"), netip.MustParseAddrPort("10.99.0.1:5000"))
		defer p.conn.Close()
		cfg.Bootstrap = []string{p.conn.LocalAddr().String()}
		n := c.Start(cfg)
		c.Settle(time.Minute)
		dhttest.Pass(10 * time.Second)
		p.take()
		f(t, c, n, p)
	})
}

func kinds(log []heard) (ks []wire.Kind) {
	for _, h := range log {
		ks = append(ks, h.kind)
	}
	return ks
}

// TestPermanentPutCycle: probe and put without creation time, probe and refresh ten seconds before the end of life, and another put
// when the refresh is refused (docs/protocols/opendht.md §10.3).
func TestPermanentPutCycle(t *testing.T) {
	peered(t, dhtnode.Config{}, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, p *peer) {
		key, v := dht.HashText("k"), &dht.Value{ID: 5, Data: []byte("v")}
		if _, err := n.Find(t.Context(), key); err != nil { // have the token
			t.Fatal(err)
		}
		p.take()
		put(t, n, key, v, dhtnode.PutOptions{Permanent: true})
		first := p.take(wire.Get, wire.Put, wire.Refresh)
		if got := kinds(first); !slices.Equal(got, []wire.Kind{wire.Get, wire.Put}) || first[1].said.HasCreated {
			t.Fatalf("at first %v", got)
		}
		dhttest.Pass(time.Until(first[1].at.Add(595 * time.Second)))
		second := p.take(wire.Get, wire.Put, wire.Refresh)
		if got := kinds(second); !slices.Equal(got, []wire.Kind{wire.Get, wire.Put}) {
			t.Errorf("later, the value forgotten: %v", got)
		} else if after := second[0].at.Sub(first[1].at).Round(time.Second); after != 590*time.Second {
			t.Errorf("after %v", after)
		}
		p.act(func(q, a *wire.Packet) *wire.Packet {
			switch q.Kind {
			case wire.Get:
				a.Fields = wire.AppendFields(nil, q.Query.Select, []*dht.Value{v})
			case wire.Refresh:
				a.Kind, a.Code = wire.Error, wire.CodeNotFound
			}
			return a
		})
		dhttest.Pass(10 * time.Minute)
		if got := kinds(p.take(wire.Get, wire.Put, wire.Refresh)); !slices.Equal(got, []wire.Kind{wire.Get, wire.Refresh, wire.Put}) {
			t.Errorf("with the value there and the refresh refused: %v", got)
		}
	})
}

// TestPutCarriesCreation: other values say since when they exist (§3.7).
func TestPutCarriesCreation(t *testing.T) {
	peered(t, dhtnode.Config{}, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, p *peer) {
		put(t, n, dht.HashText("k"), text("v"), dhtnode.PutOptions{})
		if got := p.take(wire.Put, wire.Get); len(got) != 1 || got[0].kind != wire.Put || !got[0].said.HasCreated {
			t.Errorf("%v", kinds(got))
		}
	})
}

// TestListenIsRenewed with the same socket number after 20 s, or 290 s (§11.1), and the network is left alone a minute after the last
// local listener went (§10.4).
func TestListenIsRenewed(t *testing.T) {
	for _, stable := range []bool{false, true} {
		t.Run(fmt.Sprint("stable ", stable), func(t *testing.T) {
			peered(t, dhtnode.Config{PublicStable: stable}, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, p *peer) {
				l, err := n.Listen(dht.HashText("k"), dht.Query{}, func(dhtnode.Event) {})
				if err != nil {
					t.Fatal(err)
				}
				want := 20 * time.Second
				if stable {
					want = 290 * time.Second
				}
				dhttest.Pass(4*want + want/2)
				got := p.take(wire.Listen)
				if len(got) != 5 {
					t.Fatalf("%d listens in %v", len(got), 4*want+want/2)
				}
				for i := range got[1:] {
					if after := got[i+1].at.Sub(got[i].at).Round(time.Second); after != want || got[i+1].sid != got[i].sid {
						t.Errorf("renewed after %v, sockets %d and %d", after, got[i].sid, got[i+1].sid)
					}
				}
				l.Cancel()
				dhttest.Pass(50 * time.Second)
				if got := p.take(wire.Listen); !stable && len(got) < 2 {
					t.Errorf("%d listens in the linger", len(got))
				}
				dhttest.Pass(10*time.Second + want)
				p.take()
				dhttest.Pass(2 * want)
				if got := p.take(wire.Listen); len(got) != 0 {
					t.Errorf("%d listens after the linger", len(got))
				}
			})
		})
	}
}

// TestListenServesGetsAndListeners: what a listen knows is not asked for again (§10.4).
func TestListenServesGetsAndListeners(t *testing.T) {
	network(t, 12, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		n, key := c.Nodes[3], dht.HashText("k")
		put(t, c.Nodes[7], key, text("v"), dhtnode.PutOptions{})
		l, _ := n.Listen(key, dht.Query{}, func(dhtnode.Event) {})
		defer l.Cancel()
		dhttest.Pass(15 * time.Second)
		gets := n.Stats().Out["get"]
		if got := get(t, n, key); len(got) != 1 || n.Stats().Out["get"] != gets {
			t.Errorf("found %q with %d packets", got, n.Stats().Out["get"]-gets)
		}
		listens := n.Stats().Out["listen"]
		heard := make(chan dhtnode.Event, 4)
		filtered := dht.Query{Where: []dht.FieldValue{dht.WhereType(0)}}
		second, err := n.Listen(key, filtered, func(e dhtnode.Event) { heard <- e })
		if err != nil {
			t.Fatal(err)
		}
		defer second.Cancel()
		synctest.Wait()
		if len(heard) != 1 || n.Stats().Out["listen"] != listens {
			t.Errorf("a covered listener heard %d values and cost %d packets", len(heard), n.Stats().Out["listen"]-listens)
		}
		none := dht.Query{Where: []dht.FieldValue{dht.WhereType(7)}}
		third, _ := n.Listen(key, none, func(e dhtnode.Event) { t.Errorf("heard %q past the filter", e.Value.Data) })
		defer third.Cancel()
		dhttest.Pass(time.Second)
	})
}

// TestAnswersWithoutToken: who answers a search without a token is not talked to any more (§13.2), for an hour.
func TestAnswersWithoutToken(t *testing.T) {
	peered(t, dhtnode.Config{PublicStable: true}, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, p *peer) {
		p.act(func(q, a *wire.Packet) *wire.Packet { a.Token = nil; return a })
		if _, err := n.Find(t.Context(), dht.HashText("k")); !errors.Is(err, dhtnode.ErrNotConnected) {
			t.Errorf("Find = %v", err)
		}
		if s := n.Stats(); s.Blacklisted != 1 {
			t.Errorf("%d addresses on the blacklist", s.Blacklisted)
		}
		by := &prober{t, p.conn, n.Addr}
		b := (&wire.Packet{Kind: wire.Ping, TID: 99, ID: p.id}).Append(nil)
		before := n.Stats()
		by.send(b)
		dhttest.Pass(time.Second)
		if s := n.Stats(); s.Drops["filtered"] == before.Drops["filtered"] || s.Out["reply"] != before.Out["reply"] {
			t.Error("its packets still count")
		}
	})
}

// TestNodeListsAreJudged: loopback stands for the sender, martians and we ourselves are skipped, and a list of odd length is thrown
// away (§3.6).
func TestNodeListsAreJudged(t *testing.T) {
	peered(t, dhtnode.Config{}, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, p *peer) {
		entry := func(id, addr string) []byte {
			return dht.NodeAddr{ID: dht.HashText(id), Addr: netip.MustParseAddrPort(addr)}.Append(nil)
		}
		behind := newPeer(c, dht.HashText("behind the same address"), netip.MustParseAddrPort("10.99.0.1:6000"))
		defer behind.conn.Close()
		odd := newPeer(c, dht.HashText("odd"), netip.MustParseAddrPort("10.99.0.3:5000"))
		defer odd.conn.Close()
		before := c.Net.Sent()
		p.act(func(q, a *wire.Packet) *wire.Packet {
			if q.Kind == wire.Find {
				a.Nodes4 = slices.Concat(entry("behind the same address", "127.0.0.1:6000"), entry("zero", "0.0.0.1:5000"),
					entry("multicast", "224.0.0.1:5000"), entry("no port", "10.99.0.9:0"),
					dht.NodeAddr{ID: n.ID(), Addr: netip.MustParseAddrPort("10.99.0.8:5000")}.Append(nil))
				if q.InfoHash == dht.HashText("odd list") {
					a.Nodes4 = append(entry("odd", "10.99.0.3:5000"), 1)
				}
			}
			return a
		})
		found, err := n.Find(t.Context(), dht.HashText("k"))
		if err != nil || len(found) != 2 {
			t.Errorf("Find = %v, %v; want the peer and the one behind it", found, err)
		}
		if got := behind.take(wire.Find); len(got) == 0 {
			t.Error("the node behind the sender's address was not asked")
		}
		if _, err := n.Find(t.Context(), dht.HashText("odd list")); err != nil {
			t.Error(err)
		}
		if got := odd.take(); len(got) != 0 {
			t.Errorf("a node from a list of odd length was asked %v", kinds(got))
		}
		if n.Stats().IPv4.Cached != 2 {
			t.Errorf("%d records, %d datagrams", n.Stats().IPv4.Cached, c.Net.Sent()-before)
		}
	})
}

// TestFarPutIsAcknowledgedAndDropped: with 14 nodes known to be closer a value is not stored, with eight it is (§3.2).
func TestFarPutIsAcknowledgedAndDropped(t *testing.T) {
	network(t, 40, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		key := dht.HashText("far")
		byDistance := nearest(c, key)
		for i, want := range map[int]int{0: 1, 11: 1, len(byDistance) - 1: 0} {
			n := byDistance[i]
			for _, o := range c.Nodes { // know everybody near
				n.Ping(t.Context(), o.Addr)
			}
			p := &prober{t, c.Net.Listen(netip.AddrPortFrom(netip.MustParseAddr("10.99.0.1"), uint16(5000+i))), n.Addr}
			stored := n.Stats().Storage.Values
			get := (&wire.Packet{Kind: wire.Get, TID: 1, ID: stranger, InfoHash: key}).Append(nil)
			p.send(get)
			dhttest.Pass(time.Second)
			var token []byte
			for _, b := range p.received() {
				var pkt wire.Packet
				if pkt.Parse(b) == nil && pkt.TID == 1 {
					token = bytes.Clone(pkt.Token)
				}
			}
			pkt := wire.Packet{Kind: wire.Put, TID: 2, ID: stranger, InfoHash: key, Token: token}
			pkt.SetValues([][]byte{(&dht.Value{ID: 3, Data: []byte("v")}).Append(nil)})
			b := pkt.Append(nil)
			p.send(b)
			dhttest.Pass(time.Second)
			acks := 0
			for _, b := range p.received() {
				var a wire.Packet
				if a.Parse(b) == nil && a.Kind == wire.Reply && a.TID == 2 && a.ValueID == 3 {
					acks++
				}
			}
			if got := n.Stats().Storage.Values - stored; acks != 1 || got != want {
				t.Errorf("node %d by distance: %d acknowledgements, %d stored, want %d", i, acks, got, want)
			}
		}
	})
}

// TestRefreshByHand: a known value gets a new life and its listeners hear of it; 404 for an unknown value id too, which upstream
// says yes to (§12.3). A renewed listen brings no second push (§11.2).
func TestRefreshByHand(t *testing.T) {
	alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
		key := dht.HashText("k")
		token := p.token(stranger)
		n.Put(t.Context(), key, &dht.Value{ID: 5, Data: []byte("v")}, dhtnode.PutOptions{})
		listen := (&wire.Packet{Kind: wire.Listen, TID: 2, ID: stranger, InfoHash: key, Token: token, SocketID: 9, Version: 1}).Append(nil)
		if got := kindsOf(p.ask(listen)); !slices.Equal(got, []wire.Kind{wire.Update, wire.Reply}) {
			t.Errorf("a new listen brings %v, want the push before the reply", got)
		}
		if got := kindsOf(p.ask(listen)); !slices.Equal(got, []wire.Kind{wire.Reply}) {
			t.Errorf("a renewed listen brings %v", got)
		}
		for vid, want := range map[dht.ValueID][]wire.Kind{5: {wire.Update, wire.Reply}, 6: {wire.Error}} {
			b := (&wire.Packet{Kind: wire.Refresh, TID: 3, ID: stranger, InfoHash: key, Token: token, HasValueID: true, ValueID: vid}).Append(nil)
			if got := kindsOf(p.ask(b)); !slices.Equal(got, want) {
				t.Errorf("refresh of value %d brings %v, want %v", vid, got, want)
			}
		}
	})
}

func kindsOf(packets [][]byte) (ks []wire.Kind) {
	for _, b := range packets {
		var p wire.Packet
		if p.Parse(b) == nil {
			ks = append(ks, p.Kind)
		}
	}
	return ks
}
