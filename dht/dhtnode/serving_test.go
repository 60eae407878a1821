package dhtnode_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtcrypto"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/dhttest"
	"github.com/jirani/jirani/dht/wire"
	"github.com/jirani/jirani/internal/udpio"
)

// What our node makes of requests, as real nodes were seen to, where no recorded probe says it.

// parsed returns everything received, our node's own questions included.
func (p *prober) parsed() (got []wire.Packet) {
	for _, b := range p.all() {
		var pkt wire.Packet
		if err := pkt.Parse(b); err != nil {
			p.t.Fatalf("our node sent a packet that does not parse: %v", err)
		}
		got = append(got, pkt)
	}
	return got
}

// putByHand encodes a put at "k" of serialised values, created at that Unix time unless it is 0.
func putByHand(token []byte, created int64, values ...[]byte) []byte {
	p := wire.Packet{Kind: wire.Put, TID: 7, ID: stranger, InfoHash: dht.HashText("k"), Token: token}
	p.HasCreated, p.Created = created != 0, created
	p.SetValues(values)
	return p.Append(nil)
}

func listenByHand(token []byte, q dht.Query) []byte {
	p := wire.Packet{Kind: wire.Listen, TID: 8, ID: stranger, InfoHash: dht.HashText("k"), Token: token, SocketID: 9, Version: 1,
		HasQuery: !q.IsZero(), Query: q}
	return p.Append(nil)
}

func serialised(id dht.ValueID, size int) []byte {
	return (&dht.Value{ID: id, Data: make([]byte, size)}).Append(nil)
}

// TestPutOfUnreadableValues: a value that does not parse is skipped, a put of nothing else is not answered, and an id of 0 ends a put
// (docs/protocols/opendht.md §2, §3.2).
func TestPutOfUnreadableValues(t *testing.T) {
	alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
		token := p.token(stranger)
		junk := []byte{0x80}
		for _, tt := range []struct {
			name   string
			values [][]byte
			want   []wire.Kind
			stored int
		}{
			{"nothing readable", [][]byte{junk}, nil, 0},
			{"one readable", [][]byte{junk, serialised(3, 5), junk}, []wire.Kind{wire.Reply}, 1},
			{"no id", [][]byte{serialised(4, 5), serialised(0, 5), serialised(5, 5)}, []wire.Kind{wire.Reply, wire.Error}, 2},
		} {
			if got := kindsOf(p.ask(putByHand(token, 0, tt.values...))); !slices.Equal(got, tt.want) {
				t.Errorf("%s: answers %v, want %v", tt.name, got, tt.want)
			}
			if got := n.Stats().Storage.Values; got != tt.stored {
				t.Errorf("%s: %d values stored, want %d", tt.name, got, tt.stored)
			}
		}
	})
}

// TestNodesOfTheFamiliesWanted: without `w` those of the family the question came over, otherwise those asked for (§3.1).
func TestNodesOfTheFamiliesWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dhttest.NewCluster(t, dhttest.Link{})
		defer c.Stop()
		v6 := func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::1", i)), 4222)
		}
		entry := []string{dhttest.Addr(1).String(), v6(1).String()}
		n := c.StartOn(dhtnode.Config{}, dhttest.Addr(1), v6(1))
		c.StartOn(dhtnode.Config{Bootstrap: entry}, dhttest.Addr(2), v6(2))
		dhttest.Pass(time.Minute)
		over4 := &prober{t, c.Net.Listen(netip.MustParseAddrPort("10.99.0.1:5000")), n.Addr}
		over6 := &prober{t, c.Net.Listen(netip.MustParseAddrPort("[2001:db8:99::1]:5000")), v6(1)}
		for _, tt := range []struct {
			by        *prober
			want      wire.Want
			four, six bool
		}{
			{over4, 0, true, false}, {over6, 0, false, true},
			{over4, wire.Want6, false, true}, {over6, wire.Want4, true, false}, {over4, wire.Want4 | wire.Want6, true, true},
		} {
			for _, kind := range []wire.Kind{wire.Find, wire.Get} {
				q := wire.Packet{Kind: kind, TID: 9, ID: stranger, InfoHash: dht.HashText("x"), Want: tt.want}
				answers := tt.by.ask(q.Append(nil))
				var a wire.Packet
				if len(answers) != 1 || a.Parse(answers[0]) != nil {
					t.Fatalf("%v wanting %d: %d answers", kind, tt.want, len(answers))
				}
				if len(a.Nodes4) > 0 != tt.four || len(a.Nodes6) > 0 != tt.six || len(a.Token) == 0 {
					t.Errorf("%v wanting %d over %v: n4 %d bytes, n6 %d bytes", kind, tt.want, tt.by.node, len(a.Nodes4), len(a.Nodes6))
				}
			}
		}
	})
}

