// Package dhtinterop tries our DHT node against the reference implementation: real dhtnode processes and its Python
// binding on loopback or in namespaces, both ways. It needs Debian's packages dhtnode and python3-opendht.
package dhtinterop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtcrypto"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/integration/dhtinterop/theirs"
	"github.com/jirani/jirani/internal/udpio"
)

const (
	// patience bounds one operation of ours. On a busy machine searches meet retransmissions.
	patience = 60 * time.Second
	// settling bounds what comes about by itself. A reference node that has nothing to do looks around every one to three minutes.
	settling = 4 * time.Minute
)

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// ours is a node of ours in this process.
type ours struct {
	*dhtnode.Node
	t        testing.TB
	addr     netip.AddrPort
	identity *dhtcrypto.Identity
	stop     func()
}

// newOurs starts a node on the given addresses, loopback if none. cfg.Identity is made if withIdentity is set.
func newOurs(t testing.TB, cfg dhtnode.Config, withIdentity bool, addrs ...netip.AddrPort) *ours {
	t.Helper()
	if len(addrs) == 0 {
		addrs = []netip.AddrPort{loopback}
	}
	return newOursAt(t, here, cfg, withIdentity, addrs...)
}

// newOursAt is newOurs at a place.
func newOursAt(t testing.TB, p place, cfg dhtnode.Config, withIdentity bool, addrs ...netip.AddrPort) *ours {
	t.Helper()
	o := &ours{t: t}
	if withIdentity {
		leaf, _, err := dhtcrypto.Generate("ours", 2048, time.Now())
		check(t, err)
		o.identity, cfg.Identity = &leaf, &leaf
	}
	deps := dhtnode.Deps{}
	if os.Getenv("DHTINTEROP_LOG") != "" {
		deps.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	var conns []*udpio.Conn
	err := p.do(func() error {
		for _, a := range addrs {
			c, err := udpio.Listen(t.Context(), a, udpio.Config{V6Only: true, ReadBuffer: 1 << 20})
			if err != nil {
				return err
			}
			conns, deps.Conns = append(conns, c), append(deps.Conns, c)
		}
		return nil
	})
	check(t, err)
	o.addr = conns[0].LocalAddr()
	o.Node, err = dhtnode.New(cfg, deps)
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := o.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	})
	o.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		for _, c := range conns {
			c.Close()
		}
	})
	t.Cleanup(o.stop)
	return o
}

func (o *ours) ctx() context.Context {
	ctx, cancel := context.WithTimeout(o.t.Context(), patience)
	o.t.Cleanup(cancel)
	return ctx
}

func (o *ours) good() int {
	s := o.Stats()
	return s.IPv4.Good + s.IPv6.Good
}

func (o *ours) put(key string, v *dht.Value) {
	o.t.Helper()
	if err := o.Put(o.ctx(), dht.HashText(key), v, dhtnode.PutOptions{}); err != nil {
		o.t.Fatalf("our put at %s: %v", key, err)
	}
}

func (o *ours) get(key string, where ...dht.FieldValue) (values []*dht.Value) {
	o.t.Helper()
	err := o.Get(o.ctx(), dht.HashText(key), dht.Query{Where: where}, func(v *dht.Value) bool {
		values = append(values, v)
		return true
	})
	if err != nil {
		o.t.Fatalf("our get at %s: %v", key, err)
	}
	return values
}

// listen returns a function that waits for the next event at key.
func (o *ours) listen(key string) (next func() dhtnode.Event) {
	o.t.Helper()
	events := make(chan dhtnode.Event, 64)
	l, err := o.Listen(dht.HashText(key), dht.Query{}, func(e dhtnode.Event) { events <- e })
	check(o.t, err)
	o.t.Cleanup(l.Cancel)
	return func() dhtnode.Event {
		o.t.Helper()
		select {
		case e := <-events:
			return e
		case <-time.After(patience):
			o.t.Fatalf("our listen at %s heard nothing", key)
			return dhtnode.Event{}
		}
	}
}

func text(s string) *dht.Value { return &dht.Value{Data: []byte(s), UserType: "text/plain"} }

func hexKey(key string) string { return dht.HashText(key).String() }

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls ok until it holds. It is for what both sides must come to, however slow the machine; what must never be is judged after.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(settling); time.Now().Before(end); <-tick.C {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %v: %s", settling, what)
}

// freshNetwork numbers the networks of this process apart, so that tests that run together do not meet.
var freshNetwork = func() func() uint32 {
	var mu sync.Mutex
	n := uint32(os.Getpid()) << 8
	return func() uint32 {
		mu.Lock()
		defer mu.Unlock()
		n++
		return n
	}
}()

// goodNodes is what all drivers of theirs can count.
type goodNodes interface{ Good() (int, error) }

// knows waits until a node of theirs counts at least n good ones.
func knows(t testing.TB, g goodNodes, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d good nodes at theirs", n), func() bool {
		got, err := g.Good()
		check(t, err)
		return got >= n
	})
}

// find returns the value of theirs with that data.
func find(values []theirs.Value, data string) (theirs.Value, bool) {
	for _, v := range values {
		if string(v.Data) == data {
			return v, true
		}
	}
	return theirs.Value{}, false
}
