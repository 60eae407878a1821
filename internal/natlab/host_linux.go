package natlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Machine is a running host or router: a network namespace, and a mount namespace in which /etc/hosts and
// /etc/resolv.conf are its own. Its methods are safe for concurrent use.
type Machine struct {
	Name string
	Addr netip.Addr // of its first interface

	gateway netip.Addr // of the default route, or the zero Addr
	links   []string   // names of its interfaces

	ns   netns.NsHandle
	jobs chan func() // run on the thread that lives in the namespaces
	end  chan struct{}
}

// newMachine makes the namespaces. etc is the directory with its files "hosts" and "resolv.conf".
func newMachine(name, etc string) (*Machine, error) {
	m := &Machine{Name: name, jobs: make(chan func()), end: make(chan struct{})}
	ready := make(chan error, 1)
	onThread(func() {
		err := m.unshare(etc)
		ready <- err
		for err == nil {
			select {
			case job := <-m.jobs:
				job()
			case <-m.end:
				return
			}
		}
	})
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("natlab: namespaces of %s: %w", name, err)
	}
	return m, nil
}

// unshare moves the calling thread into new namespaces.
func (m *Machine) unshare(etc string) error {
	ns, err := netns.New()
	if err != nil {
		return err
	}
	m.ns = ns
	if err := isolate(); err != nil {
		return err
	}
	for _, file := range []string{"hosts", "resolv.conf"} {
		if err := unix.Mount(filepath.Join(etc, file), filepath.Join("/etc", file), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", file, err)
		}
	}
	return nil
}

// isolate moves the calling thread, which is in a network namespace of its own, into a mount namespace of its own, and sets
// the former's variables. It is all that a machine needs of the kernel before its first cable.
func isolate() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); errors.Is(err, unix.EINVAL) {
		return errors.New("the root directory is no mount point, as in a bare chroot: bind it on itself (mount --bind) first")
	} else if err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	settings := map[string]string{
		"net/ipv6/conf/all/disable_ipv6":      "1",
		"net/ipv6/conf/default/disable_ipv6":  "1",
		"net/ipv4/ip_unprivileged_port_start": "0",
	}
	for key, value := range settings {
		if err := sysctl(key, value); err != nil {
			return err
		}
	}
	return nil
}

// sysctl sets a variable of the namespace that the calling thread is in. A kernel without IPv6 lacks its variables.
func sysctl(key, value string) error {
	err := os.WriteFile("/proc/sys/"+key, []byte(value), 0o644)
	if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(key, "net/ipv6/") {
		return nil
	}
	return err
}

// Do runs f on a thread in the machine's network namespace. Sockets that f opens stay there. f must not start goroutines
// that open more: they would run elsewhere.
func (m *Machine) Do(f func() error) error {
	return callOnThread(func() error {
		if err := netns.Set(m.ns); err != nil {
			return fmt.Errorf("natlab: enter %s: %w", m.Name, err)
		}
		return f()
	})
}

// Start is cmd.Start in the machine's namespaces. The program is killed when the lab closes or the test dies.
func (m *Machine) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // the thread that forks ends with the lab
	result := make(chan error, 1)
	select {
	case m.jobs <- func() { result <- cmd.Start() }:
		return <-result
	case <-m.end:
		return fmt.Errorf("natlab: %s is closed", m.Name)
	}
}

// ListenPacket opens a UDP socket in the machine. addr is "ip:port".
func (m *Machine) ListenPacket(addr netip.AddrPort) (conn *net.UDPConn, err error) {
	err = m.Do(func() error {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
		return err
	})
	return conn, err
}

// Listen opens a TCP listener in the machine.
func (m *Machine) Listen(addr netip.AddrPort) (ln *net.TCPListener, err error) {
	err = m.Do(func() error {
		ln, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(addr))
		return err
	})
	return ln, err
}

// DialContext connects from inside the machine; address must hold a literal IP. It fits http.Transport.
func (m *Machine) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("natlab: dial %s: %w", address, err)
	}
	err = m.Do(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Datagrams is how many UDP packets the machine's programs were given so far.
func (m *Machine) Datagrams() (n uint64, err error) {
	err = m.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		n, err = inDatagrams(string(text))
		return err
	})
	return n, err
}

