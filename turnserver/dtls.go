package turnserver

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/jirani/jirani/turnserver/relay"
	"github.com/pion/dtls/v3"
)

// maxRecord is the longest DTLS record's content, in bytes.
const maxRecord = 16 << 10

// dtlsConn is a client's DTLS association: one record holds one STUN or ChannelData message.
type dtlsConn struct {
	srv   *Server
	lis   *listener
	nc    net.Conn
	tuple fiveTuple
	alloc atomic.Pointer[alloc]
}

func (c *dtlsConn) realm() string            { return c.lis.realmName() }
func (c *dtlsConn) fiveTuple() fiveTuple     { return c.tuple }
func (c *dtlsConn) allocation() *alloc       { return c.alloc.Load() }
func (c *dtlsConn) adopt(a *alloc) bool      { return c.alloc.CompareAndSwap(nil, a) }
func (c *dtlsConn) disown(a *alloc)          { c.alloc.CompareAndSwap(a, nil) }
func (c *dtlsConn) socket() *relay.Socket    { return nil }
func (c *dtlsConn) detach(u *udpRelay)       { u.sock.Close() }
func (c *dtlsConn) attach(u *udpRelay) error { return c.srv.pumpTo(u, c.reply, true) }

func (c *dtlsConn) reply(b []byte) {
	_ = c.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, _ = c.nc.Write(b) // lost like any datagram; a dead association ends by its reader
}

// openDTLS listens. The library answers a first ClientHello with a cookie and keeps nothing before the cookie comes back.
func (l *listener) openDTLS() error {
	certificate := func(hello *dtls.ClientHelloInfo) (*tls.Certificate, error) {
		return l.srv.tls.GetCertificate(&tls.ClientHelloInfo{ServerName: hello.ServerName})
	}
	ln, err := dtls.ListenWithOptions(udpNetwork(l.addr.Addr()), net.UDPAddrFromAddrPort(l.addr), dtls.WithGetCertificate(certificate))
	if err != nil {
		return err
	}
	l.packets, l.addr = ln, unmap(ln.Addr().(*net.UDPAddr).AddrPort())
	return nil
}

// acceptDTLS takes associations until the listener is closed. They end with it: they share its socket.
func (l *listener) acceptDTLS(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		conn, err := l.packets.Accept()
		if err != nil {
			if ctx.Err() != nil || l.closed.Load() {
				return nil
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(acceptPause):
				continue
			}
		}
		l.admitDTLS(ctx, conn)
	}
}

func (l *listener) admitDTLS(ctx context.Context, conn net.Conn) {
	s := l.srv
	client := unmap(conn.RemoteAddr().(*net.UDPAddr).AddrPort())
	if !s.enter(client.Addr(), false) {
		s.metrics.refused(refusedConnections)
		conn.Close()
		return
	}
	go func() { // ends when the association does
		defer s.background.Done()
		defer s.leave()
		c := &dtlsConn{srv: s, lis: l, nc: conn, tuple: fiveTuple{transportDTLS, client, l.addr}}
		c.serve(ctx)
	}()
}

func (c *dtlsConn) serve(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { c.nc.Close() })
	defer stop()
	defer c.nc.Close()
	stranger := true
	leave := func() {
		if stranger {
			stranger = false
			c.srv.strangers.Give(site(c.tuple.client.Addr()))
		}
	}
	defer leave()
	defer func() {
		if a := c.alloc.Load(); a != nil {
			a.end()
		}
	}()
	timeout := c.srv.cfg.Limits.UnauthenticatedTimeout
	_ = c.nc.SetReadDeadline(time.Now().Add(timeout))
	if d, ok := c.nc.(*dtls.Conn); ok {
		hctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		if d.HandshakeContext(hctx) != nil {
			c.srv.metrics.refused(refusedSlow)
			return
		}
	}
	buf := make([]byte, maxRecord)
	for {
		n, err := c.nc.Read(buf)
		if err != nil {
			return
		}
		c.record(buf[:n])
		if c.alloc.Load() != nil {
			leave()
			// Permissions are renewed more often than this; an association that is silent longer has gone.
			_ = c.nc.SetReadDeadline(time.Now().Add(c.srv.cfg.Limits.MaxLifetime))
		}
	}
}

func (c *dtlsConn) record(b []byte) {
	switch {
	case len(b) >= channelHeader && b[0]&0xC0 == 0x40:
		if a := c.alloc.Load(); a != nil {
			out := relay.TakeOut()
			a.channelData(out, b, time.Now())
			c.srv.metrics.unsent(out.Release())
		}
	case len(b) >= 20 && b[0]&0xC0 == 0:
		c.srv.handle(c, b)
	default:
		c.srv.metrics.refused(refusedMalformed)
	}
}

func udpNetwork(a netip.Addr) string {
	if a.Is4() {
		return "udp4"
	}
	return "udp6"
}
