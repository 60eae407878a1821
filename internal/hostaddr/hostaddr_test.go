package hostaddr

import (
	"net/netip"
	"slices"
	"testing"
)

func TestReachOf(t *testing.T) {
	for in, want := range map[string]Reach{
		"127.0.0.1": Loopback, "::1": Loopback, "169.254.1.1": LinkLocal, "fe80::1": LinkLocal, "10.1.1.1": LAN, "192.168.1.5": LAN,
		"172.31.0.1": LAN, "100.64.0.9": LAN, "fd00::5": LAN, "::ffff:10.0.0.1": LAN, "203.0.113.1": Public, "2001:db8::1": Public, "172.32.0.1": Public,
	} {
		if got := ReachOf(netip.MustParseAddr(in)); got != want {
			t.Errorf("ReachOf(%s) = %v, want %v", in, got, want)
		}
	}
}

func TestListHasLoopback(t *testing.T) {
	list, err := List()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(list, func(a Address) bool { return a.Reach == Loopback }) {
		t.Errorf("List = %v, want a loopback address", list)
	}
	if !slices.IsSortedFunc(list, order) {
		t.Errorf("List = %v, not in order", list)
	}
}

func TestBest(t *testing.T) {
	addr := func(s string, preferred bool) Address {
		a := netip.MustParseAddr(s)
		return Address{Addr: a, Reach: ReachOf(a), Preferred: preferred}
	}
	tests := []struct {
		name string
		list []Address
		want string
	}{
		{"nothing", nil, "127.0.0.1"},
		{"loopback only", []Address{addr("::1", false)}, "127.0.0.1"},
		{"preferred LAN before public", []Address{addr("203.0.113.1", false), addr("192.168.1.2", true)}, "192.168.1.2"},
		{"link-local is skipped", []Address{addr("fe80::1", true), addr("10.0.0.1", false)}, "10.0.0.1"},
	}
	for _, tt := range tests {
		slices.SortStableFunc(tt.list, order)
		if got := Best(tt.list); got != netip.MustParseAddr(tt.want) {
			t.Errorf("%s: Best = %v, want %s", tt.name, got, tt.want)
		}
	}
}
