package natlab

import "net/netip"

// Addresses of the presets. They come from the ranges for documentation (RFC 5737) and private use (RFC 1918).
var (
	// ServerAddr is where the host "server" of [TwoPublic] and [TwoHomes] is.
	ServerAddr = netip.MustParseAddr("203.0.113.10")
	// LANServerAddr is where the host "server" of [OneLAN] is.
	LANServerAddr = netip.MustParseAddr("10.77.0.10")
)

// Home is what [TwoHomes] varies about the routers of alice and bob. It keeps the fields of [Router] of the same name.
type Home struct {
	NAT      NAT
	BlockUDP bool
	OnlyTo   []netip.Addr
	Loss     int
}

// TwoPublic is an internet of three networks, with "server", "alice" and "bob" in one each, every one with a public
// address and an open path to the others.
func TwoPublic(name string) Topology {
	return Topology{
		Name: name,
		Networks: []Network{
			{Name: "servers", Prefix: netip.MustParsePrefix("203.0.113.0/24")},
			{Name: "west", Prefix: netip.MustParsePrefix("198.51.100.0/24")},
			{Name: "east", Prefix: netip.MustParsePrefix("192.0.2.0/24")},
		},
		Routers: []Router{backbone()},
		Hosts: []Host{
			{Name: "server", Network: "servers", Addr: ServerAddr, Gateway: netip.MustParseAddr("203.0.113.1")},
			{Name: "alice", Network: "west", Addr: netip.MustParseAddr("198.51.100.20"), Gateway: netip.MustParseAddr("198.51.100.1")},
			{Name: "bob", Network: "east", Addr: netip.MustParseAddr("192.0.2.20"), Gateway: netip.MustParseAddr("192.0.2.1")},
		},
	}
}

// TwoHomes is [TwoPublic] with alice and bob each moved into a home network of their own behind a router made as home
// says.
func TwoHomes(name string, home Home) Topology {
	t := TwoPublic(name)
	t.Networks = append(t.Networks,
		Network{Name: "alicehome", Prefix: netip.MustParsePrefix("10.77.1.0/24")},
		Network{Name: "bobhome", Prefix: netip.MustParsePrefix("10.77.2.0/24")})
	t.Routers = append(t.Routers,
		home.router("aliceat", "west", "198.51.100.", "alicehome", "10.77.1.1"),
		home.router("bobat", "east", "192.0.2.", "bobhome", "10.77.2.1"))
	t.Hosts = []Host{t.Hosts[0],
		{Name: "alice", Network: "alicehome", Addr: netip.MustParseAddr("10.77.1.20"), Gateway: netip.MustParseAddr("10.77.1.1")},
		{Name: "bob", Network: "bobhome", Addr: netip.MustParseAddr("10.77.2.20"), Gateway: netip.MustParseAddr("10.77.2.1")},
	}
	return t
}

// OneLAN is a single network of "server", "alice" and "bob" whose gateway has no Internet behind it.
func OneLAN(name string) Topology {
	gw := netip.MustParseAddr("10.77.0.1")
	return Topology{
		Name:     name,
		Networks: []Network{{Name: "lan", Prefix: netip.MustParsePrefix("10.77.0.0/24")}},
		Routers:  []Router{{Name: "gateway", Ports: []Port{{Network: "lan", Addr: gw}}}},
		Hosts: []Host{
			{Name: "server", Network: "lan", Addr: LANServerAddr, Gateway: gw},
			{Name: "alice", Network: "lan", Addr: netip.MustParseAddr("10.77.0.20"), Gateway: gw},
			{Name: "bob", Network: "lan", Addr: netip.MustParseAddr("10.77.0.21"), Gateway: gw},
		},
	}
}

// backbone joins the three public networks; their gateways are its ports.
func backbone() Router {
	return Router{Name: "backbone", Ports: []Port{
		{Network: "servers", Addr: netip.MustParseAddr("203.0.113.1")},
		{Network: "west", Addr: netip.MustParseAddr("198.51.100.1")},
		{Network: "east", Addr: netip.MustParseAddr("192.0.2.1")},
	}}
}

// router puts a home router at .20 of the public network whose first three numbers are outside.
func (h Home) router(name, uplink, outside, inside, insideAddr string) Router {
	return Router{
		Name: name,
		Ports: []Port{
			{Network: uplink, Addr: netip.MustParseAddr(outside + "20")},
			{Network: inside, Addr: netip.MustParseAddr(insideAddr)},
		},
		Uplink:   uplink,
		Gateway:  netip.MustParseAddr(outside + "1"),
		NAT:      h.NAT,
		BlockUDP: h.BlockUDP,
		OnlyTo:   h.OnlyTo,
		Loss:     h.Loss,
	}
}
