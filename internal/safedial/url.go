package safedial

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// MaxURL bounds a URL given by a stranger, in bytes. UnifiedPush endpoints are at most 1000.
const MaxURL = 1000

// URL parses raw and reports whether the policy lets it be requested, as far as that shows without a
// connection. The error wraps ErrRefused.
func (p *Policy) URL(raw string) (*url.URL, error) {
	if len(raw) > MaxURL {
		return nil, fmt.Errorf("%w: URL longer than %d bytes", ErrRefused, MaxURL)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: not a URL", ErrRefused) // the parser's text would repeat the URL, a secret
	}
	switch {
	case u.Scheme != "https" && !(u.Scheme == "http" && p.AllowHTTP):
		return nil, fmt.Errorf("%w: scheme", ErrRefused)
	case u.Opaque != "" || u.Hostname() == "":
		return nil, fmt.Errorf("%w: no host", ErrRefused)
	case u.User != nil:
		return nil, fmt.Errorf("%w: user information in URL", ErrRefused)
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return nil, fmt.Errorf("%w: fragment in URL", ErrRefused)
	}
	port, err := portOf(u)
	if err != nil {
		return nil, err
	}
	if !p.portAllowed(port) {
		return nil, fmt.Errorf("%w: port %d", ErrRefused, port)
	}
	return u, p.literal(u.Hostname(), port)
}

func portOf(u *url.URL) (uint16, error) {
	switch s := u.Port(); {
	case s == "" && u.Scheme == "http":
		return 80, nil
	case s == "":
		return 443, nil
	default:
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || n == 0 {
			return 0, fmt.Errorf("%w: port", ErrRefused)
		}
		return uint16(n), nil
	}
}

// literal judges a host that is an address, or that some resolvers would read as one: the old inet_aton forms
// (127.1, 0x7f000001, 2130706433) and localhost names, which need no DNS.
func (p *Policy) literal(host string, port uint16) error {
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" {
			return fmt.Errorf("%w: zone in address", ErrRefused)
		}
		return p.Addr(a, port)
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return p.Addr(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" || numeric(last) {
		return fmt.Errorf("%w: host is a number", ErrRefused)
	}
	return nil
}

// numeric reports whether s is a number as inet_aton reads one. No top-level domain is (RFC 3696 §2).
func numeric(s string) bool {
	_, err := strconv.ParseUint(s, 0, 64)
	if err == nil {
		return true
	}
	return strings.Trim(s, "0123456789") == ""
}
