package policy

import (
	"net/netip"
	"testing"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	plain := New(Rules{})
	lan := New(Rules{LAN: true})
	tests := []struct {
		addr        string
		public, lan Reason
	}{
		{"203.0.113.7", Allowed, Allowed},
		{"8.8.8.8", Allowed, Allowed},
		{"2001:db8::1", Allowed, Allowed},
		{"2a00:1450::1", Allowed, Allowed},

		{"0.0.0.0", Unspecified, Unspecified},
		{"0.1.2.3", Unspecified, Unspecified},
		{"::", Unspecified, Unspecified},

		{"127.0.0.1", Loopback, Loopback},
		{"127.255.255.254", Loopback, Loopback},
		{"::1", Loopback, Loopback},
		{"::ffff:127.0.0.1", Embedded, Embedded},
		{"::127.0.0.1", Embedded, Embedded},
		{"::ffff:0:127.0.0.1", Embedded, Embedded},
		{"64:ff9b::127.0.0.1", Loopback, Loopback},
		{"2002:7f00:1::", Loopback, Loopback},
		{"2002:7f00:1::1", Loopback, Loopback},
		{"2001:db8::5efe:127.0.0.1", Loopback, Loopback},
		{"2001:db8::200:5efe:127.0.0.1", Loopback, Loopback},
		{"2001:0:7f00:1::1", Embedded, Embedded},

		{"10.1.2.3", Private, Allowed},
		{"172.16.0.1", Private, Allowed},
		{"172.31.255.255", Private, Allowed},
		{"172.32.0.1", Allowed, Allowed},
		{"192.168.1.1", Private, Allowed},
		{"100.64.0.1", Private, Allowed},
		{"100.128.0.1", Allowed, Allowed},
		{"fd00::1", Private, Allowed},
		{"fec0::1", Private, Allowed},
		{"64:ff9b:1::10.0.0.1", Private, Allowed},
		{"::ffff:10.0.0.1", Embedded, Embedded},
		{"::ffff:8.8.8.8", Embedded, Embedded},
		{"64:ff9b::10.0.0.1", Private, Allowed},
		{"64:ff9b::8.8.8.8", Allowed, Allowed},
		{"2002:a00:1::1", Private, Allowed},
		{"2002:808:808::1", Allowed, Allowed},

		{"169.254.169.254", LinkLocal, Allowed},
		{"64:ff9b::169.254.169.254", LinkLocal, Allowed},
		{"2002:a9fe:a9fe::", LinkLocal, Allowed},
		{"fe80::1", LinkLocal, Allowed},
		{"fe80::1%eth0", Invalid, Invalid},

		{"224.0.0.1", Multicast, Multicast},
		{"239.255.255.250", Multicast, Multicast},
		{"255.255.255.255", Multicast, Multicast},
		{"ff02::1", Multicast, Multicast},
		{"64:ff9b::224.0.0.1", Multicast, Multicast},

		{"192.0.0.1", Reserved, Reserved},
		{"198.18.0.1", Reserved, Reserved},
		{"240.0.0.1", Reserved, Reserved},
		{"100::1", Reserved, Reserved},
	}
	for _, tt := range tests {
		a := netip.MustParseAddr(tt.addr)
		if got := plain.Check(a); got != tt.public {
			t.Errorf("Check(%s) = %v, want %v", tt.addr, got, tt.public)
		}
		if got := lan.Check(a); got != tt.lan {
			t.Errorf("LAN mode: Check(%s) = %v, want %v", tt.addr, got, tt.lan)
		}
	}
	if got := plain.Check(netip.Addr{}); got != Invalid {
		t.Errorf("Check(zero) = %v, want %v", got, Invalid)
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	p := New(Rules{
		Allow: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/16"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
		Deny:  []netip.Prefix{netip.MustParsePrefix("10.1.9.0/24"), netip.MustParsePrefix("203.0.113.0/24")},
	})
	for addr, want := range map[string]Reason{
		"10.1.2.3":             Allowed, // a prefix written with host bits counts as its network
		"10.2.0.1":             Private,
		"10.1.9.1":             Denied, // deny beats allow
		"203.0.113.9":          Denied,
		"64:ff9b::203.0.113.9": Denied, // and sees through embedding
		"64:ff9b::10.1.2.3":    Allowed,
		"127.0.0.1":            Allowed,
		"::ffff:127.0.0.1":     Embedded, // an allow list never opens a second spelling
		"::1":                  Loopback,
		"fd12::1":              Allowed,
	} {
		if got := p.Check(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Check(%s) = %v, want %v", addr, got, want)
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"} {
		f.Add(netip.MustParseAddr(s).AsSlice())
	}
	p := New(Rules{})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		if p.Check(a) == Allowed && (a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || a.Is4In6()) {
			t.Errorf("Check(%v) allows what package netip calls special", a)
		}
	})
}
