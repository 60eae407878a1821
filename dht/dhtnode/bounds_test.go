package dhtnode

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// Tokens live at least 15 minutes and at most 90, belong to one address and port, and fit what upstream accepts
// (docs/protocols/opendht.md §3.3, §3.4).
func TestTokens(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	a := netip.MustParseAddrPort("192.0.2.1:4222")
	for range 100 {
		tok := newTokens(start)
		now := start
		step := func(until time.Time) {
			for ; now.Before(until); now = now.Add(time.Minute) {
				tok.rotate(now)
			}
		}
		step(start.Add(37 * time.Minute)) // anywhere between rotations
		got := append([]byte(nil), tok.issue(a)...)
		if len(got) == 0 || len(got) > 64 {
			t.Fatalf("token of %d bytes", len(got))
		}
		issued := now
		step(issued.Add(15 * time.Minute))
		if !tok.valid(got, a) {
			t.Fatal("not valid 15 minutes after issue")
		}
		for _, other := range []string{"192.0.2.1:4223", "192.0.2.2:4222", "[::ffff:192.0.2.1]:4222", "[2001:db8::1]:4222"} {
			if tok.valid(got, netip.MustParseAddrPort(other)) {
				t.Fatalf("valid for %s", other)
			}
		}
		if tok.valid(nil, a) || tok.valid(got[:31], a) {
			t.Fatal("an empty or cut token is valid")
		}
		step(issued.Add(91 * time.Minute))
		if tok.valid(got, a) {
			t.Fatal("valid after 91 minutes")
		}
	}
}

// §13.3.
func TestMartians(t *testing.T) {
	for addr, want := range map[string]bool{
		"192.0.2.1:0": true, "0.0.0.0:1": true, "0.1.2.3:1": true, "224.0.0.1:1": true, "255.255.255.255:1": true, "240.0.0.1:1": true,
		"127.0.0.1:1": false, "10.0.0.1:1": false, "192.0.2.1:1": false, "223.255.255.255:65535": false,
		"[::]:1": true, "[ff02::1]:1": true, "[::ffff:192.0.2.1]:1": true, "[2001:db8::1]:0": true,
		"[::1]:1": false, "[fe80::1]:1": false, "[2001:db8::1]:1": false, "[fd00::1]:1": false,
	} {
		if got := martian(netip.MustParseAddrPort(addr)); got != want {
			t.Errorf("martian(%s) = %v", addr, got)
		}
	}
	if !martian(netip.AddrPort{}) {
		t.Error("no address is no martian")
	}
}

// §13.2: upstream's blacklist has neither end.
func TestBlacklistIsBounded(t *testing.T) {
	b := newBlacklist()
	now := time.Now()
	at := func(i int) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(i+1)) }
	for i := range maxBlacklist + 10 {
		b.add(at(i), now)
		b.add(at(i), now)
	}
	if len(b.byAddr) != maxBlacklist || b.order.Len() != maxBlacklist || b.has(at(9), now) || !b.has(at(10), now) {
		t.Errorf("%d entries, %d in order", len(b.byAddr), b.order.Len())
	}
	if !b.has(at(20), now.Add(blacklistFor-1)) || b.has(at(20), now.Add(blacklistFor)) {
		t.Error("an entry lasts an hour")
	}
}

