package dhtnode_test

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/dhttest"
	"github.com/jirani/jirani/dht/storage"
	"github.com/jirani/jirani/dht/wire"
)

// What our node asks for and sends, as real nodes were seen to, where no recorded probe says it.

// TestGetAsksForIDsFirst, then for one value at a time, with the caller's conditions in the first question (§10.2).
func TestGetAsksForIDsFirst(t *testing.T) {
	peered(t, dhtnode.Config{}, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, p *peer) {
		stored := []*dht.Value{{ID: 1, Data: []byte("one")}, {ID: 2, Data: []byte("two")}}
		var mu sync.Mutex
		var asked []dht.Query
		p.act(func(q, a *wire.Packet) *wire.Packet {
			if q.Kind != wire.Get {
				return a
			}
			mu.Lock()
			asked = append(asked, q.Query.Clone())
			mu.Unlock()
			if len(q.Query.Select) > 0 {
				a.Fields = wire.AppendFields(nil, q.Query.Select, stored)
				return a
			}
			for _, v := range stored {
				if q.Query.Match(v) {
					a.SetValues([][]byte{v.Append(nil)})
				}
			}
			return a
		})
		found := 0
		q := dht.Query{Where: []dht.FieldValue{dht.WhereType(0)}}
		if err := n.Get(t.Context(), dht.HashText("k"), q, func(*dht.Value) bool { found++; return true }); err != nil || found != 2 {
			t.Fatalf("found %d values: %v", found, err)
		}
		mu.Lock()
		defer mu.Unlock()
		var got [][]byte
		for i := range asked {
			got = append(got, asked[i].Append(nil))
		}
		var want [][]byte
		for _, q := range []dht.Query{
			{Select: []dht.Field{dht.FieldID}, Where: q.Where},
			{Where: []dht.FieldValue{dht.WhereID(1)}}, {Where: []dht.FieldValue{dht.WhereID(2)}},
		} {
			want = append(want, q.Append(nil))
		}
		slices.SortFunc(got[min(1, len(got)):], bytes.Compare) // the values are asked for at once
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("asked %x, want %x", got, want)
		}
	})
}

// TestGetTakesValuesAnsweredAtOnce: a node may answer the question for ids with the values (§10.2).
func TestGetTakesValuesAnsweredAtOnce(t *testing.T) {
	peered(t, dhtnode.Config{}, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, p *peer) {
		p.act(func(q, a *wire.Packet) *wire.Packet {
			if q.Kind == wire.Get {
				a.SetValues([][]byte{serialised(1, 5)})
			}
			return a
		})
		if got := get(t, n, dht.HashText("k")); len(got) != 1 {
			t.Errorf("found %d values", len(got))
		}
	})
}

// TestListenUsesTheNewestToken: those in answers to listens and in pushes replace the one of the last find (§3.4, §19.2 requirement 15).
func TestListenUsesTheNewestToken(t *testing.T) {
	peered(t, dhtnode.Config{}, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, p *peer) {
		var mu sync.Mutex
		var used []string
		var socket uint32
		p.act(func(q, a *wire.Packet) *wire.Packet {
			if q.Kind == wire.Listen {
				mu.Lock()
				used, socket = append(used, string(q.Token)), q.SocketID
				mu.Unlock()
				a.Token = []byte("of a listen")
			}
			return a
		})
		l, err := n.Listen(dht.HashText("k"), dht.Query{}, func(dhtnode.Event) {})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Cancel()
		dhttest.Pass(30 * time.Second)
		push := &wire.Packet{Kind: wire.Update, TID: 3, ID: p.id, SocketID: socket, Token: []byte("of a push"), Expired: []dht.ValueID{77}}
		(&prober{t, p.conn, n.Addr}).send(push.Append(nil))
		dhttest.Pass(20 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(used) != 3 || used[1] != "of a listen" || used[2] != "of a push" {
			t.Errorf("tokens used: %q", used)
		}
	})
}

