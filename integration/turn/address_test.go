package turn

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/jirani/jirani/integration/program"
	"github.com/jirani/jirani/internal/natlab"
	"github.com/pion/logging"
	"github.com/pion/turn/v5"
	"github.com/vishvananda/netlink"
)

// addressPatience bounds the wait for the server to see an address, which takes it five seconds.
const addressPatience = 60 * time.Second

// TestAddressesOfTheHost gives the real program a host whose addresses come and go. What is relayed at one address goes on when another
// vanishes, a new one is served without a restart, and an allocation outlives a short absence of its own.
func TestAddressesOfTheHost(t *testing.T) {
	natlab.Require(t)
	binary := program.Build(t, "jirani-turnserver")
	lab := natlab.New(t, natlab.OneLAN("turnaddr"))
	server, alice, bob := lab.Host("server"), lab.Host("alice"), lab.Host("bob")
	first, second, third := natlab.LANServerAddr, netip.MustParseAddr("10.77.0.11"), netip.MustParseAddr("10.77.0.12")
	address(t, server, second, netlink.AddrAdd)

	cmd := exec.Command(binary, "-set", `listeners=[{address: "0.0.0.0:3478", transports: [udp, tcp]}]`, "-set", "jami_user=on",
		"-set", "policy.lan=true", "-set", "ops.listen=", "-set", "shutdown_timeout=0s")
	cmd.Dir = t.TempDir()
	if err := server.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })

	peer, err := bob.ListenPacket(netip.AddrPortFrom(bob.Addr, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	staying, leaving := reach(t, alice, first), reach(t, alice, second)
	exchange(t, staying, peer)
	exchange(t, leaving, peer)

	address(t, server, second, netlink.AddrDel)
	address(t, server, third, netlink.AddrAdd)
	if exchanges(leaving, peer) {
		t.Error("an address that has vanished still relays: the test shows nothing")
	}
	exchange(t, staying, peer)
	exchange(t, reach(t, alice, third), peer)
	exchange(t, staying, peer)

	address(t, server, second, netlink.AddrAdd)
	exchange(t, leaving, peer)
}

// address adds an address to a machine's interface or takes one away.
func address(t *testing.T, m *natlab.Machine, addr netip.Addr, change func(netlink.Link, *netlink.Addr) error) {
	t.Helper()
	err := m.Do(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			if l.Attrs().Flags&net.FlagLoopback == 0 {
				return change(l, &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(24, 32)}})
			}
		}
		return errors.New("no interface")
	})
	if err != nil {
		t.Fatalf("address %v: %v", addr, err)
	}
}

// reach allocates at an address of the server from a machine, again until the server has seen that it has the address.
func reach(t *testing.T, m *natlab.Machine, server netip.Addr) net.PacketConn {
	t.Helper()
	at := netip.AddrPortFrom(server, 3478).String()
	for deadline := time.Now().Add(addressPatience); ; {
		conn, err := m.ListenPacket(netip.AddrPortFrom(m.Addr, 0))
		if err != nil {
			t.Fatal(err)
		}
		c, err := turn.NewClient(&turn.ClientConfig{STUNServerAddr: at, TURNServerAddr: at, Conn: conn, Username: "ring", Password: "ring",
			Realm: "ring", RTO: 100 * time.Millisecond, LoggerFactory: logging.NewDefaultLoggerFactory()})
		if err != nil {
			t.Fatal(err)
		}
		if err = c.Listen(); err != nil {
			t.Fatal(err)
		}
		relayed, err := c.Allocate()
		if err == nil {
			t.Cleanup(func() { relayed.Close(); c.Close(); conn.Close() })
			if got := relayed.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(); got != server {
				t.Errorf("a client of %v relays from %v", server, got)
			}
			return relayed
		}
		c.Close()
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatalf("no allocation at %v: %v", server, err)
		}
	}
}

// exchange wants a datagram to go to the peer and one to come back, within addressPatience.
func exchange(t *testing.T, relayed, peer net.PacketConn) {
	t.Helper()
	for deadline := time.Now().Add(addressPatience); !exchanges(relayed, peer); {
		if time.Now().After(deadline) {
			t.Fatalf("nothing comes through %v", relayed.LocalAddr())
		}
	}
}

// exchanges tries once.
func exchanges(relayed, peer net.PacketConn) bool {
	deadline := time.Now().Add(500 * time.Millisecond)
	relayed.SetReadDeadline(deadline)
	peer.SetReadDeadline(deadline)
	buf := make([]byte, 100)
	if _, err := relayed.WriteTo([]byte("to the peer"), peer.LocalAddr()); err != nil {
		return false
	}
	for {
		_, from, err := peer.ReadFrom(buf)
		if err != nil {
			return false
		}
		if from.String() != relayed.LocalAddr().String() {
			continue // late, of another allocation
		}
		if _, err := peer.WriteTo([]byte("and back"), from); err != nil {
			return false
		}
		_, _, err = relayed.ReadFrom(buf)
		return err == nil
	}
}
