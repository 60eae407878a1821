package natlab

import (
	"errors"
	"fmt"
	"net/netip"
)

// Topology describes a lab. It is plain data: copy it, change it, print it.
type Topology struct {
	Name     string    // for logs and file names
	Networks []Network // at least one
	Routers  []Router  // may be empty: then networks are islands
	Hosts    []Host    // at least one
}

// Network is one broadcast domain, such as a home's Wi-Fi or the cable between a router and its provider.
type Network struct {
	Name   string       // unique; 1–10 characters
	Prefix netip.Prefix // IPv4; no two networks overlap
}

// Host is a machine with one interface.
type Host struct {
	Name    string                // unique among hosts and routers; 1–10 characters
	Network string                // name of its network
	Addr    netip.Addr            // inside the network's prefix
	Gateway netip.Addr            // of the default route; the zero Addr means no default route
	Names   map[string]netip.Addr // what the host's /etc/hosts knows besides itself; all other names fail at once
}

// Router joins networks. A router with one port is a gateway to nowhere: it takes what is sent to it, counts it, drops it.
type Router struct {
	Name    string
	Ports   []Port     // one per network it is in
	Uplink  string     // network on the outside; "" for a backbone router, which forwards between all ports alike
	Gateway netip.Addr // of the default route, inside the uplink's prefix; the zero Addr means none
	NAT     NAT        // between the inside networks and the uplink; needs Uplink

	// BlockUDP drops every UDP packet from the inside to the uplink, as strict company networks do.
	BlockUDP bool
	// OnlyTo, when not empty, are the only destinations that the inside reaches through the uplink: with the servers'
	// addresses here, direct paths between peers are cut and only a relay is left.
	OnlyTo []netip.Addr
	// Loss is the share of forwarded packets dropped at random, in percent, 0–99.
	Loss int
}

// Port is a router's interface in a network.
type Port struct {
	Network string
	Addr    netip.Addr
}

// NAT is the way a router translates the addresses of its inside, in the words of RFC 4787.
type NAT int

const (
	// NoNAT routes. From the uplink everything may come in.
	NoNAT NAT = iota
	// EndpointIndependent maps an inside address and UDP port to one outside port for all destinations and lets anyone
	// send to it ("full cone"; RFC 4787 §4.1, §5 endpoint-independent mapping and filtering).
	// TCP is mapped but not opened to strangers.
	EndpointIndependent
	// AddressAndPortDependent keeps the endpoint-independent mapping, and lets in only the endpoints that were sent to
	// ("port-restricted cone").
	AddressAndPortDependent
	// Symmetric gives each destination a mapping of its own with a random port; hole punching fails against it.
	Symmetric
)

// String names the kind as the tests' tables do.
func (n NAT) String() string {
	switch n {
	case NoNAT:
		return "none"
	case EndpointIndependent:
		return "endpoint-independent"
	case AddressAndPortDependent:
		return "address-and-port-dependent"
	case Symmetric:
		return "symmetric"
	}
	return fmt.Sprintf("NAT(%d)", int(n))
}

// maxName is what an interface name leaves for ours (IFNAMSIZ 16, less the terminating zero and a prefix).
const maxName = 10 // bytes

// Validate reports every mistake at once: unknown networks, addresses outside their prefix or taken twice, overlaps.
func (t Topology) Validate() error {
	c := checker{nets: map[string]netip.Prefix{}, nodes: map[string]bool{}, addrs: map[netip.Addr]string{}}
	if len(t.Networks) == 0 || len(t.Hosts) == 0 {
		c.errorf("topology %q: needs a network and a host", t.Name)
	}
	for _, n := range t.Networks {
		c.network(n)
	}
	for _, r := range t.Routers {
		c.router(r)
	}
	for _, h := range t.Hosts {
		c.host(h)
	}
	return errors.Join(c.errs...)
}

// checker gathers what Validate finds.
type checker struct {
	nets  map[string]netip.Prefix
	nodes map[string]bool
	addrs map[netip.Addr]string // who has the address
	errs  []error
}

func (c *checker) errorf(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("natlab: "+format, args...))
}

func (c *checker) network(n Network) {
	if len(n.Name) == 0 || len(n.Name) > maxName {
		c.errorf("network %q: name must have 1–%d bytes", n.Name, maxName)
	}
	if !n.Prefix.IsValid() || !n.Prefix.Addr().Is4() || n.Prefix != n.Prefix.Masked() {
		c.errorf("network %s: %v is not an IPv4 prefix without host bits", n.Name, n.Prefix)
	}
	if _, ok := c.nets[n.Name]; ok {
		c.errorf("network %s: described twice", n.Name)
	}
	for name, p := range c.nets {
		if p.Overlaps(n.Prefix) {
			c.errorf("network %s: %v overlaps %s", n.Name, n.Prefix, name)
		}
	}
	c.nets[n.Name] = n.Prefix
}

func (c *checker) node(name string) {
	if len(name) == 0 || len(name) > maxName {
		c.errorf("node %q: name must have 1–%d bytes", name, maxName)
	}
	if c.nodes[name] {
		c.errorf("node %s: described twice", name)
	}
	c.nodes[name] = true
}

// address checks that who may have addr in network.
func (c *checker) address(who, network string, addr netip.Addr) {
	p, ok := c.nets[network]
	switch {
	case !ok:
		c.errorf("%s: no network %q", who, network)
	case !p.Contains(addr):
		c.errorf("%s: %v is not in %v of %s", who, addr, p, network)
	case c.addrs[addr] != "":
		c.errorf("%s: %v belongs to %s", who, addr, c.addrs[addr])
	}
	c.addrs[addr] = who
}

func (c *checker) gateway(who, network string, gw netip.Addr) {
	if gw.IsValid() && !c.nets[network].Contains(gw) {
		c.errorf("%s: gateway %v is not in network %q", who, gw, network)
	}
}

func (c *checker) router(r Router) {
	c.node(r.Name)
	uplink := r.Uplink == ""
	for _, p := range r.Ports {
		c.address(r.Name, p.Network, p.Addr)
		uplink = uplink || p.Network == r.Uplink
	}
	if len(r.Ports) == 0 || !uplink {
		c.errorf("%s: needs ports, and one in its uplink %q", r.Name, r.Uplink)
	}
	if r.Uplink == "" && (r.NAT != NoNAT || r.BlockUDP || len(r.OnlyTo) > 0 || r.Gateway.IsValid()) {
		c.errorf("%s: NAT, filters and gateway need an uplink", r.Name)
	}
	if r.NAT < NoNAT || r.NAT > Symmetric {
		c.errorf("%s: unknown %v", r.Name, r.NAT)
	}
	if r.Loss < 0 || r.Loss > 99 {
		c.errorf("%s: loss of %d %%, want 0–99", r.Name, r.Loss)
	}
	c.gateway(r.Name, r.Uplink, r.Gateway)
}

func (c *checker) host(h Host) {
	c.node(h.Name)
	c.address(h.Name, h.Network, h.Addr)
	c.gateway(h.Name, h.Network, h.Gateway)
}
