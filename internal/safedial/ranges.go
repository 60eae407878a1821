package safedial

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"time"
)

// special-purpose ranges by what they are, from the IANA IPv4 and IPv6 special-purpose address registries
// (RFC 6890 and its successors) and the multicast registries. Order does not matter; the first hit names it.
var specials = []struct {
	prefix netip.Prefix
	what   string
}{
	{pfx("0.0.0.0/8"), "unspecified"},
	{pfx("10.0.0.0/8"), "private"},
	{pfx("100.64.0.0/10"), "carrier-grade NAT"}, // RFC 6598
	{pfx("127.0.0.0/8"), "loopback"},
	{pfx("169.254.0.0/16"), "link-local"}, // also cloud metadata
	{pfx("172.16.0.0/12"), "private"},
	{pfx("192.0.0.0/24"), "protocol assignment"},
	{pfx("192.0.2.0/24"), "documentation"},
	{pfx("192.88.99.0/24"), "6to4 relay"},
	{pfx("192.168.0.0/16"), "private"},
	{pfx("198.18.0.0/15"), "benchmark"},
	{pfx("198.51.100.0/24"), "documentation"},
	{pfx("203.0.113.0/24"), "documentation"},
	{pfx("224.0.0.0/4"), "multicast"},
	{pfx("240.0.0.0/4"), "reserved"}, // with 255.255.255.255

	{pfx("::/128"), "unspecified"},
	{pfx("::1/128"), "loopback"},
	{pfx("64:ff9b:1::/48"), "local NAT64"}, // RFC 8215: where it leads is the network's secret
	{pfx("100::/64"), "discard"},
	{pfx("2001:2::/48"), "benchmark"},
	{pfx("2001:10::/28"), "ORCHID"},
	{pfx("2001:20::/28"), "ORCHID"},
	{pfx("2001:db8::/32"), "documentation"},
	{pfx("3fff::/20"), "documentation"},
	{pfx("5f00::/16"), "segment routing"},
	{pfx("fc00::/7"), "unique local"},
	{pfx("fe80::/10"), "link-local"},
	{pfx("fec0::/10"), "site-local"},
	{pfx("ff00::/8"), "multicast"},
}

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// special names the special-purpose range that holds a, "" if none.
func special(a netip.Addr) string {
	if !a.IsValid() {
		return "invalid"
	}
	for _, s := range specials {
		if s.prefix.Contains(a) {
			return s.what
		}
	}
	return ""
}

var (
	mapped     = pfx("::ffff:0:0/96")
	compatible = pfx("::/96")
	translated = pfx("::ffff:0:0:0/96") // RFC 2765 SIIT
	nat64      = pfx("64:ff9b::/96")    // RFC 6052
	sixToFour  = pfx("2002::/16")       // RFC 3056
	teredo     = pfx("2001::/32")       // RFC 4380, client address in the last 32 bits, inverted
)

// embedded returns the IPv4 address that a carries and the name of the way it does, "" if it carries none.
// A gateway on our path may unpack it, so it is judged as if dialled itself.
func embedded(a netip.Addr) (netip.Addr, string) {
	b := a.As16()
	switch {
	case a.Is4():
		return netip.Addr{}, ""
	case mapped.Contains(a) || a.Is4In6():
		return a.Unmap(), "IPv4-mapped form"
	case compatible.Contains(a):
		return v4(b[12:]), "IPv4-compatible form"
	case translated.Contains(a):
		return v4(b[12:]), "IPv4-translated form"
	case nat64.Contains(a):
		return v4(b[12:]), "NAT64 form"
	case sixToFour.Contains(a):
		return v4(b[2:6]), "6to4 form"
	case teredo.Contains(a):
		return netip.AddrFrom4(inverted(b[12:])), "Teredo form"
	case binary.BigEndian.Uint32(b[8:])&^0x02000000 == 0x00005efe: // RFC 5214, u bit either way
		return v4(b[12:]), "ISATAP form"
	}
	return netip.Addr{}, ""
}

func v4(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b[:4])) }

func inverted(b []byte) (out [4]byte) {
	binary.BigEndian.PutUint32(out[:], ^binary.BigEndian.Uint32(b))
	return out
}

// ownFor is how long the list of interface addresses is believed; asking the kernel at each dial would cost
// more than the dial.
const ownFor = time.Minute

var ownCache struct {
	sync.Mutex
	at    time.Time
	addrs []netip.Addr
}

// interfaceAddrs lists this machine's addresses, at most ownFor old. On error it returns the last list known.
func interfaceAddrs() []netip.Addr {
	ownCache.Lock()
	defer ownCache.Unlock()
	if time.Since(ownCache.at) < ownFor {
		return ownCache.addrs
	}
	list, err := net.InterfaceAddrs()
	if err != nil {
		return ownCache.addrs
	}
	ownCache.at, ownCache.addrs = time.Now(), ownCache.addrs[:0:0]
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				ownCache.addrs = append(ownCache.addrs, ip.Unmap())
			}
		}
	}
	return ownCache.addrs
}
