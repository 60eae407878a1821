package main

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// site is where a server and its generator stand. What is opened by a place's function is opened there.
type site struct {
	server, relay, client, peer netip.Addr
	inServer, inClient, inPeer  place
	port                        uint16 // of the server; 0 picks a free one
}

type place func(open func() error) error

func here(open func() error) error { return open() }

var localhost = netip.MustParseAddr("127.0.0.1")

// loopback has everything on one host.
var loopback = site{server: localhost, relay: localhost, client: localhost, peer: localhost, inServer: here, inClient: here, inPeer: here}

// wires is three network namespaces: a cable (veth pair) from the client to the server and one from there to the peer. The second site has
// a cable from the client to the peer, for comparison; its server is the peer. Addresses are of the documentation ranges. The namespaces
// vanish with the process.
func wires() (through, direct site, err error) {
	runtime.LockOSThread() // for good: the thread changes its namespace to and fro
	home, err := netns.Get()
	if err != nil {
		return site{}, site{}, err
	}
	var ns [3]netns.NsHandle
	for i := range ns {
		if ns[i], err = netns.New(); err != nil {
			return site{}, site{}, fmt.Errorf("network namespace: %w", err)
		}
	}
	in := func(i int) place {
		return func(open func() error) error {
			if err := netns.Set(ns[i]); err != nil {
				return err
			}
			defer netns.Set(home)
			return open()
		}
	}
	if err := netns.Set(home); err != nil {
		return site{}, site{}, err
	}
	client, server, peer := in(0), in(1), in(2)
	a := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	through = site{server: a("192.0.2.1"), client: a("192.0.2.2"), relay: a("198.51.100.1"), peer: a("198.51.100.2"), inServer: server,
		inClient: client, inPeer: peer, port: 3478}
	direct = site{client: a("203.0.113.1"), server: a("203.0.113.2"), relay: a("203.0.113.1"), peer: a("203.0.113.2"), inClient: client, inPeer: peer}
	for _, c := range []struct {
		one, other       int
		oneIP, otherIP   netip.Addr
		inOne, inAnother place
	}{{0, 1, through.client, through.server, client, server}, {1, 2, through.relay, through.peer, server, peer}, {0, 2, direct.client, direct.peer, client, peer}} {
		name := fmt.Sprintf("w%d%d", c.one, c.other)
		err := c.inOne(func() error {
			return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name, PeerNamespace: netlink.NsFd(ns[c.other])})
		})
		if err == nil {
			err = c.inOne(func() error { return address(name, c.oneIP) })
		}
		if err == nil {
			err = c.inAnother(func() error { return address(name, c.otherIP) })
		}
		if err != nil {
			return site{}, site{}, fmt.Errorf("cable %s: %w", name, err)
		}
	}
	return through, direct, nil
}

// address gives an interface its address and starts it.
func address(name string, ip netip.Addr) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(24, 32)}}); err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}
