package turnserver

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/hostaddr"
)

// TestAddressesComeAndGo: a wildcard follows the host's addresses, and so do the relay address, the policy, and what is relayed.
func TestAddressesComeAndGo(t *testing.T) {
	t.Parallel()
	var list []hostaddr.Address
	have := func(addrs ...string) {
		list = nil
		for _, a := range addrs {
			list = append(list, hostaddr.Address{Addr: netip.MustParseAddr(a)})
		}
	}
	have("127.0.0.11", "198.51.100.7") // the second is an address that cannot be bound: one that is still tentative
	cfg := testConfig()
	cfg.Listeners[0].Address = netip.MustParseAddrPort("0.0.0.0:0")
	cfg.Policy.Loopback, cfg.JamiUser = "on", "on"
	deps := Deps{Addresses: func() ([]hostaddr.Address, error) { return list, nil }}
	s, err := New(t.Context(), cfg, deps)
	for range 10 {
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
		s, err = New(t.Context(), cfg, deps)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.life = t.Context()
	t.Cleanup(func() { s.stop(); s.closeAll() })
	served := func() (out []string) {
		for _, l := range s.here.Load().listeners {
			out = append(out, l.transport.String()+" "+l.addr.Addr().String())
		}
		return out
	}
	look := func(now time.Time, want ...string) {
		t.Helper()
		if _, err := s.look(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		if got := served(); !slices.Equal(got, want) {
			t.Fatalf("listeners %v, want %v", got, want)
		}
	}
	now := time.Now()
	look(now, "udp 127.0.0.11", "tcp 127.0.0.11")
	first := s.here.Load()

	have("127.0.0.11", "127.0.0.12")
	look(now, "udp 127.0.0.11", "tcp 127.0.0.11", "udp 127.0.0.12", "tcp 127.0.0.12")
	if s.here.Load().listeners[0] != first.listeners[0] || s.here.Load().hosts[netip.MustParseAddr("127.0.0.11")] != first.hosts[netip.MustParseAddr("127.0.0.11")] {
		t.Error("what was there already was opened again")
	}
	second := s.here.Load().listeners[2]
	tuple := fiveTuple{transportUDP, netip.MustParseAddrPort("192.0.2.1:5"), second.addr}
	if h := s.hostFor(tuple, familyIPv4); h == nil || h.local != second.addr.Addr() {
		t.Errorf("clients of the new address relay from %v", h)
	}
	if _, own := s.here.Load().own[second.addr.Addr()]; !own {
		t.Error("the new address is not known as own")
	}

	a := &alloc{srv: s, link: udpLink{second.workers[0], tuple.client}, tuple: tuple, began: now}
	if f := s.admit(a); f != nil {
		t.Fatal(f)
	}
	if f := s.furnishUDP(a, s.hostFor(tuple, familyIPv4), -1); f != nil {
		t.Fatal(f)
	}
	have("127.0.0.11")
	both := []string{"udp 127.0.0.11", "tcp 127.0.0.11", "udp 127.0.0.12", "tcp 127.0.0.12"}
	look(now, both...) // away, but not for long
	look(now.Add(addressGrace-1), both...)
	have("127.0.0.11", "127.0.0.12")
	look(now.Add(addressGrace), both...) // and back
	have("127.0.0.11")
	look(now.Add(addressGrace), both...)
	if s.count() != 1 {
		t.Fatal("the allocation has not outlived a short absence")
	}
	look(now.Add(2*addressGrace), "udp 127.0.0.11", "tcp 127.0.0.11")
	if s.count() != 0 {
		t.Error("the allocation of an address that has gone is still there")
	}
	look(now.Add(2*addressGrace), "udp 127.0.0.11", "tcp 127.0.0.11")
	if h := s.here.Load().hosts[second.addr.Addr()]; h != nil {
		t.Errorf("%v is still relayed from", h.local)
	}
	if _, own := s.here.Load().own[second.addr.Addr()]; own {
		t.Error("an address that has gone is still known as own")
	}
}

// TestNoAddressAtAll: a host that has no address for any listener is told so at the start.
func TestNoAddressAtAll(t *testing.T) {
	cfg := testConfig()
	cfg.Listeners[0].Address = netip.MustParseAddrPort("0.0.0.0:0")
	s, err := New(t.Context(), cfg, Deps{Addresses: func() ([]hostaddr.Address, error) { return nil, nil }})
	if err == nil {
		s.closeAll()
		t.Error("New succeeds without an address")
	}
}
