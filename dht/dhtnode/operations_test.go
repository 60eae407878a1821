package dhtnode_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtcrypto"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/dhttest"
	"github.com/jirani/jirani/dht/state"
)

// identity makes one; the keys are small because nothing depends on them.
func identity(t *testing.T, name string) *dhtcrypto.Identity {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	k, err := dhtcrypto.NewPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	id, err := dhtcrypto.Issue(k, dhtcrypto.Template{Name: name, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return &id
}

func TestPermanentPutOutlivesItsStorers(t *testing.T) {
	network(t, 40, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		key := dht.HashText("permanent")
		owner := c.Nodes[5]
		put(t, owner, key, text("v"), dhtnode.PutOptions{Permanent: true})
		put(t, owner, dht.HashText("short"), text("v"), dhtnode.PutOptions{})
		reader := c.Nodes[39]
		for range 3 {
			dhttest.Pass(25 * time.Minute)
			if got := get(t, reader, key); len(got) != 1 {
				t.Error("a permanent value is gone")
			}
			near := slices.SortedFunc(slices.Values(c.Nodes), func(a, b *dhttest.Node) int { return key.CloserTo(a.ID(), b.ID()) })
			for _, n := range near[:6] {
				if n != owner && n != reader && n != c.Nodes[0] {
					n.Stop()
					c.Nodes = slices.DeleteFunc(c.Nodes, func(o *dhttest.Node) bool { return o == n })
				}
			}
		}
		dhttest.Pass(15 * time.Minute)
		if got := get(t, reader, key); len(got) != 1 {
			t.Error("the permanent value did not survive its storing nodes")
		}
		if got := get(t, reader, dht.HashText("short")); len(got) != 0 {
			t.Error("a value of 10 minutes lives on")
		}
		owner.CancelPut(key, owner.Puts(key)[0].ID)
		dhttest.Pass(25 * time.Minute)
		if got := get(t, reader, key); len(got) != 0 {
			t.Error("a cancelled value lives on")
		}
	})
}

func TestListenHearsNewChangedAndExpired(t *testing.T) {
	network(t, 20, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		signer := c.Start(dhtnode.Config{Identity: identity(t, "signer"), Bootstrap: []string{c.Nodes[0].Addr.String()}})
		c.Settle(time.Minute)
		key := dht.HashText("k")
		events := make(chan dhtnode.Event, 100)
		l, err := c.Nodes[3].Listen(key, dht.Query{}, func(e dhtnode.Event) { events <- e })
		if err != nil {
			t.Fatal(err)
		}
		dhttest.Pass(5 * time.Second)
		expect := func(data string, expired bool) {
			t.Helper()
			select {
			case e := <-events:
				if string(e.Value.Data) != data || e.Expired != expired {
					t.Errorf("heard %q, expired %v; want %q, %v", e.Value.Data, e.Expired, data, expired)
				}
			case <-time.After(17 * time.Minute):
				t.Fatalf("heard nothing, want %q, expired %v", data, expired)
			}
		}
		first, err := signer.PutSigned(t.Context(), key, &dht.Value{ID: 7, Data: []byte("one")}, dhtnode.PutOptions{})
		if err != nil || first.Seq != 0 {
			t.Fatalf("PutSigned = seq %d, %v", first.Seq, err)
		}
		expect("one", false)
		second, err := signer.PutSigned(t.Context(), key, &dht.Value{ID: 7, Data: []byte("two")}, dhtnode.PutOptions{})
		if err != nil || second.Seq != 1 {
			t.Fatalf("second PutSigned = seq %d, %v", second.Seq, err)
		}
		expect("two", false)
		expect("two", true)
		l.Cancel()
		put(t, c.Nodes[9], key, text("unheard"), dhtnode.PutOptions{})
		dhttest.Pass(2 * time.Minute)
		if len(events) > 0 {
			t.Error("heard something after Cancel")
		}
		if s := c.Nodes[3].Stats(); s.LocalListens != 0 {
			t.Errorf("%d listens left", s.LocalListens)
		}
	})
}

func TestEncryptedToACertificateFoundByID(t *testing.T) {
	network(t, 12, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		entry := []string{c.Nodes[0].Addr.String()}
		aliceID, bobID := identity(t, "alice"), identity(t, "bob")
		alice := c.Start(dhtnode.Config{Identity: aliceID, Bootstrap: entry})
		bob := c.Start(dhtnode.Config{Identity: bobID, Bootstrap: entry})
		c.Settle(time.Minute)
		dhttest.Pass(time.Minute)
		pub := bobID.Key.Public()
		for i, ids := range []struct {
			long  dht.PkID
			short dht.InfoHash
		}{{long: pub.LongID()}, {short: pub.ID()}} {
			key := dht.HashText(fmt.Sprint("secret ", i))
			_, err := alice.PutEncrypted(t.Context(), key, ids.long, ids.short, text("for bob"), dhtnode.PutOptions{})
			if err != nil {
				t.Fatalf("PutEncrypted: %v", err)
			}
			err = bob.Get(t.Context(), key, dht.Query{}, func(v *dht.Value) bool {
				open, err := bob.Open(v)
				if err != nil || string(open.Data) != "for bob" || !open.Owner.Equal(aliceID.Key.Public()) {
					t.Errorf("Open: %v", err)
				}
				if _, err := alice.Open(v); err == nil {
					t.Error("the sender can open it")
				}
				return true
			})
			if err != nil {
				t.Error(err)
			}
		}
		if _, err := alice.FindCertificate(t.Context(), dht.PkID{1}, dht.InfoHash{}); err == nil {
			t.Error("found a certificate nobody has")
		}
	})
}

