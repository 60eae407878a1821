package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/jirani/jirani/peer/turnclient"
)

// TURNConfig says which server to check and as whom.
type TURNConfig struct {
	Server             turnclient.Server
	Username, Password string
	TLS                *tls.Config   // nil trusts the system's authorities; the certificate has to be for the server's host
	Network            string        // ip, ip4 or ip6: which addresses of the server to use; "" is ip, IPv4 first
	Timeout            time.Duration // for each step, 1s at least; 0 is ten seconds
	Observe            func(Step)    // called after each step, if set
	// Dial connects to the server and to relayed addresses; nil is net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// timing has a request given up within some eight seconds: a person waits.
var timing = turnclient.Timing{Rc: 4, Rm: 8, Stream: 8 * time.Second}

// TURN checks a TURN server within ctx.
func TURN(ctx context.Context, cfg TURNConfig) Report {
	c := &turnCheck{TURNConfig: cfg}
	c.report = Report{Server: cfg.Server.String(), OK: true, observe: cfg.Observe}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Network == "" {
		c.Network = "ip"
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	c.run(ctx)
	return c.report
}

// turnCheck is one check under way.
type turnCheck struct {
	TURNConfig
	report Report
	addr   netip.AddrPort // of the server
	client *turnclient.Client
}

func (c *turnCheck) run(ctx context.Context) {
	if !c.step(ctx, "resolve", c.resolve) || !c.step(ctx, "connect", c.connect) {
		return
	}
	defer c.client.Close()
	if !c.step(ctx, "binding", c.binding) {
		return
	}
	if !c.datagrams(ctx) || c.Server.Transport == turnclient.UDP || c.Server.Transport == turnclient.DTLS {
		return
	}
	c.streams(ctx)
}

func (c *turnCheck) step(ctx context.Context, name string, try func(context.Context) (string, error)) bool {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	return c.report.step(ctx, name, try)
}

func (c *turnCheck) resolve(ctx context.Context) (string, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, c.Network, c.Server.Host)
	if err != nil {
		return "", err
	}
	var all []string
	for _, a := range addrs {
		a = a.Unmap()
		all = append(all, a.String())
		if !c.addr.IsValid() || a.Is4() && !c.addr.Addr().Is4() {
			c.addr = netip.AddrPortFrom(a, c.Server.Port)
		}
	}
	return strings.Join(all, ", "), nil
}

// dial makes a client of the address that was resolved.
func (c *turnCheck) dial(ctx context.Context) (*turnclient.Client, error) {
	return turnclient.Dial(ctx, c.Server, turnclient.Config{Username: c.Username, Password: c.Password, TLS: c.TLS, Timing: timing,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return c.Dial(ctx, network, c.addr.String())
		}})
}

func (c *turnCheck) connect(ctx context.Context) (detail string, err error) {
	if c.client, err = c.dial(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%v from %v", c.client.ServerAddr(), c.client.LocalAddr()), nil
}

func (c *turnCheck) binding(ctx context.Context) (string, error) {
	reflexive, err := c.client.Binding(ctx)
	if err != nil {
		return "", err
	}
	c.report.Reflexive, c.report.NAT = reflexive.String(), "translated"
	detail := fmt.Sprintf("seen as %v, which is not this host's own address: a NAT is in between", reflexive)
	if local, err := netip.ParseAddrPort(c.client.LocalAddr().String()); err == nil && local.Addr().Unmap() == reflexive.Addr() {
		c.report.NAT, detail = "none", fmt.Sprintf("seen as %v: no NAT in between", reflexive)
	}
	return detail, nil
}

// datagrams checks an allocation for datagrams: data from a second allocation, as between two clients of this relay, and from outside, as
// from a peer that has none.
func (c *turnCheck) datagrams(ctx context.Context) bool {
	var one, two *turnclient.Allocation
	if !c.step(ctx, "allocate", func(ctx context.Context) (detail string, err error) {
		if one, err = c.client.Allocate(ctx, turnclient.Options{}); err != nil {
			return "", err
		}
		c.report.Relayed = one.LocalAddr().String()
		return "relayed address " + c.report.Relayed, nil
	}) {
		return false
	}
	defer one.Close()
	if !c.step(ctx, "permission", func(ctx context.Context) (string, error) {
		return "for " + one.Mapped().Addr().String(), one.CreatePermission(ctx, one.Mapped())
	}) {
		return false
	}
	var second *turnclient.Client
	if !c.step(ctx, "relay", func(ctx context.Context) (detail string, err error) {
		if second, err = c.dial(ctx); err != nil {
			return "", err
		}
		if two, err = second.Allocate(ctx, turnclient.Options{}); err != nil {
			return "", err
		}
		return relayToRelay(ctx, one, two)
	}) {
		if second != nil {
			second.Close()
		}
		return false
	}
	defer second.Close()
	c.step(ctx, "outside", func(ctx context.Context) (string, error) { return c.fromOutside(ctx, one) })
	return true
}

// relayToRelay sends a datagram from one relayed address to the other, and one back over a channel.
func relayToRelay(ctx context.Context, one, two *turnclient.Allocation) (string, error) {
	if err := one.CreatePermission(ctx, two.Relayed()[0]); err != nil {
		return "", err
	}
	if err := two.BindChannel(ctx, one.Relayed()[0]); err != nil {
		return "", err
	}
	took, err := exchange(ctx, one, two, two.LocalAddr())
	return fmt.Sprintf("%v and %v reach each other, %v there and back", one.LocalAddr(), two.LocalAddr(), took), err
}

// fromOutside sends a datagram from a socket of this host to the relayed address.
func (c *turnCheck) fromOutside(ctx context.Context, one *turnclient.Allocation) (string, error) {
	out, err := c.Dial(ctx, "udp", one.LocalAddr().String())
	if err != nil {
		return "", err
	}
	defer out.Close()
	took, err := exchange(ctx, connected{out}, one, one.LocalAddr())
	return fmt.Sprintf("%v reached by UDP without the relay's help, %v there and back", one.LocalAddr(), took), err
}

// connected is a socket with one peer.
type connected struct{ net.Conn }

func (c connected) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }

func (c connected) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.Read(b)
	return n, c.RemoteAddr(), err
}

const (
	ping  = "jirani turn check: there"
	pong  = "jirani turn check: and back"
	again = 500 * time.Millisecond // a datagram that may be lost is sent again
)

// exchange sends from a to b and back to where it came from, and returns how long that took.
func exchange(ctx context.Context, a, b net.PacketConn, to net.Addr) (time.Duration, error) {
	deadline, _ := ctx.Deadline()
	buf := make([]byte, 100)
	for {
		began := time.Now()
		wait := began.Add(again)
		_ = a.SetReadDeadline(wait)
		_ = b.SetReadDeadline(wait)
		if _, err := a.WriteTo([]byte(ping), to); err != nil {
			return 0, relayError{err}
		}
		err := swap(a, b, buf)
		if err == nil {
			return time.Since(began).Round(10 * time.Microsecond), nil
		}
		if wait.After(deadline) || ctx.Err() != nil {
			return 0, relayError{err}
		}
	}
}

func swap(a, b net.PacketConn, buf []byte) error {
	n, from, err := b.ReadFrom(buf)
	if err != nil {
		return err
	}
	if string(buf[:n]) != ping {
		return errors.New("something else came through")
	}
	if _, err := b.WriteTo([]byte(pong), from); err != nil {
		return err
	}
	if n, _, err = a.ReadFrom(buf); err == nil && string(buf[:n]) != pong {
		err = errors.New("something else came back")
	}
	return err
}