// §14.4: one vote for each /24 or /48.
func TestVotes(t *testing.T) {
	var v votes
	liar, truth := netip.MustParseAddr("203.0.113.66"), netip.MustParseAddr("203.0.113.1")
	for i := range 200 { // one network with many nodes
		v.add(liar, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	v.add(truth, netip.MustParseAddr("198.51.100.1"))
	if !v.add(truth, netip.MustParseAddr("198.51.101.1")) || v.first() != truth {
		t.Errorf("first is %v", v.first())
	}
	for i := range 1000 { // claims without end
		v.add(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), netip.AddrFrom4([4]byte{172, 16, byte(i), 1}))
	}
	if len(v.reported) > maxReported || v.first() != truth {
		t.Errorf("%d claims, first %v", len(v.reported), v.first())
	}
}

// §13.1: per source, then in all; a packet refused by the second has used the first.
func TestRateLimiterOrder(t *testing.T) {
	l := newRateLimiter(3, 4)
	now := time.Now()
	from := func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8:0:%d::1", i)) }
	allowed := 0
	for range 5 {
		if l.allow(from(1), now) {
			allowed++
		}
	}
	same64 := netip.MustParseAddr("2001:db8:0:1::2")
	if allowed != 3 || l.allow(same64, now) {
		t.Errorf("%d of 5 allowed from one /64, or more from its neighbour", allowed)
	}
	if !l.allow(from(2), now) || l.allow(from(2), now) {
		t.Error("the limit in all is 4")
	}
	if l.sources[quotaSource(from(2))].cur != 2 {
		t.Error("what the second refused did not count at the first")
	}
	if !l.allow(from(1), now.Add(2*time.Second)) {
		t.Error("the window does not slide")
	}
	unlimited := newRateLimiter(Config{RateLimit: -1, RateLimitPerSource: -1}.rates())
	for range 100000 {
		if !unlimited.allow(from(1), now) {
			t.Fatal("limited at -1")
		}
	}
	if per, all := (Config{}).rates(); per != 1024 || all != 8192 {
		t.Errorf("by default %d per source, %d in all", per, all)
	}
	if per, all := (Config{RateLimit: 800}).rates(); per != 100 || all != 800 {
		t.Errorf("a limit of 800 gives %d per source", per)
	}
}

// §1.4: where an entry point names no port, it is 4222.
func TestEntryPointForms(t *testing.T) {
	for form, want := range map[string]struct {
		host string
		port uint16
	}{
		"entry.example": {"entry.example", 4222}, "entry.example:5000": {"entry.example", 5000}, " entry.example ": {"entry.example", 4222},
		"192.0.2.1": {"192.0.2.1", 4222}, "192.0.2.1:1": {"192.0.2.1", 1}, "entry.example:": {"entry.example", 4222},
		"2001:db8::1": {"2001:db8::1", 4222}, "[2001:db8::1]": {"2001:db8::1", 4222}, "[2001:db8::1]:65535": {"2001:db8::1", 65535},
		"entry.example:0": {"entry.example", 4222}, "entry.example:65536": {"entry.example", 4222},
	} {
		if host, port := splitHost(form); host != want.host || port != want.port {
			t.Errorf("%q is host %q, port %d", form, host, port)
		}
	}
}

// §14.2, and design 0007 for the longest.
func TestBootstrapPauses(t *testing.T) {
	for i, want := range []time.Duration{10, 20, 40, 80, 160, 320, 640, 900, 900} {
		b := bootstrapState{tries: i + 1}
		if got := b.pause(); got != want*time.Second {
			t.Errorf("%v after round %d, want %v", got, i+1, want*time.Second)
		}
	}
}

// §9.4: how long until the next step of maintenance; ours asks sooner while its table grows.
func TestMaintenancePauses(t *testing.T) {
	n, _, _ := answering(t)
	f := n.fam[inet4]
	for _, tt := range []struct {
		busy     bool
		grown    time.Duration // ago
		from, to time.Duration
	}{
		{false, 0, time.Minute, 3 * time.Minute}, {true, 16 * time.Second, 5 * time.Second, 25 * time.Second},
		{true, 14 * time.Second, time.Second, 4 * time.Second},
	} {
		least, most := time.Hour, time.Duration(0)
		for range 1000 {
			d := f.pause(tt.busy, f.table.Grown().Add(tt.grown))
			least, most = min(least, d), max(most, d)
		}
		if slack := (tt.to - tt.from) / 20; least < tt.from || least > tt.from+slack || most > tt.to || most < tt.to-slack {
			t.Errorf("busy %v, grown %v ago: %v to %v, want %v to %v", tt.busy, tt.grown, least, most, tt.from, tt.to)
		}
	}
}
