package allocation

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/jirani/jirani/turnserver/policy"
)

var (
	t0   = time.Unix(1_700_000_000, 0)
	ann  = netip.MustParseAddrPort("203.0.113.1:1000")
	bert = netip.MustParseAddrPort("203.0.113.2:2000")
)

func TestPermissions(t *testing.T) {
	t.Parallel()
	var p Permissions
	if _, ok := p.Check(ann.Addr(), t0); ok {
		t.Error("an empty table permits")
	}
	p.Grant(ann.Addr(), policy.Private, t0)
	for _, tt := range []struct {
		at   time.Duration
		want bool
	}{{0, true}, {PermissionTTL, true}, {PermissionTTL + 1, false}} {
		if verdict, ok := p.Check(ann.Addr(), t0.Add(tt.at)); ok != tt.want || verdict != policy.Private {
			t.Errorf("after %v: Check = %v, %v; want %v", tt.at, verdict, ok, tt.want)
		}
	}
	p.Grant(ann.Addr(), policy.Allowed, t0.Add(200*time.Second))
	if verdict, ok := p.Check(ann.Addr(), t0.Add(400*time.Second)); !ok || verdict != policy.Allowed {
		t.Error("a refreshed permission has gone or kept its old verdict")
	}
}

func TestPermissionsAreBounded(t *testing.T) {
	t.Parallel()
	var p Permissions
	addr := netip.MustParseAddr("203.0.113.1")
	for range MaxPermissions {
		if !p.Grant(addr, policy.Allowed, t0) {
			t.Fatal("the table is full too early")
		}
		addr = addr.Next()
	}
	if p.Grant(addr, policy.Allowed, t0) {
		t.Error("the table grows beyond its bound")
	}
	if !p.Grant(addr, policy.Allowed, t0.Add(PermissionTTL+1)) {
		t.Error("expired permissions keep their place")
	}
	if got := p.Live(t0.Add(PermissionTTL + 1)); got != 1 {
		t.Errorf("Live = %d, want 1", got)
	}
}

func TestChannels(t *testing.T) {
	t.Parallel()
	var c Channels[struct{}]
	bind := func(number uint16, peer netip.AddrPort, at time.Duration, want error) {
		t.Helper()
		if _, err := c.Bind(number, peer, t0.Add(at)); !errors.Is(err, want) {
			t.Errorf("Bind(%#x, %v) at %v = %v, want %v", number, peer, at, err, want)
		}
	}
	bind(0x4000, ann, 0, nil)
	bind(0x4000, bert, 0, ErrChannelTaken)
	bind(0x4001, ann, 0, ErrChannelTaken)
	bind(0x4001, bert, 0, nil)
	bind(0x4000, ann, 5*time.Minute, nil)
	if ch := c.ByNumber(0x4000, t0.Add(14*time.Minute)); ch == nil || ch.Peer != ann {
		t.Error("a refreshed binding has gone")
	}
	if c.ByNumber(0x4001, t0.Add(11*time.Minute)) != nil || c.ByPeer(bert, t0.Add(11*time.Minute)) != nil {
		t.Error("an expired binding is used")
	}
	bind(0x4001, ann, 11*time.Minute, ErrChannelTaken)
	bind(0x4002, bert, 11*time.Minute, nil)
	if c.ByPeer(bert, t0.Add(12*time.Minute)).Number != 0x4002 {
		t.Error("ByPeer finds the old number")
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	for _, min := range []uint16{49152, 50001, 65535} {
		max := min + 99
		if min == 65535 {
			max = min
		}
		p := NewPorts(min, max)
		seen := make(map[uint16]bool)
		for range int(max-min) + 1 {
			port, err := p.Take()
			if err != nil || port < min || port > max || seen[port] {
				t.Fatalf("Take = %d, %v", port, err)
			}
			seen[port] = true
		}
		if _, err := p.Take(); !errors.Is(err, ErrNoPort) {
			t.Errorf("Take of an empty pool: %v", err)
		}
		if !p.Taken(max) || p.Taken(min-1) {
			t.Error("Taken is wrong")
		}
		p.Give(max)
		if port, err := p.Take(); err != nil || port != max {
			t.Errorf("Take after Give(%d) = %d, %v", max, port, err)
		}
	}
}

func TestPortsEvenAndPairs(t *testing.T) {
	t.Parallel()
	p := NewPorts(50001, 50010)
	for range 4 {
		if port, err := p.TakePair(); err != nil || port%2 != 0 || !p.Taken(port+1) {
			t.Fatalf("TakePair = %d, %v", port, err)
		}
	}
	if _, err := p.TakePair(); !errors.Is(err, ErrNoPort) {
		t.Errorf("a fifth pair in ten ports that begin odd: %v", err)
	}
	if port, err := p.TakeEven(); err != nil || port != 50010 {
		t.Errorf("TakeEven = %d, %v; want 50010", port, err)
	}
	if port, err := p.Take(); err != nil || port != 50001 || p.Free() != 0 {
		t.Errorf("Take = %d, %v; want 50001", port, err)
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	q := NewQuota[string](2)
	for i, want := range []bool{true, true, false} {
		if got := q.Take("a"); got != want {
			t.Errorf("Take %d of a limit of two = %v", i+1, got)
		}
	}
	if !q.Take("b") {
		t.Error("the limit is not per key")
	}
	q.Give("a")
	if !q.Take("a") {
		t.Error("what was given back is not to be had")
	}
	q.Give("a")
	q.Give("a")
	q.Give("b")
	if len(q.count) != 0 {
		t.Errorf("%d keys remain", len(q.count))
	}
}

func TestBucket(t *testing.T) {
	t.Parallel()
	b := NewBucket(100_000, t0)
	passed := 0
	for ms := range 10_000 {
		if b.Take(1000, t0.Add(time.Duration(ms)*time.Millisecond)) {
			passed += 1000
		}
	}
	if want := 100_000 * 11; passed < want-2000 || passed > want+2000 {
		t.Errorf("%d bytes passed in 10 s at 100 kB/s with a burst of 1 s, want about %d", passed, want)
	}
	stream := NewBucket(100_000, t0)
	if d := stream.Delay(100_000, t0); d != 0 {
		t.Errorf("the burst waits %v", d)
	}
	if d := stream.Delay(50_000, t0); d != 500*time.Millisecond {
		t.Errorf("Delay = %v, want 500ms", d)
	}
	if d := stream.Delay(0, t0.Add(-time.Hour)); d != 500*time.Millisecond {
		t.Errorf("a clock that goes back changes the delay to %v", d)
	}
	var none *Bucket
	if !none.Take(1<<30, t0) || none.Delay(1<<30, t0) != 0 {
		t.Error("a nil bucket limits")
	}
}