// ListensUDP tells whether a program of the machine has the UDP port.
func (m *Machine) ListensUDP(port uint16) (yes bool, err error) {
	err = m.Do(func() error {
		table, err := os.ReadFile("/proc/thread-self/net/udp")
		yes = strings.Contains(string(table), fmt.Sprintf(":%04X 00000000:0000", port)) // local port, no remote
		return err
	})
	return yes, err
}

// inDatagrams reads the second line that begins with "Udp:": InDatagrams is its first number (RFC 4113).
func inDatagrams(snmp string) (uint64, error) {
	lines := strings.Split(snmp, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "Udp: InDatagrams") && i+1 < len(lines) {
			first, _, _ := strings.Cut(strings.TrimPrefix(lines[i+1], "Udp: "), " ")
			return strconv.ParseUint(first, 10, 64)
		}
	}
	return 0, errors.New("natlab: no UDP counters in the kernel's SNMP table")
}

// SetLink takes the machine off its networks (false), or puts it back (true), as pulling its cable does. The kernel
// forgets the default route with the link; it comes back with it.
func (m *Machine) SetLink(up bool) error {
	h, err := netlink.NewHandleAt(m.ns)
	if err != nil {
		return fmt.Errorf("natlab: link of %s: %w", m.Name, err)
	}
	defer h.Close()
	for _, name := range m.links {
		l, err := h.LinkByName(name)
		if err != nil {
			return fmt.Errorf("natlab: link of %s: %w", m.Name, err)
		}
		set := h.LinkSetDown
		if up {
			set = h.LinkSetUp
		}
		if err := set(l); err != nil {
			return fmt.Errorf("natlab: link of %s: %w", m.Name, err)
		}
	}
	if up {
		return m.route(h)
	}
	return nil
}

// Readdress gives the machine another address of the same network in place of Addr, as a change from one access point to another
// does; existing sockets keep the old one. What the lab's other machines have under /etc/hosts is not changed.
func (m *Machine) Readdress(addr netip.Addr) error {
	return m.with(func(h *netlink.Handle) error {
		link, err := h.LinkByName(m.links[0])
		if err != nil {
			return err
		}
		have, err := h.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		for _, old := range have {
			if err := h.AddrDel(link, &old); err != nil {
				return fmt.Errorf("address %v: %w", old.IP, err)
			}
			old.IPNet = &net.IPNet{IP: addr.AsSlice(), Mask: old.Mask}
			old.Broadcast, old.Label = nil, ""
			if err := h.AddrAdd(link, &old); err != nil {
				return fmt.Errorf("address %v: %w", addr, err)
			}
		}
		m.Addr = addr
		return m.route(h)
	})
}

// route gives the machine its default route, if it has one.
func (m *Machine) route(h *netlink.Handle) error {
	if !m.gateway.IsValid() {
		return nil
	}
	err := h.RouteReplace(&netlink.Route{Gw: m.gateway.AsSlice()})
	if err != nil {
		return fmt.Errorf("natlab: default route of %s: %w", m.Name, err)
	}
	return nil
}

// close ends the machine's thread, and with it what Start began.
func (m *Machine) close() {
	close(m.end)
	m.ns.Close()
}

// writeEtc writes the machine's own files of names: itself, what it knows, and a resolver that is not there.
func writeEtc(dir, self string, addr netip.Addr, names map[string]netip.Addr) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var hosts strings.Builder
	fmt.Fprintf(&hosts, "127.0.0.1 localhost\n%v %s\n", addr, self)
	known := make([]string, 0, len(names))
	for name := range names {
		known = append(known, name)
	}
	slices.Sort(known)
	for _, name := range known {
		fmt.Fprintf(&hosts, "%v %s\n", names[name], name)
	}
	if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte(hosts.String()), 0o644); err != nil {
		return err
	}
	// Nothing listens on the loopback's port 53: each query is refused at once, inside the namespace.
	return os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"), 0o644)
}
