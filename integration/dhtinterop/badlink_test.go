package dhtinterop

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jirani/jirani/integration/dhtinterop/theirs"
	"github.com/jirani/jirani/internal/natlab"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// place is where nodes run: in this namespace, or on a machine of a lab.
type place struct {
	addr    netip.Addr
	machine *natlab.Machine // nil = here
}

var here = place{addr: loopback.Addr()}

// do runs f there. It must not end the test.
func (p place) do(f func() error) error {
	if p.machine == nil {
		return f()
	}
	return p.machine.Do(f)
}

// starter starts programs there.
func (p place) starter() theirs.Starter {
	if p.machine == nil {
		return nil
	}
	return p.machine.Start
}

// at is the address of somebody there.
func (p place) at(port int) string { return fmt.Sprintf("%v:%d", p.addr, port) }

// link is what happens to the packets between two places.
type link struct {
	loss, twice   float64 // share of packets
	delay, jitter time.Duration
}

// joined returns two places with nothing but a link between them: a TUN device in each of two namespaces, and this process in the middle.
// The kernel's own means (netem) are not in every kernel.
func joined(t testing.TB, l link) (a, b place) {
	t.Helper()
	natlab.Require(t)
	lab := natlab.New(t, natlab.OneLAN("badlink"))
	a = place{netip.MustParseAddr("10.78.0.1"), lab.Host("alice")}
	b = place{netip.MustParseAddr("10.78.0.2"), lab.Host("bob")}
	atA, err := a.tunnel()
	check(t, err)
	atB, err := b.tunnel()
	check(t, err)
	var wg sync.WaitGroup
	wg.Go(func() { l.carry(atA, atB) })
	wg.Go(func() { l.carry(atB, atA) })
	t.Cleanup(func() {
		atA.Close()
		atB.Close()
		wg.Wait()
	})
	return a, b
}

// tunnel makes a TUN device with the place's address there.
func (p place) tunnel() (file *os.File, err error) {
	err = p.machine.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("tun: %w", err)
		}
		if err := attach(fd, tunName); err != nil {
			unix.Close(fd)
			return fmt.Errorf("tun: %w", err)
		}
		file = os.NewFile(uintptr(fd), tunName) // after attaching: the poller would not hear of packets otherwise
		dev, err := netlink.LinkByName(tunName)
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(p.addr.String() + "/24")
		if err != nil {
			return err
		}
		return errors.Join(netlink.AddrAdd(dev, addr), netlink.LinkSetUp(dev))
	})
	return file, err
}

const tunName = "bad0"

func attach(fd int, name string) error {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	return unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
}

// carry takes packets from one end to the other until an end is closed.
func (l link) carry(from, to *os.File) {
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if rand.Float64() < l.loss {
			continue
		}
		packet := append([]byte(nil), buf[:n]...)
		l.deliver(to, packet)
		if rand.Float64() < l.twice {
			l.deliver(to, packet)
		}
	}
}

// deliver writes a packet after its time; those of less delay overtake it.
func (l link) deliver(to *os.File, packet []byte) {
	wait := l.delay
	if l.jitter > 0 {
		wait += rand.N(l.jitter)
	}
	time.AfterFunc(wait, func() { to.Write(packet) })
}