// observe collects what comes for a while, with the time each took to come.
func (p *prober) observe(d time.Duration, take func(after time.Duration, q *wire.Packet)) {
	start := time.Now()
	for time.Since(start) < d {
		synctest.Wait()
		for _, q := range p.parsed() {
			take(time.Since(start), &q)
		}
		dhttest.Pass(10 * time.Millisecond)
	}
}

// TestPushesAreRepeated: an update is sent three times, its parts each time, at the pace of any request (§8, §11.3); who answers none of
// them is not told more.
func TestPushesAreRepeated(t *testing.T) {
	alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
		token := p.token(stranger)
		p.putInParts(5, token, [][]byte{serialised(1, 700)}, func(all [][]byte) [][]byte { return all })
		p.send(listenByHand(token, dht.Query{}))
		var updates []time.Duration
		parts := 0
		p.observe(20*time.Second, func(after time.Duration, q *wire.Packet) {
			switch q.Kind {
			case wire.Update:
				updates = append(updates, after)
			case wire.Part:
				parts++
			}
		})
		if len(updates) != 3 || parts != 3 {
			t.Fatalf("updates after %v, with %d parts", updates, parts)
		}
		first, second := updates[1]-updates[0], updates[2]-updates[1]
		if first < time.Second || first > 1300*time.Millisecond || second < 2*time.Second || second > 2800*time.Millisecond {
			t.Errorf("repeated after %v and %v", first, second)
		}
		if got := kindsOf(p.ask(putByHand(token, 0, serialised(2, 5)))); !slices.Equal(got, []wire.Kind{wire.Reply}) {
			t.Errorf("a listener that does not answer is still told: %v", got)
		}
	})
}

// TestEndOfLifeIsPushedToAll: expired ids go to listeners whatever their filter (§11.3).
func TestEndOfLifeIsPushedToAll(t *testing.T) {
	alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
		token := p.token(stranger)
		p.ask(listenByHand(token, dht.Query{Where: []dht.FieldValue{dht.WhereID(501)}}))
		p.ask(putByHand(token, time.Now().Unix()-590, serialised(5, 5)))
		var expired []dht.ValueID
		p.observe(12*time.Second, func(after time.Duration, q *wire.Packet) {
			if q.Kind != wire.Update || len(q.Values) > 0 {
				return
			}
			p.send((&wire.Packet{Kind: wire.Reply, TID: q.TID, ID: stranger}).Append(nil))
			expired = append(expired, q.Expired...)
		})
		if !slices.Equal(expired, []dht.ValueID{5}) {
			t.Errorf("heard of the end of %v", expired)
		}
	})
}

// TestStoredValuesArePushedInGroups: a new listener gets what is there in messages of some 56 KiB (§4.1).
func TestStoredValuesArePushedInGroups(t *testing.T) {
	alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
		for i := range 4 {
			v := &dht.Value{ID: dht.ValueID(i + 1), Data: make([]byte, 30<<10)}
			n.Put(t.Context(), dht.HashText("k"), v, dhtnode.PutOptions{}) // alone: kept here only
		}
		p.send(listenByHand(p.token(stranger), dht.Query{}))
		groups := map[uint32]int{}
		p.observe(100*time.Millisecond, func(_ time.Duration, q *wire.Packet) {
			if q.Kind == wire.Update {
				groups[q.TID] = len(q.Values)
			}
		})
		if len(groups) != 2 {
			t.Errorf("values in each message: %v", groups)
		}
	})
}

// TestEveryPacketNamesTheNetwork, and a client says that it is one (§2.1, §4.1).
func TestEveryPacketNamesTheNetwork(t *testing.T) {
	alone(t, dhtnode.Config{Network: 42, Client: true}, func(t *testing.T, n *dhttest.Node, p *prober) {
		seen := map[wire.Kind]bool{}
		var token []byte
		take := func(_ time.Duration, q *wire.Packet) {
			seen[q.Kind] = true
			if q.Network != 42 || !q.Client {
				t.Errorf("%v: network %d, client %v", q.Kind, q.Network, q.Client)
			}
			if len(q.Token) > 0 {
				token = bytes.Clone(q.Token)
			}
		}
		say := func(q wire.Packet, values ...[]byte) {
			q.ID, q.Network, q.InfoHash, q.Token, q.TID = stranger, 42, dht.HashText("k"), token, q.TID+1
			q.SetValues(values)
			p.send(q.Append(nil))
			if wire.Fragmented(values) {
				for piece := range wire.EachPart(values) {
					p.send(q.AppendPart(nil, piece))
				}
			}
			p.observe(10*time.Millisecond, take)
		}
		say(wire.Packet{Kind: wire.Find})
		say(wire.Packet{Kind: wire.Put}, serialised(1, 700))
		say(wire.Packet{Kind: wire.Get})
		say(wire.Packet{Kind: wire.Refresh, HasValueID: true, ValueID: 99})
		say(wire.Packet{Kind: wire.Listen, SocketID: 9, Version: 1})
		for _, k := range []wire.Kind{wire.Reply, wire.Error, wire.Part, wire.Update, wire.Ping} {
			if !seen[k] {
				t.Errorf("no %v was seen", k)
			}
		}
	})
}

