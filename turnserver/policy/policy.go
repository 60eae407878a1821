// Package policy decides which peer addresses a TURN server relays to.
//
// A relay sends packets on behalf of strangers from inside the operator's network. Unless the operator says otherwise it must therefore
// reach the public Internet only: not the host itself, not its private networks, not link-local services such as cloud metadata, not
// multicast. The same destination can be written in many ways, since IPv6 embeds IPv4 addresses in several forms; every form that a
// kernel, a NAT64 gateway or a tunnel would deliver to the IPv4 address is judged by that IPv4 address, and forms that have no honest use
// as a peer address are refused outright.
//
// [Policy.Check] judges one address. The rules apply in this order, the first that matches decides:
//
//  1. an address that can never be a peer: not valid, a zone, unspecified, IPv4-mapped or -compatible, Teredo, discard;
//  2. the operator's deny list;
//  3. the operator's allow list;
//  4. the address ranges of the table in ranges.go, of which the private ones are open in LAN mode;
//  5. an IPv4 address embedded in 6to4, NAT64 or ISATAP form: judged by rules 2 to 4;
//  6. anything else is allowed.
//
// A Policy is immutable and safe for concurrent use. It does not know the server's own addresses: whoever owns the sockets does.
package policy

import "net/netip"

// Reason says why an address is refused. The zero value means that it is not. The set is closed, so that it can label a metric.
type Reason uint8

// The reasons, in no particular order.
const (
	Allowed     Reason = iota
	Invalid            // no address, a zone, or port 0
	Unspecified        // 0.0.0.0/8, ::
	Loopback           // 127.0.0.0/8, ::1
	Private            // RFC 1918, RFC 4193, RFC 6598 and the old site-local range
	LinkLocal          // 169.254.0.0/16, fe80::/10
	Multicast          // 224.0.0.0/4, ff00::/8, 255.255.255.255
	Reserved           // ranges no host has: protocol assignments, benchmarking, class E, discard
	Embedded           // an IPv4 address in an IPv6 form that no peer uses: mapped, compatible, translated, Teredo
	Denied             // the operator's deny list
	Own                // an address of this server where no relayed transport address lives
	NumReasons         // how many there are
)

var reasonNames = [NumReasons]string{"allowed", "invalid", "unspecified", "loopback", "private", "link_local", "multicast", "reserved",
	"embedded", "denied", "own"}

// String returns the reason in the form of a metric label.
func (r Reason) String() string {
	if r < NumReasons {
		return reasonNames[r]
	}
	return "unknown"
}

// Rules is what an operator can set. The zero value is the safe default.
type Rules struct {
	LAN      bool           // private and link-local ranges are open
	Loopback bool           // loopback is open: only for a server that nobody but the host itself can reach
	Allow    []netip.Prefix // open whatever the built-in ranges say
	Deny     []netip.Prefix // closed whatever else is said
}

// Policy judges peer addresses by Rules.
type Policy struct {
	rules Rules
}

// New returns a policy. It copies rules.
func New(rules Rules) *Policy {
	rules.Allow = masked(rules.Allow)
	rules.Deny = masked(rules.Deny)
	return &Policy{rules: rules}
}

func masked(in []netip.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, len(in))
	for i, p := range in {
		out[i] = p.Masked()
	}
	return out
}

// Check returns Allowed, or why the server does not relay to a.
func (p *Policy) Check(a netip.Addr) Reason {
	switch {
	case !a.IsValid() || a.Zone() != "":
		return Invalid
	case a.IsUnspecified():
		return Unspecified
	case a == v6Loopback: // inside ::/96, but a loopback address all the same
	case embeddedNever(a):
		return Embedded
	}
	if r, decided := p.judge(a); decided {
		return r
	}
	if inner, ok := embedded(a); ok {
		r, _ := p.judge(inner)
		return r
	}
	return Allowed
}

// judge applies rules 2 to 4. It reports false when none matched.
func (p *Policy) judge(a netip.Addr) (Reason, bool) {
	if contains(p.rules.Deny, a) {
		return Denied, true
	}
	if contains(p.rules.Allow, a) {
		return Allowed, true
	}
	for _, r := range ranges {
		if r.prefix.Contains(a) {
			return p.ranged(r.reason), true
		}
	}
	return Allowed, false
}

// ranged returns the verdict for an address in a built-in range.
func (p *Policy) ranged(r Reason) Reason {
	switch {
	case p.rules.LAN && (r == Private || r == LinkLocal):
		return Allowed
	case p.rules.Loopback && r == Loopback:
		return Allowed
	}
	return r
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Listed reports whether the operator's allow list names a.
func (p *Policy) Listed(a netip.Addr) bool { return contains(p.rules.Allow, a) }
