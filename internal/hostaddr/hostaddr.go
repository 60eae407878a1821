// Package hostaddr finds the addresses by which other machines reach this one. It sends nothing.
package hostaddr

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// Reach says from where an address can be used.
type Reach int

const (
	Loopback  Reach = iota // this machine only
	LinkLocal              // one link, and only with a zone: useless to type into a setting
	LAN                    // private networks: RFC 1918, RFC 6598, unique local IPv6
	Public                 // everywhere, unless a firewall says otherwise
)

func (r Reach) String() string {
	return [...]string{"loopback", "link-local", "LAN", "public"}[r]
}

// Address is one address of this machine.
type Address struct {
	Addr      netip.Addr
	Interface string
	Reach     Reach
	Multicast bool // the interface can multicast: LAN discovery works there
	Preferred bool // the system would use it towards a host it knows no better route to
}

var sharedSpace = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

// ReachOf classifies an address.
func ReachOf(a netip.Addr) Reach {
	a = a.Unmap()
	switch {
	case a.IsLoopback():
		return Loopback
	case a.IsLinkLocalUnicast():
		return LinkLocal
	case a.IsPrivate() || sharedSpace.Contains(a):
		return LAN
	}
	return Public
}

// List returns the addresses of all interfaces that are up, the preferred ones first, then by reach from public to loopback, IPv4 before
// IPv6. It asks the kernel each time, so that a change of network is seen.
func List() ([]Address, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("hostaddr: %w", err)
	}
	preferred := []netip.Addr{source("udp4", "192.0.2.1:9"), source("udp6", "[2001:db8::1]:9")}
	var out []Address
	for _, ifc := range interfaces {
		if ifc.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := ifc.Addrs()
		if err != nil {
			continue // the interface went away between the two calls
		}
		for _, a := range addrs {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			addr := prefix.Addr().Unmap()
			out = append(out, Address{
				Addr: addr, Interface: ifc.Name, Reach: ReachOf(addr),
				Multicast: ifc.Flags&net.FlagMulticast != 0, Preferred: slices.Contains(preferred, addr),
			})
		}
	}
	slices.SortStableFunc(out, order)
	return out, nil
}

func order(a, b Address) int {
	return cmp.Or(rank(b.Preferred)-rank(a.Preferred), int(b.Reach)-int(a.Reach), rank(b.Addr.Is4())-rank(a.Addr.Is4()))
}

func rank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// source returns the address the kernel would send from, or the zero Addr. Connecting a UDP socket sends no packet.
func source(network, to string) netip.Addr {
	c, err := net.Dial(network, to)
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// Best returns the address to tell other people: the first of List that is LAN or public, or loopback when there is none.
func Best(list []Address) netip.Addr {
	for _, a := range list {
		if a.Reach >= LAN {
			return a.Addr
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}