// TestFirstContactIsAskedSoon: when somebody new comes to a node that has met nobody for long, it looks around a second later (§9.4).
func TestFirstContactIsAskedSoon(t *testing.T) {
	peered(t, dhtnode.Config{}, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, old *peer) {
		dhttest.Pass(10 * time.Minute)
		p := &prober{t, c.Net.Listen(netip.MustParseAddrPort("10.99.1.1:5000")), n.Addr}
		old.take()
		p.send((&wire.Packet{Kind: wire.Ping, TID: 1, ID: stranger}).Append(nil))
		finds := 0
		p.observe(1200*time.Millisecond, func(after time.Duration, q *wire.Packet) {
			switch q.Kind {
			case wire.Find:
				finds++
			case wire.Ping:
				p.send((&wire.Packet{Kind: wire.Reply, TID: q.TID, ID: stranger}).Append(nil))
			}
		})
		if finds += len(old.take(wire.Find)); finds == 0 {
			t.Error("nobody was asked")
		}
	})
}

// TestOnlyRequestsAndPushesAreLimited: answers never count against the rate of their sender (§13.1).
func TestOnlyRequestsAndPushesAreLimited(t *testing.T) {
	alone(t, dhtnode.Config{RateLimitPerSource: 2}, func(t *testing.T, n *dhttest.Node, p *prober) {
		for _, tt := range []struct {
			kind    wire.Kind
			dropped uint64
		}{{wire.Reply, 0}, {wire.Error, 0}, {wire.Push, 3}} {
			for range 5 {
				p.send((&wire.Packet{Kind: tt.kind, TID: 7, ID: stranger, Code: wire.CodeNotFound, Expired: []dht.ValueID{1}}).Append(nil))
			}
			synctest.Wait()
			if got := n.Stats().Drops["rate_limited"]; got != tt.dropped {
				t.Errorf("%d of 5 %vs dropped, want %d", got, tt.kind, tt.dropped)
			}
		}
	})
}

// TestPartsOfUnaskedReplies: a fragmented answer to nothing is not put together (§19.2 requirement 5).
func TestPartsOfUnaskedReplies(t *testing.T) {
	alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
		p.token(stranger)
		reply := wire.Packet{Kind: wire.Reply, TID: 77, ID: stranger, Token: make([]byte, 32)}
		values := [][]byte{serialised(1, 700)}
		reply.SetValues(values)
		p.ask(reply.Append(nil))
		for piece := range wire.EachPart(values) {
			p.ask(reply.AppendPart(nil, piece))
		}
		if s := n.Stats(); s.ReassemblySets != 0 || s.Parts["stray"] != 1 || s.Drops["unasked"] == 0 {
			t.Errorf("%d sets, parts %v, drops %v", s.ReassemblySets, s.Parts, s.Drops)
		}
	})
}

// TestAnswersAreBounded: neither all values nor all rows of a crowded place go into one answer (§19.3 requirement 30).
func TestAnswersAreBounded(t *testing.T) {
	alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
		for i := range 1100 {
			v := &dht.Value{ID: dht.ValueID(i + 1), Data: []byte("v")}
			n.Put(t.Context(), dht.HashText("k"), v, dhtnode.PutOptions{}) // alone: kept here only
		}
		p.ask(putByHand(p.token(stranger), 0, serialised(1, 5))) // shows the token
		get := wire.Packet{Kind: wire.Get, TID: 9, ID: stranger, InfoHash: dht.HashText("k"), HasQuery: true,
			Query: dht.Query{Select: []dht.Field{dht.FieldID}}}
		p.send(get.Append(nil))
		get.TID, get.HasQuery = 10, false
		p.send(get.Append(nil))
		values, rows := 0, 0
		p.observe(10*time.Millisecond, func(_ time.Duration, q *wire.Packet) {
			switch {
			case q.Kind == wire.Reply && q.TID == 10:
				values = len(q.Values)
			case q.Kind == wire.Reply && q.TID == 9:
				_, all, err := wire.ParseFields(q.Fields)
				if rows = len(all); err != nil {
					t.Error(err)
				}
			}
		})
		if values != 1000 || rows != wire.MaxRows {
			t.Errorf("%d values and %d rows of 1100", values, rows)
		}
	})
}

