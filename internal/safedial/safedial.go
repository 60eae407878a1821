// Package safedial makes connections to addresses that strangers name.
//
// A server that POSTs to a URL given by an anonymous client can be used to reach what only the server can
// reach: its loopback, its neighbours, its cloud's metadata service. Looking the name up first and judging the
// answer does not help, because the name may answer differently a moment later (DNS rebinding). So the judgement
// is passed here on the address the kernel is about to be given, in the dialer's control hook, at every dial:
//
//   - the address, with an IPv4 address inside an IPv6 one taken out first (mapped, compatible, NAT64, 6to4,
//     Teredo, ISATAP), must not lie in a special-purpose range (IANA registries of RFC 6890) nor be one of this
//     machine's own;
//   - unless it lies in one of Policy.AllowPrivate, which an operator of a LAN sets;
//   - the port must be one of Policy.Ports.
//
// URL judges what can be judged without a connection: scheme, length, user information, fragment, port, and an
// address written literally. It is for early refusal; the dial decides.
//
// Transport returns an http.Transport with these rules, no proxy from the environment, and limits on time and
// header size. Redirects are not to be followed, by calling RoundTrip or an http.Client with NoRedirect: a redirect
// that was followed would be judged by the same dial rules, but the request's credentials would travel along.
package safedial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// ErrRefused is wrapped by every error that says an address or URL is against the policy. Callers treat it as
// final for that URL; a dial may still succeed later if the name then answers with a decent address.
var ErrRefused = errors.New("safedial: refused")

// Policy says which addresses may be dialled. The zero value allows public addresses on port 443 over https.
type Policy struct {
	// AllowPrivate lists networks that may be dialled although they are special-purpose or our own.
	AllowPrivate []netip.Prefix
	// AllowHTTP admits http:// URLs too, and with them port 80 when Ports is empty.
	AllowHTTP bool
	// Ports that may be dialled. Empty means 443 (and 80 with AllowHTTP). AnyPort lifts the rule.
	Ports   []uint16
	AnyPort bool
	// Own returns the machine's own addresses, nil means those of its interfaces. They are refused because a
	// service bound to a public address of this machine may trust connections from it.
	Own func() []netip.Addr
}

// Addr reports whether a may be dialled on port, as an error that wraps ErrRefused if not.
func (p *Policy) Addr(a netip.Addr, port uint16) error {
	if !p.portAllowed(port) {
		return fmt.Errorf("%w: port %d", ErrRefused, port)
	}
	a = a.WithZone("")
	if p.allowed(a) {
		return nil
	}
	if what := special(a); what != "" {
		return fmt.Errorf("%w: %s address", ErrRefused, what)
	}
	if inner, how := embedded(a); how != "" && !p.allowed(inner) {
		if what := special(inner); what != "" {
			return fmt.Errorf("%w: %s of %s address", ErrRefused, how, what)
		}
	}
	if slices.Contains(p.own(), a.Unmap()) {
		return fmt.Errorf("%w: own address", ErrRefused)
	}
	return nil
}

// allowed reports whether the operator named a network that holds a, written plainly or mapped.
func (p *Policy) allowed(a netip.Addr) bool {
	plain := a.Unmap()
	return slices.ContainsFunc(p.AllowPrivate, func(n netip.Prefix) bool { return n.Contains(plain) })
}

func (p *Policy) portAllowed(port uint16) bool {
	switch {
	case p.AnyPort:
		return true
	case len(p.Ports) > 0:
		return slices.Contains(p.Ports, port)
	}
	return port == 443 || (p.AllowHTTP && port == 80)
}

func (p *Policy) own() []netip.Addr {
	if p.Own != nil {
		return p.Own()
	}
	return interfaceAddrs()
}

// Control is the hook for net.Dialer.ControlContext: it sees the address after every resolution, just before
// connect(2). Only stream sockets pass.
func (p *Policy) Control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("%w: network %s", ErrRefused, network)
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: address not numeric", ErrRefused)
	}
	return p.Addr(ap.Addr(), ap.Port())
}

// Dialer returns a dialer that obeys the policy and gives up after timeout.
func (p *Policy) Dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second, ControlContext: p.Control}
}

// maxHeader bounds the answer headers of a stranger's server.
const maxHeader = 16 << 10

// Transport returns a transport for strangers' URLs. perHost bounds connections to one host and port.
func (p *Policy) Transport(timeout time.Duration, perHost int) *http.Transport {
	return &http.Transport{
		DialContext:            p.Dialer(timeout).DialContext,
		TLSHandshakeTimeout:    timeout,
		ResponseHeaderTimeout:  timeout,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConns:           512,
		MaxIdleConnsPerHost:    perHost,
		MaxConnsPerHost:        perHost,
		MaxResponseHeaderBytes: maxHeader,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
	}
}

// NoRedirect is an http.Client.CheckRedirect that hands the 3xx answer to the caller.
func NoRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
