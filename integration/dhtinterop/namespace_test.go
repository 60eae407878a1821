package dhtinterop

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jirani/jirani/integration/dhtinterop/theirs"
	"github.com/jirani/jirani/integration/program"
	"github.com/jirani/jirani/internal/natlab"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// lan is one network of three machines, with IPv6 addresses fd77::10, ::20 and ::21 of server, alice and bob.
func lan(t *testing.T, ipv4 bool) *natlab.Lab {
	t.Helper()
	theirs.Require(t)
	natlab.Require(t, "dhtnode")
	lab := natlab.New(t, natlab.OneLAN("dhtinterop"))
	for name, addr := range map[string]string{"server": "fd77::10", "alice": "fd77::20", "bob": "fd77::21"} {
		check(t, lab.Host(name).Do(func() error { return onlyAddress(addr, ipv4) }))
	}
	return lab
}

// onlyAddress turns IPv6 on in the namespace of the calling thread, gives its interface an address, and takes the IPv4
// ones away unless they are wanted.
func onlyAddress(addr string, ipv4 bool) error {
	for _, key := range []string{"all", "default"} {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/"+key+"/disable_ipv6", []byte("0"), 0o644)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Type() != "veth" {
			continue
		}
		a, err := netlink.ParseAddr(addr + "/64")
		if err != nil {
			return err
		}
		a.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(l, a); err != nil {
			return err
		}
		old, err := netlink.AddrList(l, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		for i := range old {
			if ipv4 {
				break
			}
			if err := netlink.AddrDel(l, &old[i]); err != nil {
				return err
			}
		}
		if !ipv4 {
			continue
		}
		if err := netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: multicast}); err != nil {
			return fmt.Errorf("multicast route: %w", err)
		}
	}
	return nil
}

var multicast = &net.IPNet{IP: net.IPv4(224, 0, 0, 0).To4(), Mask: net.CIDRMask(4, 32)}

// startBinary runs jirani-bootstrap on a machine of the lab.
func startBinary(t *testing.T, m *natlab.Machine, args ...string) {
	t.Helper()
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "log"))
	check(t, err)
	cmd := exec.Command(program.Build(t, "jirani-bootstrap"), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	check(t, m.Start(cmd))
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if b, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("jirani-bootstrap:\n%s", b)
		}
		log.Close()
	})
}

func TestOnlyIPv6(t *testing.T) {
	lab := lan(t, false)
	startBinary(t, lab.Host("server"), "-set", "listen=[\"[::]:4222\"]", "-set", "network=66", "-set", "ops.listen=")
	entry := netip.MustParseAddrPort("[fd77::10]:4222").String()
	alice := theirs.StartNode(t, theirs.Options{Network: 66, Bootstrap: entry, Start: lab.Host("alice").Start})
	bob := theirs.StartNode(t, theirs.Options{Network: 66, Bootstrap: entry, Start: lab.Host("bob").Start})
	knows(t, alice, 2) // bob through ours
	knows(t, bob, 2)
	_, err := alice.Put("six", "over-six")
	check(t, err)
	holds(t, bob, "six", "over-six")
}

func TestFoundOnTheLAN(t *testing.T) {
	for _, ipv4 := range []bool{true, false} {
		t.Run(fmt.Sprintf("ipv4=%v", ipv4), func(t *testing.T) {
			lab := lan(t, ipv4)
			// Theirs first: ours must find it; then theirs again, which must find ours.
			alice := theirs.StartNode(t, theirs.Options{Network: 67, Discovery: true, Start: lab.Host("alice").Start})
			startBinary(t, lab.Host("server"), "-set", "listen=[0.0.0.0:4222, \"[::]:4222\"]", "-set", "network=67",
				"-set", "ops.listen=", "-set", "lan=true", "-set", "log.level=debug")
			knows(t, alice, 1)
			alice.Kill()
			bob := theirs.StartNode(t, theirs.Options{Network: 67, Discovery: true, Start: lab.Host("bob").Start})
			knows(t, bob, 1)
		})
	}
}
