package turnserver

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jirani/jirani/turnserver/relay"
)

// udpBuffer is the kernel buffer of each UDP listening socket and direction, in bytes: some milliseconds of a full gigabit.
const udpBuffer = 4 << 20

// listener is one address of one kind of transport.
type listener struct {
	srv       *Server
	spot      spot
	transport transport
	addr      netip.AddrPort // with the port the system chose, if it was to
	away      time.Time      // since when the host has not had the address; zero while it has. Guarded by Server.placesMu.
	closed    atomic.Bool
	realm     string         // "" = the default
	proxies   []netip.Prefix // whose connections begin with a PROXY header
	stream    net.Listener   // for tcp, tls
	packets   net.Listener   // for dtls
	workers   []*udpWorker   // for udp
}

func (l *listener) realmName() string {
	if l.realm != "" {
		return l.realm
	}
	return l.srv.realms.Load().first
}

func (l *listener) open(ctx context.Context) error {
	switch l.transport {
	case transportUDP:
		return l.openUDP()
	case transportDTLS:
		return l.openDTLS()
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, tcpNetwork(l.addr.Addr()), l.addr.String())
	if err != nil {
		return err
	}
	l.stream, l.addr = ln, unmap(ln.Addr().(*net.TCPAddr).AddrPort())
	return nil
}

func (l *listener) openUDP() error {
	if l.addr.Port() != 0 { // the loops' sockets share the port with each other and with what a stopping server keeps; nobody else may hold it
		alone, err := relay.Listen(l.addr, relay.SocketConfig{})
		switch {
		case err == nil:
			alone.Close()
		case !errors.Is(err, syscall.EADDRINUSE) || relay.Listening(l.addr):
			return err
		}
	}
	for _, loop := range l.srv.loops {
		sock, err := relay.Listen(l.addr, relay.SocketConfig{ReusePort: true, Buffer: udpBuffer, Single: l.srv.kernel.wants(l.addr.Addr())})
		if err != nil {
			return err
		}
		l.addr = sock.LocalAddr()
		w := &udpWorker{srv: l.srv, lis: l, loop: loop, sock: sock, clients: make(map[netip.AddrPort]*alloc)}
		l.workers = append(l.workers, w)
	}
	for _, w := range l.workers { // each may be asked by the others from now on
		if err := w.loop.Add(w.sock, w); err != nil {
			return err
		}
	}
	return nil
}

// close stops taking new clients; for datagrams, all.
func (l *listener) close() {
	l.closed.Store(true)
	for _, ln := range []net.Listener{l.stream, l.packets} {
		if ln != nil {
			ln.Close()
		}
	}
	for _, w := range l.workers {
		w.loop.Remove(w.sock)
	}
}

// release gives the address to whoever listens there next, and keeps the clients there are; but not those of DTLS.
func (l *listener) release() {
	if l.transport != transportUDP {
		l.close()
		return
	}
	for _, w := range l.workers {
		w.release()
	}
}

// accept takes stream connections until the listener is closed.
func (l *listener) accept(ctx context.Context) error {
	for {
		conn, err := l.stream.Accept()
		if err == nil {
			l.admit(ctx, conn)
			continue
		}
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return nil
		}
		select { // out of descriptors, most likely: those there are stay
		case <-ctx.Done():
			return nil
		case <-time.After(acceptPause):
		}
	}
}

// admit serves a connection in a goroutine of its own, if there is room.
func (l *listener) admit(ctx context.Context, conn net.Conn) {
	s := l.srv
	client := unmap(conn.RemoteAddr().(*net.TCPAddr).AddrPort())
	tuple := fiveTuple{l.transport, client, unmap(conn.LocalAddr().(*net.TCPAddr).AddrPort())}
	proxied := slices.ContainsFunc(l.proxies, func(p netip.Prefix) bool { return p.Contains(client.Addr()) })
	if len(l.proxies) > 0 && !proxied || !s.enter(client.Addr(), proxied) {
		s.metrics.refused(refusedConnections)
		reset(conn.(*net.TCPConn))
		return
	}
	go func() { // ends when the connection does
		defer s.background.Done()
		defer s.leave()
		c := &streamConn{srv: s, lis: l, nc: conn, tuple: tuple, entered: !proxied}
		if l.prepare(ctx, c, proxied) {
			c.serve(ctx)
		}
	}()
}

// prepare reads the PROXY header and completes TLS. On failure it closes the connection.
func (l *listener) prepare(ctx context.Context, c *streamConn, proxied bool) bool {
	s, timeout := l.srv, l.srv.cfg.Limits.UnauthenticatedTimeout
	stop := context.AfterFunc(ctx, func() { c.nc.Close() })
	defer stop()
	if proxied {
		client, err := readProxyHeader(c.nc, time.Now().Add(timeout))
		if err != nil {
			s.metrics.refused(refusedProxyProtocol)
			reset(c.nc.(*net.TCPConn))
			return false
		}
		if client.IsValid() {
			c.tuple.client = client
		}
		if !s.strangers.Take(site(c.tuple.client.Addr())) {
			s.metrics.refused(refusedConnections)
			c.nc.Close()
			return false
		}
		c.entered = true
	}
	if l.transport == transportTLS {
		c.nc = tls.Server(c.nc, s.tls)
		if err := c.handshake(ctx, timeout); err != nil {
			s.metrics.refused(refusedSlow)
			c.leaveStrangers()
			c.nc.Close()
			return false
		}
	}
	return true
}
