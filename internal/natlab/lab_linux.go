package natlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
)

// Lab is a topology that has been built. Close it.
type Lab struct {
	Topology Topology
	Dir      string // of files to keep when the test fails: logs, captures

	machines map[string]*Machine
	rules    map[string]*ruleset // by router
	wires    *Machine            // the namespace of the bridges
	captures []*capture
}

// Build makes the namespaces, links, addresses, routes and rules of t. It needs the capabilities CAP_SYS_ADMIN and
// CAP_NET_ADMIN. Files go into dir, which must exist.
func Build(t Topology, dir string) (*Lab, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	l := &Lab{Topology: t, Dir: dir, machines: map[string]*Machine{}, rules: map[string]*ruleset{}}
	if err := l.build(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) build() (err error) {
	if l.wires, err = l.machine("wires", netip.Addr{}, netip.Addr{}, nil); err != nil {
		return err
	}
	for _, n := range l.Topology.Networks {
		if err := l.bridge(n.Name); err != nil {
			return err
		}
	}
	for _, r := range l.Topology.Routers {
		if err := l.router(r); err != nil {
			return err
		}
	}
	for _, h := range l.Topology.Hosts {
		if err := l.host(h); err != nil {
			return err
		}
	}
	return nil
}

// Host returns the machine of that name, host or router. It panics if the topology has none: a test's typing mistake.
func (l *Lab) Host(name string) *Machine {
	m, ok := l.machines[name]
	if !ok {
		panic(fmt.Sprintf("natlab: no machine %q in topology %s", name, l.Topology.Name))
	}
	return m
}

// Strays lists the kinds of packets that tried to leave the lab. There should be none.
func (l *Lab) Strays() ([]Stray, error) {
	var all []Stray
	for name, rs := range l.rules {
		s, err := rs.read(name)
		if err != nil {
			return nil, err
		}
		all = append(all, s...)
	}
	return all, nil
}

// Close ends every program started in the lab, stops the captures and lets the namespaces go.
func (l *Lab) Close() error {
	var errs []error
	for _, c := range l.captures {
		errs = append(errs, c.close())
	}
	for _, m := range l.machines {
		m.close()
	}
	if l.wires != nil {
		l.wires.close()
	}
	l.captures, l.machines, l.wires = nil, nil, nil
	return errors.Join(errs...)
}

// machine makes the namespaces of name, with its loopback up.
func (l *Lab) machine(name string, addr, gateway netip.Addr, names map[string]netip.Addr) (*Machine, error) {
	etc := filepath.Join(l.Dir, name, "etc")
	if !addr.IsValid() {
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if err := writeEtc(etc, name, addr, names); err != nil {
		return nil, fmt.Errorf("natlab: files of %s: %w", name, err)
	}
	m, err := newMachine(name, etc)
	if err != nil {
		return nil, err
	}
	m.Addr, m.gateway = addr, gateway
	return m, m.with(func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		return h.LinkSetUp(lo)
	})
}

// with runs f with a handle on the machine's network configuration.
func (m *Machine) with(f func(h *netlink.Handle) error) error {
	h, err := netlink.NewHandleAt(m.ns)
	if err == nil {
		defer h.Close()
		err = f(h)
	}
	if err != nil {
		return fmt.Errorf("natlab: %s: %w", m.Name, err)
	}
	return nil
}

// bridgeName is that of network's bridge among the wires; wireName that of a machine's end of the cable there.
func bridgeName(network string) string         { return "br-" + network }
func wireName(machine string, port int) string { return fmt.Sprintf("%s.%d", machine, port) }
func portName(port int) string                 { return fmt.Sprintf("eth%d", port) }

func (l *Lab) bridge(network string) error {
	return l.wires.with(func(h *netlink.Handle) error {
		b := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName(network)}}
		if err := h.LinkAdd(b); err != nil {
			return fmt.Errorf("bridge %s: %w", network, err)
		}
		return h.LinkSetUp(b)
	})
}

// connect lays a cable from port number port of m to network, and gives that end its address.
func (l *Lab) connect(m *Machine, port int, network string, addr netip.Addr) error {
	err := l.wires.with(func(h *netlink.Handle) error {
		bridge, err := h.LinkByName(bridgeName(network))
		if err != nil {
			return err
		}
		wire := &netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: wireName(m.Name, port), MasterIndex: bridge.Attrs().Index},
			PeerName:      portName(port),
			PeerNamespace: netlink.NsFd(m.ns),
		}
		if err := h.LinkAdd(wire); err != nil {
			return fmt.Errorf("cable of %s to %s: %w", m.Name, network, err)
		}
		return h.LinkSetUp(wire)
	})
	if err != nil {
		return err
	}
	m.links = append(m.links, portName(port))
	return m.with(func(h *netlink.Handle) error {
		link, err := h.LinkByName(portName(port))
		if err != nil {
			return err
		}
		if err := h.AddrAdd(link, l.address(network, addr)); err != nil {
			return fmt.Errorf("address %v: %w", addr, err)
		}
		return h.LinkSetUp(link)
	})
}

// address is addr with the mask of network.
func (l *Lab) address(network string, addr netip.Addr) *netlink.Addr {
	for _, n := range l.Topology.Networks {
		if n.Name == network {
			return &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(n.Prefix.Bits(), 32)}}
		}
	}
	panic("natlab: network not validated: " + network)
}

func (l *Lab) host(h Host) error {
	m, err := l.machine(h.Name, h.Addr, h.Gateway, h.Names)
	if err != nil {
		return err
	}
	l.machines[h.Name] = m
	if err := l.connect(m, 0, h.Network, h.Addr); err != nil {
		return err
	}
	if err := m.with(m.route); err != nil {
		return err
	}
	return m.with(multicast)
}

// multicast sends groups out of the first interface also where there is no default route.
func multicast(h *netlink.Handle) error {
	link, err := h.LinkByName(portName(0))
	if err != nil {
		return err
	}
	_, groups, _ := net.ParseCIDR("224.0.0.0/4")
	return h.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: groups, Scope: netlink.SCOPE_LINK})
}

func (l *Lab) router(r Router) error {
	m, err := l.machine(r.Name, r.Ports[0].Addr, r.Gateway, nil)
	if err != nil {
		return err
	}
	l.machines[r.Name] = m
	uplink := ""
	for i, p := range r.Ports {
		if err := l.connect(m, i, p.Network, p.Addr); err != nil {
			return err
		}
		if p.Network == r.Uplink {
			uplink = portName(i)
		}
	}
	if l.rules[r.Name], err = install(int(m.ns), l.Topology, r, uplink); err != nil {
		return err
	}
	if err := m.with(m.route); err != nil {
		return err
	}
	return m.Do(func() error { return forwarding() })
}

// forwarding turns the calling thread's namespace into a router that does not tell senders about better ways.
func forwarding() error {
	for _, key := range []string{"all", "default"} {
		if err := sysctl("net/ipv4/conf/"+key+"/send_redirects", "0"); err != nil {
			return err
		}
	}
	return sysctl("net/ipv4/ip_forward", "1")
}

// LogFile creates a file in the lab's directory for the log of a program on a machine.
func (l *Lab) LogFile(machine, program string) (*os.File, error) {
	name := filepath.Join(l.Dir, machine, strings.ReplaceAll(program, string(filepath.Separator), "_")+".log")
	return os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
}
