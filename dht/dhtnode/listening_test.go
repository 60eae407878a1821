package dhtnode_test

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/dhttest"
	"github.com/jirani/jirani/dht/wire"
)

// What a listen makes of the news that the nodes listened on send, as docs/protocols/opendht.md §11.1 asks.

// source is a peer that is listened on.
type source struct {
	*prober
	id     dht.InfoHash
	socket uint32
	tid    uint32
}

// tell sends an update.
func (s *source) tell(q wire.Packet, values ...*dht.Value) {
	s.tid++
	q.Kind, q.TID, q.ID, q.SocketID, q.Version = wire.Update, s.tid, s.id, s.socket, 1
	var raw [][]byte
	for _, v := range values {
		raw = append(raw, v.Append(nil))
	}
	q.SetValues(raw)
	s.send(q.Append(nil))
}

// listened runs f with two peers that a node listens on at "k" for values of user data. news returns the ids of what it told since the last
// call, negative where they ended.
func listened(t *testing.T, f func(t *testing.T, from []*source, news func() []int)) {
	t.Helper()
	peered(t, dhtnode.Config{PublicStable: true}, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, p *peer) {
		other := newPeer(c, dht.HashText("other"), netip.MustParseAddrPort("10.99.1.1:5000"))
		defer other.conn.Close()
		if _, err := n.Ping(t.Context(), other.conn.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var told []int
		l, err := n.Listen(dht.HashText("k"), dht.Query{Where: []dht.FieldValue{dht.WhereType(0)}}, func(e dhtnode.Event) {
			mu.Lock()
			defer mu.Unlock()
			id := int(e.Value.ID)
			if e.Expired {
				id = -id
			}
			told = append(told, id)
		})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Cancel()
		dhttest.Pass(5 * time.Second)
		var from []*source
		for _, p := range []*peer{p, other} {
			listens := p.take(wire.Listen)
			if len(listens) != 1 {
				t.Fatalf("%d listens", len(listens))
			}
			from = append(from, &source{&prober{t, p.conn, n.Addr}, p.id, listens[0].sid, 0})
		}
		f(t, from, func() []int {
			mu.Lock()
			defer mu.Unlock()
			defer func() { told = nil }()
			return told
		})
	})
}

// TestNewsOfAListen: a value lives from the first node that has it until the last that had it says otherwise, or says nothing for a
// lifetime; what nobody asked for is passed over.
func TestNewsOfAListen(t *testing.T) {
	const soon = time.Second
	type step struct {
		by      int
		v       *dht.Value // pushed, or
		re, exp dht.ValueID
		wait    time.Duration // then
		want    []int
	}
	one := &dht.Value{ID: 1, Data: []byte("one")}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"ended", []step{{v: one, wait: soon, want: []int{1}}, {exp: 1, wait: soon, want: []int{-1}}}},
		{"ended at one of two", []step{{v: one, wait: soon, want: []int{1}}, {by: 1, v: one, wait: soon}, {exp: 1, wait: soon},
			{by: 1, exp: 1, wait: soon, want: []int{-1}}}},
		{"ended where it never was", []step{{v: one, wait: soon, want: []int{1}}, {by: 1, exp: 1, wait: soon}}},
		{"not heard of again", []step{{v: one, wait: 599 * time.Second, want: []int{1}}, {wait: 2 * soon, want: []int{-1}}}},
		{"refreshed", []step{{v: one, wait: 9 * time.Minute, want: []int{1}}, {re: 1, wait: 599 * time.Second}, {wait: 2 * soon, want: []int{-1}}}},
		{"refreshed where it never was", []step{{v: one, wait: soon, want: []int{1}}, {by: 1, re: 1, wait: soon},
			{exp: 1, wait: soon, want: []int{-1}}}},
		{"of another type", []step{{v: &dht.Value{ID: 1, Type: 5}, wait: soon}, {by: 1, v: one, wait: soon, want: []int{1}}}},
		{"without an id", []step{{v: &dht.Value{Data: []byte("v")}, wait: soon}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			listened(t, func(t *testing.T, from []*source, news func() []int) {
				for i, s := range tt.steps {
					switch {
					case s.v != nil:
						from[s.by].tell(wire.Packet{InfoHash: dht.HashText("k")}, s.v)
					case s.re != 0:
						from[s.by].tell(wire.Packet{Refreshed: []dht.ValueID{s.re}})
					case s.exp != 0:
						from[s.by].tell(wire.Packet{Expired: []dht.ValueID{s.exp}})
					}
					dhttest.Pass(s.wait)
					if got := news(); !slices.Equal(got, s.want) {
						t.Errorf("step %d: told %v, want %v", i, got, s.want)
					}
				}
			})
		})
	}
}