func TestManyAndLargeValues(t *testing.T) {
	network(t, 15, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		key := dht.HashText("many")
		for i := range 60 {
			put(t, c.Nodes[i%15], key, text(fmt.Sprintf("v%02d", i)), dhtnode.PutOptions{})
		}
		if got := get(t, c.Nodes[7], key); len(slices.Compact(got)) != 60 {
			t.Errorf("found %d of 60 values", len(got))
		}
		big := &dht.Value{Data: bytes.Repeat([]byte("0123456789abcdef"), 2560)}
		put(t, c.Nodes[1], dht.HashText("big"), big, dhtnode.PutOptions{})
		if got := get(t, c.Nodes[11], dht.HashText("big")); len(got) != 1 || len(got[0]) != 40<<10 {
			t.Errorf("40 KiB value: found %d", len(got))
		}
		rows, err := c.Nodes[2].Query(t.Context(), key, dht.Query{Select: []dht.Field{dht.FieldID}})
		if err != nil || len(rows) != 60 {
			t.Errorf("Query = %d rows, %v", len(rows), err)
		}
	})
}

// TestRejoinsAfterAnOutage: the only entry point goes away for an hour and comes back; nobody is told.
func TestRejoinsAfterAnOutage(t *testing.T) {
	network(t, 2, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		entry, n := c.Nodes[0], c.Nodes[1]
		cut := dhttest.Link{Cut: func(_, _ netip.Addr) bool { return true }}
		c.Net.Set(cut)
		before := c.Net.Sent()
		dhttest.Pass(time.Hour)
		if v4, _ := n.Status(); v4 == dhtnode.Connected {
			t.Errorf("status %v after an hour alone", v4)
		}
		if sent := c.Net.Sent() - before; sent > 600 {
			t.Errorf("two isolated nodes sent %d datagrams in an hour", sent)
		}
		c.Net.Set(dhttest.Link{Latency: latency})
		_ = entry
		for range 60 {
			if v4, _ := n.Status(); v4 == dhtnode.Connected {
				return
			}
			dhttest.Pass(time.Minute)
		}
		t.Error("not connected an hour after the network came back")
	})
}

func TestStateOverARestart(t *testing.T) {
	network(t, 10, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		old := c.Nodes[9]
		key := near(old.ID(), 0) // nobody is closer
		put(t, old, key, text("v"), dhtnode.PutOptions{})
		file := old.Export().Append(nil)
		old.Stop()
		c.Nodes = c.Nodes[:9]
		types := dhtcrypto.Types(nil)
		s, err := state.Parse(file, time.Now(), types.Lifetime)
		if err != nil || len(s.Nodes) == 0 || s.ID != old.ID() {
			t.Fatalf("state: %v, %d nodes", err, len(s.Nodes))
		}
		n := c.StartAt(dhttest.Addr(9), dhtnode.Config{ID: s.ID})
		if got := n.Import(s); got != len(s.Values) || got == 0 {
			t.Errorf("%d of %d values taken back", got, len(s.Values))
		}
		c.Settle(30 * time.Second)
		if got := get(t, n, key); len(got) != 1 {
			t.Errorf("found %q", got)
		}
	})
}

// TestBothFamilies: two nodes with both families join an IPv4-only and an IPv6-only one; what goes in at one end comes
// out at the other.
func TestBothFamilies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := dhttest.NewCluster(t, dhttest.Link{Latency: latency})
		defer c.Stop()
		v6 := func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::1", i)), 4222)
		}
		entry := []string{dhttest.Addr(1).String(), v6(1).String()}
		c.StartOn(dhtnode.Config{}, dhttest.Addr(1), v6(1))
		c.StartOn(dhtnode.Config{Bootstrap: entry}, dhttest.Addr(2), v6(2))
		only4 := c.StartOn(dhtnode.Config{Bootstrap: entry}, dhttest.Addr(3))
		only6 := c.StartOn(dhtnode.Config{Bootstrap: entry}, v6(4))
		dhttest.Pass(time.Minute)
		if v4, v6 := c.Nodes[1].Status(); v4 != dhtnode.Connected || v6 != dhtnode.Connected {
			t.Errorf("status %v, %v", v4, v6)
		}
		put(t, only4, dht.HashText("four"), text("4"), dhtnode.PutOptions{})
		if got := get(t, only6, dht.HashText("four")); len(got) != 1 {
			t.Errorf("over IPv6: %q", got)
		}
		put(t, only6, dht.HashText("six"), text("6"), dhtnode.PutOptions{})
		if got := get(t, only4, dht.HashText("six")); len(got) != 1 {
			t.Errorf("over IPv4: %q", got)
		}
	})
}
