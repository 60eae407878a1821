package discovery

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// network is the socket of one family. Package net binds a multicast address to the wildcard with address reuse on, so
// that several programs of one machine can take part.
type network struct {
	conn  *net.UDPConn
	v6    bool
	group *net.UDPAddr
	p4    *ipv4.PacketConn
	p6    *ipv6.PacketConn

	mu     sync.Mutex
	ifaces []net.Interface // in the group
	ours   []netip.Prefix  // networks of those interfaces
}

func listen4() (*network, error) {
	group := &net.UDPAddr{IP: net.ParseIP(group4), Port: Port}
	c, err := listenGroup("udp4", group)
	if err != nil {
		return nil, err
	}
	p := ipv4.NewPacketConn(c)
	p.SetMulticastLoopback(true) // others on this machine take part too
	return &network{conn: c, group: group, p4: p}, nil
}

func listen6() (*network, error) {
	group := &net.UDPAddr{IP: net.ParseIP(group6), Port: Port}
	c, err := listenGroup("udp6", group)
	if err != nil {
		return nil, err
	}
	p := ipv6.NewPacketConn(c)
	p.SetMulticastLoopback(true)
	return &network{conn: c, v6: true, group: group, p6: p}, nil
}

func listenGroup(family string, group *net.UDPAddr) (*net.UDPConn, error) {
	c, err := net.ListenPacket(family, group.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// join enters the group on every interface that is up and speaks multicast, and writes what it found to all.
func (n *network) join(all *strings.Builder) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return
	}
	var in []net.Interface
	var ours []netip.Prefix
	for _, i := range ifaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagMulticast == 0 {
			continue
		}
		nets := n.prefixes(i)
		if len(nets) == 0 {
			continue
		}
		if n.p4 != nil {
			n.p4.JoinGroup(&i, n.group) // an error means that we are in it already
		} else {
			n.p6.JoinGroup(&i, n.group)
		}
		in, ours = append(in, i), append(ours, nets...)
		fmt.Fprint(all, i.Index, nets, ";")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ifaces, n.ours = in, ours
}

// prefixes lists the interface's networks of our family.
func (n *network) prefixes(i net.Interface) (out []netip.Prefix) {
	addrs, err := i.Addrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().Is6() == n.v6 {
			out = append(out, p.Masked())
		}
	}
	return out
}

// sendGroup sends to the group on every interface. Errors are those of interfaces on their way down.
func (n *network) sendGroup(packet []byte) {
	n.mu.Lock()
	ifaces := n.ifaces
	n.mu.Unlock()
	for _, i := range ifaces {
		if n.p4 != nil {
			n.p4.WriteTo(packet, &ipv4.ControlMessage{IfIndex: i.Index}, n.group)
		} else {
			n.p6.WriteTo(packet, &ipv6.ControlMessage{IfIndex: i.Index}, n.group)
		}
	}
}

// near reports whether a is on a network of ours.
func (n *network) near(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.IsLoopback() || a.IsLinkLocalUnicast() {
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.ours {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
