package coturnconf

import (
	"fmt"
	"net/netip"
	"strings"
)

// maxPrefixes bounds what one range becomes: an IPv6 range takes at most 254.
const maxPrefixes = 256

// addRange appends "address", "address/bits" or "first-last" as prefixes.
func addRange(list []netip.Prefix, s string) ([]netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return append(list, p.Masked()), nil
	}
	low, high, isRange := strings.Cut(s, "-")
	first, err := netip.ParseAddr(strings.TrimSpace(low))
	if err != nil {
		return list, fmt.Errorf("%q is not an address, network or range", s)
	}
	if !isRange {
		return append(list, netip.PrefixFrom(first, first.BitLen())), nil
	}
	last, err := netip.ParseAddr(strings.TrimSpace(high))
	if err != nil || first.BitLen() != last.BitLen() || last.Less(first) {
		return list, fmt.Errorf("%q is not a range", s)
	}
	return append(list, cover(first, last)...), nil
}

// cover returns the fewest prefixes that hold exactly the addresses from first to last.
func cover(first, last netip.Addr) (out []netip.Prefix) {
	for len(out) < maxPrefixes {
		p := netip.PrefixFrom(first, first.BitLen())
		for bits := p.Bits() - 1; bits >= 0; bits-- {
			wider := netip.PrefixFrom(first, bits)
			if wider.Masked().Addr() != first || last.Less(end(wider)) {
				break
			}
			p = wider
		}
		out = append(out, p)
		if end(p) == last {
			break
		}
		first = end(p).Next()
	}
	return out
}

// end returns the last address of p.
func end(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
