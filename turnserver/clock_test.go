package turnserver

import (
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/jirani/jirani/turnserver/allocation"
	"github.com/jirani/jirani/turnserver/credential"
	"github.com/jirani/jirani/turnserver/policy"
)

// jumped is the time t read while the clock of day had been set forward by d: the monotonic reading stays, as it does in the kernel. It
// reaches into time.Time (seconds since 1885 in 33 bits above 30 of nanoseconds, when there is a monotonic reading) and checks what it did.
func jumped(t *testing.T, at time.Time, d time.Duration) time.Time {
	t.Helper()
	out := at
	*(*uint64)(unsafe.Pointer(&out)) += uint64(int64(d/time.Second) << 30)
	if out.Sub(at) != 0 || out.Round(0).Sub(at.Round(0)) != d {
		t.Fatalf("the clock is set by %v and time runs %v", out.Round(0).Sub(at.Round(0)), out.Sub(at))
	}
	return out
}

// TestClockJumps: setting the clock of day by ten years neither ends nor prolongs anything that was granted for a while.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	peer := netip.MustParseAddrPort("192.0.2.1:5")
	for _, by := range []time.Duration{-10 * 365 * 24 * time.Hour, 10 * 365 * 24 * time.Hour} {
		began := time.Now()
		soon, late := jumped(t, began.Add(time.Minute), by), jumped(t, began.Add(25*time.Hour), by)

		var perms allocation.Permissions
		perms.Grant(peer.Addr(), policy.Allowed, began)
		if _, ok := perms.Check(peer.Addr(), soon); !ok {
			t.Errorf("%v: a permission ends early", by)
		}
		if _, ok := perms.Check(peer.Addr(), late); ok {
			t.Errorf("%v: a permission does not end", by)
		}

		var channels allocation.Channels[path]
		if _, err := channels.Bind(0x4000, peer, began); err != nil {
			t.Fatal(err)
		}
		if channels.ByNumber(0x4000, soon) == nil {
			t.Errorf("%v: a channel ends early", by)
		}
		if channels.ByNumber(0x4000, late) != nil {
			t.Errorf("%v: a channel does not end", by)
		}

		nonces := credential.NewNonces(time.Hour, began)
		nonce := nonces.Append(nil, began)
		if !nonces.Valid(nonce, soon) {
			t.Errorf("%v: a nonce is stale early", by)
		}
		if nonces.Valid(nonce, late) {
			t.Errorf("%v: a nonce does not get stale", by)
		}

		bucket := allocation.NewBucket(1<<20, began)
		bucket.Delay(3<<20, began)
		if bucket.Take(1, jumped(t, began.Add(time.Second), by)) || !bucket.Take(1, jumped(t, began.Add(3*time.Second), by)) {
			t.Errorf("%v: a rate changes", by)
		}

		guard := newGuard(1)
		guard.allow(peer.Addr(), began)
		if guard.allow(peer.Addr(), jumped(t, began, by)) || !guard.allow(peer.Addr(), jumped(t, began.Add(2*time.Second), by)) {
			t.Errorf("%v: the guard changes its rate", by)
		}
	}
}

// TestClockJumpsOverAllocations is TestClockJumps for what the sweep ends.
func TestClockJumpsOverAllocations(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	newClient(t, s, "udp").allocate()
	for _, by := range []time.Duration{-10 * 365 * 24 * time.Hour, 10 * 365 * 24 * time.Hour} {
		if s.sweepOnce(jumped(t, time.Now(), by)); s.count() != 1 {
			t.Fatalf("%v: an allocation ends early", by)
		}
	}
	if s.sweepOnce(jumped(t, time.Now().Add(25*time.Hour), -10*365*24*time.Hour)); s.count() != 0 {
		t.Error("an allocation does not end")
	}
}