// TestAnswerBytesAreBounded: nor do large values, or rows with much in them: an answer has 1 MiB of values, and one with rows fits a datagram
// (§19.3 requirement 30).
func TestAnswerBytesAreBounded(t *testing.T) {
	alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
		key := identity(t, "signer").Key
		for i := range 400 { // alone: kept here only
			v := &dht.Value{ID: dht.ValueID(i + 1), UserType: strings.Repeat("u", 1000), Data: make([]byte, 10<<10)}
			n.Put(t.Context(), dht.HashText("k"), v, dhtnode.PutOptions{})
			signed, err := dhtcrypto.SignValue(key, &dht.Value{ID: v.ID})
			if err != nil {
				t.Fatal(err)
			}
			n.Put(t.Context(), dht.HashText("signed"), signed, dhtnode.PutOptions{})
		}
		p.ask(putByHand(p.token(stranger), 0, serialised(1, 5))) // shows the token
		p.all()
		ms := []udpio.Message{{Buf: make([]byte, 64<<10)}}
		for _, tt := range []struct {
			name   string
			place  string
			q      dht.Query
			within int // bytes of values or rows
			least  int // values or rows
		}{
			{"values", "k", dht.Query{}, 1 << 20, 90},
			{"rows", "k", dht.Query{Select: []dht.Field{dht.FieldUserType}}, 48 << 10, 45},
			{"rows with owner", "signed", dht.Query{Select: []dht.Field{dht.FieldOwner}}, 48 << 10, 200},
		} {
			get := wire.Packet{Kind: wire.Get, TID: 9, ID: stranger, InfoHash: dht.HashText(tt.place), HasQuery: true, Query: tt.q}
			p.send(get.Append(nil))
			synctest.Wait()
			var a wire.Packet
			if p.conn.TryReadBatch(ms) != 1 || a.Parse(ms[0].Payload()) != nil || a.Kind != wire.Reply {
				t.Fatalf("%s: no answer", tt.name)
			}
			count, bytes := 0, len(a.Fields)
			for _, v := range a.Values {
				count, bytes = count+1, bytes+v.Size
			}
			if len(a.Fields) > 0 {
				_, rows, err := wire.ParseFields(a.Fields)
				if count = len(rows); err != nil {
					t.Error(err)
				}
			}
			if bytes > tt.within || count < tt.least {
				t.Errorf("%d %s of %d bytes, want at least %d within %d", count, tt.name, bytes, tt.least, tt.within)
			}
			dhttest.Pass(time.Second)
			for len(p.all()) > 0 { // the parts
			}
		}
	})
}

// TestTokensEnd: a running node takes a token for a quarter of an hour at least, and gives up its secrets in time (§3.3, §3.4).
func TestTokensEnd(t *testing.T) {
	alone(t, dhtnode.Config{}, func(t *testing.T, n *dhttest.Node, p *prober) {
		token := p.token(stranger)
		for _, tt := range []struct {
			after time.Duration
			want  wire.Kind
		}{{15 * time.Minute, wire.Reply}, {90 * time.Minute, wire.Error}} {
			dhttest.Pass(tt.after)
			p.all()
			if got := kindsOf(p.ask(putByHand(token, 0, serialised(1, 5)))); !slices.Equal(got, []wire.Kind{tt.want}) {
				t.Errorf("another %v later: %v, want %v", tt.after, got, tt.want)
			}
		}
	})
}

// TestFewAcquaintancesStoreFarKeys: who knows fewer than eight others stores what all of them are closer to (§3.2).
func TestFewAcquaintancesStoreFarKeys(t *testing.T) {
	for known, want := range map[int]int{1: 1, 7: 1, 8: 0} {
		surrounded(t, known, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, _ []*peer) {
			p := &prober{t, c.Net.Listen(netip.MustParseAddrPort("10.99.0.1:5000")), n.Addr}
			p.ask(putByHand(p.token(stranger), 0, serialised(1, 5)))
			if got := n.Stats().Storage.Values; got != want {
				t.Errorf("%d values stored by one who knows %d others, want %d", got, known, want)
			}
		})
	}
}