// TestHowFarOperationsReach: a put goes to the eight closest nodes and no other, a listen to the four closest (§10.3).
func TestHowFarOperationsReach(t *testing.T) {
	network(t, 40, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		key := dht.HashText("k")
		order := nearest(c, key)
		n := order[len(order)-1]
		if _, err := n.Find(t.Context(), key); err != nil { // who the closest are is known before anything is sent to them
			t.Fatal(err)
		}
		put(t, n, key, text("v"), dhtnode.PutOptions{})
		l, err := n.Listen(key, dht.Query{}, func(dhtnode.Event) {})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Cancel()
		dhttest.Pass(15 * time.Second)
		for i, o := range order[:len(order)-1] {
			s := o.Stats().Storage
			if stores, listens := s.Values == 1, s.Listeners == 1; stores != (i < 8) || listens != (i < 4) {
				t.Errorf("node %d by distance: stores %v, is listened on %v", i, stores, listens)
			}
		}
	})
}

// surrounded runs f with a node that knows count acted peers, given by their distance to "k"; it is farther from there than all of them.
func surrounded(t *testing.T, count int, f func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, peers []*peer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := dhttest.NewCluster(t, dhttest.Link{})
		defer c.Stop()
		far := dht.HashText("k")
		far[0] ^= 0x80
		n := c.Start(dhtnode.Config{ID: far})
		var peers []*peer
		for i := range count {
			p := newPeer(c, near(dht.HashText("k"), i), dhttest.Addr(100+i))
			defer p.conn.Close()
			if _, err := n.Ping(t.Context(), p.conn.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			peers = append(peers, p)
		}
		dhttest.Pass(10 * time.Second)
		for _, p := range peers {
			p.take()
		}
		f(t, c, n, peers)
	})
}

func silent(_, _ *wire.Packet) *wire.Packet { return nil }

// asked returns which peers were asked something of that kind about "k" since the last call.
func asked(peers []*peer, kind wire.Kind) (which []int) {
	for i, p := range peers {
		about := func(h heard) bool { return h.said.InfoHash == dht.HashText("k") }
		if slices.ContainsFunc(p.take(kind), about) {
			which = append(which, i)
		}
	}
	return which
}

// TestFourAreAskedAtOnce, the closest first; who is late makes room for the next (§10.1).
func TestFourAreAskedAtOnce(t *testing.T) {
	for kind, run := range map[wire.Kind]func(context.Context, *dhttest.Node){
		wire.Find: func(ctx context.Context, n *dhttest.Node) { n.Find(ctx, dht.HashText("k")) },
		wire.Get: func(ctx context.Context, n *dhttest.Node) {
			n.Get(ctx, dht.HashText("k"), dht.Query{}, func(*dht.Value) bool { return true })
		},
	} {
		surrounded(t, 12, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, peers []*peer) {
			for _, p := range peers {
				p.act(silent)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			go run(ctx, n)
			dhttest.Pass(900 * time.Millisecond)
			if got := asked(peers, kind); !slices.Equal(got, []int{0, 1, 2, 3}) {
				t.Errorf("%v: at first %v were asked", kind, got)
			}
			dhttest.Pass(time.Second)
			if got := asked(peers, kind); !slices.Equal(got, []int{0, 1, 2, 3, 4, 5, 6, 7}) {
				t.Errorf("%v: a second later %v were asked", kind, got)
			}
		})
	}
}

// TestFourteenAreAsked of those who are known (§10.1).
func TestFourteenAreAsked(t *testing.T) {
	surrounded(t, 20, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, peers []*peer) {
		if _, err := n.Find(t.Context(), dht.HashText("k")); err != nil {
			t.Fatal(err)
		}
		dhttest.Pass(time.Second)
		if got := asked(peers, wire.Find); len(got) < 8 || got[len(got)-1] > 13 {
			t.Errorf("%v were asked", got)
		}
		l, err := n.Listen(dht.HashText("k"), dht.Query{}, func(dhtnode.Event) {})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Cancel()
		dhttest.Pass(15 * time.Minute)
		if got := asked(peers, wire.Find); len(got) != 14 || got[13] != 13 {
			t.Errorf("for a listen %v were asked", got)
		}
	})
}