// TestListenRemembersSoMuch: of more than 4096 values of one node the oldest go (§11.1).
func TestListenRemembersSoMuch(t *testing.T) {
	listened(t, func(t *testing.T, from []*source, news func() []int) {
		push := func(first, last int) {
			for id := first; id <= last; {
				var few []*dht.Value
				for ; id <= last && len(few) < 10; id++ {
					few = append(few, &dht.Value{ID: dht.ValueID(id), Data: fmt.Append(nil, id)})
				}
				from[0].tell(wire.Packet{InfoHash: dht.HashText("k")}, few...)
			}
			dhttest.Pass(time.Second)
		}
		from[1].tell(wire.Packet{InfoHash: dht.HashText("k")}, &dht.Value{ID: 9999})
		push(1, 2)
		push(3, 4096)
		if got := news(); len(got) != 4097 || slices.Min(got) < 0 {
			t.Fatalf("told %d times, of %d", len(got), slices.Min(got))
		}
		from[0].tell(wire.Packet{Expired: []dht.ValueID{100, 9999}}) // the second is not its
		dhttest.Pass(time.Second)
		push(4097, 4099)
		got := news()
		slices.Sort(got)
		if !slices.Equal(got, []int{-100, -2, -1, 4097, 4098, 4099}) {
			t.Errorf("told of %v", got)
		}
	})
}

// TestListenersOfDifferentFilters: what our own storage has counts for a listener only if it asked for that, and one that asks for more than
// the others has a listen of its own (§10.4).
func TestListenersOfDifferentFilters(t *testing.T) {
	peered(t, dhtnode.Config{PublicStable: true}, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, p *peer) {
		var mu sync.Mutex
		told := map[string][]int{}
		listen := func(name string, q dht.Query) *dhtnode.Listener {
			l, err := n.Listen(dht.HashText("k"), q, func(e dhtnode.Event) {
				mu.Lock()
				defer mu.Unlock()
				told[name] = append(told[name], int(e.Value.ID), int(e.Value.Type))
			})
			if err != nil {
				t.Fatal(err)
			}
			dhttest.Pass(5 * time.Second)
			return l
		}
		put(t, n, dht.HashText("k"), &dht.Value{ID: 1, Type: 5}, dhtnode.PutOptions{})
		defer listen("some", dht.Query{Where: []dht.FieldValue{dht.WhereType(0)}}).Cancel()
		put(t, n, dht.HashText("k"), &dht.Value{ID: 2, Type: 5}, dhtnode.PutOptions{})
		s := &source{&prober{t, p.conn, n.Addr}, p.id, p.take(wire.Listen)[0].sid, 0}
		s.tell(wire.Packet{InfoHash: dht.HashText("k")}, &dht.Value{ID: 1}, &dht.Value{ID: 2})
		dhttest.Pass(time.Second)
		put(t, n, dht.HashText("k"), &dht.Value{ID: 3, Type: 5}, dhtnode.PutOptions{})
		defer listen("all", dht.Query{}).Cancel()
		if got := p.take(wire.Listen); len(got) != 1 || got[0].sid == s.socket {
			t.Errorf("%d listens for one that asks for more", len(got))
		}
		put(t, n, dht.HashText("k"), &dht.Value{ID: 4, Type: 5}, dhtnode.PutOptions{})
		mu.Lock()
		defer mu.Unlock()
		if got := told["some"]; !slices.Equal(got, []int{1, 0, 2, 0}) {
			t.Errorf("who asked for some was told %v", got)
		}
		if got := told["all"]; len(got) != 8 || got[6] != 4 {
			t.Errorf("who asked for all was told %v", got)
		}
	})
}
