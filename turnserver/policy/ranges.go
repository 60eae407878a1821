package policy

import "net/netip"

type addressRange struct {
	prefix netip.Prefix
	reason Reason
}

// ranges are the special-purpose ranges of the IANA registries (RFC 6890 and its updates) that a public relay has no business with. The
// documentation ranges are left open: nobody routes them, and test networks are made of them.
var ranges = []addressRange{
	{netip.MustParsePrefix("0.0.0.0/8"), Unspecified}, // Linux delivers 0.0.0.0 to the host itself
	{netip.MustParsePrefix("10.0.0.0/8"), Private},
	{netip.MustParsePrefix("100.64.0.0/10"), Private}, // RFC 6598, carrier-grade NAT and overlay networks
	{netip.MustParsePrefix("127.0.0.0/8"), Loopback},
	{netip.MustParsePrefix("169.254.0.0/16"), LinkLocal},
	{netip.MustParsePrefix("172.16.0.0/12"), Private},
	{netip.MustParsePrefix("192.0.0.0/24"), Reserved},
	{netip.MustParsePrefix("192.88.99.0/24"), Reserved}, // 6to4 relay anycast
	{netip.MustParsePrefix("192.168.0.0/16"), Private},
	{netip.MustParsePrefix("198.18.0.0/15"), Reserved}, // benchmarking
	{netip.MustParsePrefix("224.0.0.0/4"), Multicast},
	{netip.MustParsePrefix("255.255.255.255/32"), Multicast}, // limited broadcast
	{netip.MustParsePrefix("240.0.0.0/4"), Reserved},

	{netip.MustParsePrefix("::1/128"), Loopback},
	{netip.MustParsePrefix("64:ff9b:1::/48"), Private}, // RFC 8215, translation inside one network
	{netip.MustParsePrefix("100::/64"), Reserved},      // discard only
	{netip.MustParsePrefix("fc00::/7"), Private},
	{netip.MustParsePrefix("fe80::/10"), LinkLocal},
	{netip.MustParsePrefix("fec0::/10"), Private}, // site-local, deprecated but still routed somewhere
	{netip.MustParsePrefix("ff00::/8"), Multicast},
}

var (
	v6Loopback   = netip.IPv6Loopback()
	v4Compatible = netip.MustParsePrefix("::/96")
	v4Translated = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765
	teredo       = netip.MustParsePrefix("2001::/32")       // RFC 4380
	nat64        = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052
	sixToFour    = netip.MustParsePrefix("2002::/16")       // RFC 3056
)

// embeddedNever reports whether a hides an IPv4 address in a form that peers do not have.
func embeddedNever(a netip.Addr) bool {
	return a.Is4In6() || a.Is6() && (v4Compatible.Contains(a) || v4Translated.Contains(a) || teredo.Contains(a))
}

// embedded returns the IPv4 address to which a gateway or tunnel would deliver a packet for a.
func embedded(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() {
		return netip.Addr{}, false
	}
	b := a.As16()
	switch {
	case nat64.Contains(a), isatap(b):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}

// isatap reports whether the interface identifier is that of RFC 5214: 0000:5efe or 0200:5efe before the IPv4 address.
func isatap(b [16]byte) bool {
	return b[8]&^0x02 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}