// TestBeginsBeforeAllHaveAnswered: puts and listens go to all but the last of the first nodes that answered, and to the others once who
// does not answer is late (§10.1).
func TestBeginsBeforeAllHaveAnswered(t *testing.T) {
	put := func(ctx context.Context, n *dhttest.Node) {
		n.Put(ctx, dht.HashText("k"), text("v"), dhtnode.PutOptions{})
	}
	listen := func(_ context.Context, n *dhttest.Node) {
		n.Listen(dht.HashText("k"), dht.Query{}, func(dhtnode.Event) {})
	}
	for _, tt := range []struct {
		kind         wire.Kind
		run          func(context.Context, *dhttest.Node)
		silent       int
		first, later []int
	}{
		{wire.Put, put, 1, nil, []int{0, 2, 3, 4, 5, 6, 7, 8}},
		{wire.Put, put, 3, []int{0, 1}, []int{2, 4, 5, 6, 7, 8}},
		{wire.Put, put, 8, []int{0, 1, 2, 3, 4, 5, 6, 7}, nil},
		{wire.Listen, listen, 1, nil, []int{0, 2, 3, 4}},
		{wire.Listen, listen, 3, []int{0, 1}, []int{2, 4}},
	} {
		surrounded(t, 9, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, peers []*peer) {
			peers[tt.silent].act(silent)
			go tt.run(t.Context(), n)
			dhttest.Pass(900 * time.Millisecond)
			if got := asked(peers, tt.kind); !slices.Equal(got, tt.first) {
				t.Errorf("%v while peer %d is silent went to %v, want %v", tt.kind, tt.silent, got, tt.first)
			}
			dhttest.Pass(2 * time.Second)
			if got := asked(peers, tt.kind); !slices.Equal(got, tt.later) {
				t.Errorf("%v when peer %d was late went to %v, want %v", tt.kind, tt.silent, got, tt.later)
			}
		})
	}
}

// TestTokensAreFetchedAnew ten minutes after the last, while something runs that needs them (§8, §10.1).
func TestTokensAreFetchedAnew(t *testing.T) {
	peered(t, dhtnode.Config{PublicStable: true}, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, p *peer) {
		l, err := n.Listen(dht.HashText("k"), dht.Query{}, func(dhtnode.Event) {})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Cancel()
		start := time.Now()
		dhttest.Pass(25 * time.Minute)
		var after []time.Duration
		for _, h := range p.take(wire.Find) {
			if h.said.InfoHash == dht.HashText("k") {
				after = append(after, h.at.Sub(start).Round(10*time.Second))
			}
		}
		if want := []time.Duration{0, 10 * time.Minute, 20 * time.Minute}; !slices.Equal(after, want) {
			t.Errorf("asked after %v, want %v", after, want)
		}
	})
}

// TestWantsBothFamiliesWhereItHasBoth: `w` is not sent by a node of one family (§3.1).
func TestWantsBothFamiliesWhereItHasBoth(t *testing.T) {
	own4, own6 := netip.MustParseAddrPort("10.1.0.1:4222"), netip.MustParseAddrPort("[2001:db8:1::1]:4222")
	for _, tt := range []struct {
		name string
		own  []netip.AddrPort
		want wire.Want
	}{{"IPv4", []netip.AddrPort{own4}, 0}, {"IPv6", []netip.AddrPort{own6}, 0}, {"both", []netip.AddrPort{own4, own6}, wire.Want4 | wire.Want6}} {
		synctest.Test(t, func(t *testing.T) {
			c := dhttest.NewCluster(t, dhttest.Link{})
			defer c.Stop()
			at := netip.MustParseAddrPort("10.99.0.1:5000")
			if tt.own[0].Addr().Is6() {
				at = netip.MustParseAddrPort("[2001:db8:99::1]:5000")
			}
			p := newPeer(c, dht.HashText("peer"), at)
			defer p.conn.Close()
			n := c.StartOn(dhtnode.Config{Bootstrap: []string{at.String()}}, tt.own...)
			dhttest.Pass(10 * time.Second)
			n.Find(t.Context(), dht.HashText("k"))
			get(t, n, dht.HashText("k"))
			put(t, n, dht.HashText("k"), text("v"), dhtnode.PutOptions{Permanent: true})
			questions := 0
			for _, h := range p.take(wire.Find, wire.Get) {
				if h.said.InfoHash != dht.HashText("k") && tt.want != 0 {
					continue // a bucket's, which wants the other family only where that one has room
				}
				if questions++; h.said.Want != tt.want {
					t.Errorf("%s: a %v wants %d", tt.name, h.kind, h.said.Want)
				}
			}
			if questions < 3 {
				t.Errorf("%s: %d questions", tt.name, questions)
			}
		})
	}
}

// TestPublicAddressIsVotedOn by answers to what we asked, of their family, and by nobody else (§14.4).
func TestPublicAddressIsVotedOn(t *testing.T) {
	peered(t, dhtnode.Config{}, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, p *peer) {
		is := func(want ...netip.Addr) {
			t.Helper()
			if v4, v6 := n.PublicAddrs(); !slices.Equal(v4, want) || len(v6) != 0 {
				t.Errorf("public addresses %v and %v, want %v", v4, v6, want)
			}
		}
		is(n.Addr.Addr())
		claim := netip.MustParseAddr("203.0.113.9")
		by := &prober{t, c.Net.Listen(netip.MustParseAddrPort("10.98.0.1:5000")), n.Addr}
		by.send((&wire.Packet{Kind: wire.Reply, TID: 7, ID: stranger, PublicAddr: claim}).Append(nil))
		for _, useless := range []string{"2001:db8::1", "0.0.0.0", "224.0.0.1"} {
			p.act(func(_, a *wire.Packet) *wire.Packet { a.PublicAddr = netip.MustParseAddr(useless); return a })
			if _, err := n.Ping(t.Context(), p.conn.LocalAddr()); err != nil {
				t.Fatal(err)
			}
		}
		is(n.Addr.Addr())
		other := newPeer(c, dht.HashText("other"), netip.MustParseAddrPort("10.97.0.1:5000"))
		defer other.conn.Close()
		other.act(func(_, a *wire.Packet) *wire.Packet { a.PublicAddr = claim; return a })
		if _, err := n.Ping(t.Context(), other.conn.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		is(n.Addr.Addr(), claim)
	})
}

// TestEveryEntryPointIsAskedForNeighbours, one that answers late as well: what it knows may be another part of the network (§14.2).
func TestEveryEntryPointIsAskedForNeighbours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dhttest.NewCluster(t, dhttest.Link{})
		defer c.Stop()
		quick := newPeer(c, dht.HashText("quick"), netip.MustParseAddrPort("10.99.0.1:5000"))
		defer quick.conn.Close()
		late := newPeer(c, dht.HashText("late"), netip.MustParseAddrPort("10.99.0.2:5000"))
		defer late.conn.Close()
		late.act(silent)
		n := c.Start(dhtnode.Config{Bootstrap: []string{quick.conn.LocalAddr().String(), late.conn.LocalAddr().String()}})
		dhttest.Pass(900 * time.Millisecond)
		late.act(nil)
		dhttest.Pass(400 * time.Millisecond) // until it is pinged again
		for _, p := range []*peer{quick, late} {
			if got := p.take(wire.Find); len(got) == 0 || got[0].said.InfoHash != n.ID() {
				t.Errorf("%d questions to %v", len(got), p.conn.LocalAddr())
			}
		}
	})
}

// TestSeqIsAboveThatOfARunningPut, also when our own storage had no room for it (§7.2).
func TestSeqIsAboveThatOfARunningPut(t *testing.T) {
	cfg := dhtnode.Config{Identity: identity(t, "signer"), NoPublish: true, Storage: storage.Limits{ValuesPerKey: 1}}
	peered(t, cfg, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, p *peer) {
		put(t, n, dht.HashText("k"), text("in the way"), dhtnode.PutOptions{Permanent: true})
		for want := range uint16(3) {
			v, err := n.PutSigned(t.Context(), dht.HashText("k"), &dht.Value{ID: 7}, dhtnode.PutOptions{Permanent: true})
			if err != nil || v.Seq != want {
				t.Errorf("PutSigned = seq %d, %v; want seq %d", v.Seq, err, want)
			}
		}
	})
}
