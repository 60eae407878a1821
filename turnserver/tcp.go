package turnserver

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/jirani/jirani/turnserver/policy"
	"github.com/jirani/jirani/turnserver/relay"
	"github.com/pion/stun/v3"
	"golang.org/x/sys/unix"
)

const (
	bindTimeout    = 30 * time.Second // RFC 6062 §5.2, §5.3: for a peer connection to be bound
	connectTimeout = 30 * time.Second // RFC 6062 §5.2
	acceptPause    = 100 * time.Millisecond
)

// tcpRelay is the relayed transport address of a TCP allocation (RFC 6062): a listener for peers, and the connections to them.
type tcpRelay struct {
	alloc *alloc
	host  *relayHost
	port  uint16
	ln    *net.TCPListener
	life  context.Context // done when the allocation has ended
	end   context.CancelFunc

	mu    sync.Mutex // guards what follows; taken before Server.mu
	peers map[*peerConn]struct{}
	shut  bool
}

// peerConn is one connection to a peer. Bytes that come before the client has bound it wait in the kernel.
type peerConn struct {
	relay *tcpRelay
	peer  netip.AddrPort
	id    uint32       // CONNECTION-ID, 0 while a Connect is under way
	conn  *net.TCPConn // nil while a Connect is under way
	timer *time.Timer  // drops it when it is not bound in time
}

func (t *tcpRelay) relayed() netip.AddrPort { return netip.AddrPortFrom(t.host.external, t.port) }

// furnishTCP gives a a relayed transport address for TCP.
func (s *Server) furnishTCP(a *alloc, host *relayHost) *failure {
	for range bindAttempts {
		port, err := host.tcp.Take()
		if err != nil {
			break
		}
		lc := net.ListenConfig{Control: s.shareable}
		ln, err := lc.Listen(s.life, tcpNetwork(host.local), netip.AddrPortFrom(host.local, port).String())
		if err == nil {
			a.tcp = &tcpRelay{alloc: a, host: host, port: port, ln: ln.(*net.TCPListener), peers: make(map[*peerConn]struct{})}
			a.tcp.life, a.tcp.end = context.WithCancel(s.life)
			return nil
		}
		host.tcp.Give(port)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return &failure{stun.CodeInsufficientCapacity, refusedSockets}
		}
	}
	return &failure{stun.CodeInsufficientCapacity, refusedPorts}
}

// shareable lets outgoing connections leave from a port that is listened on, which Connect needs.
func (s *Server) shareable(_, _ string, rc syscall.RawConn) (err error) {
	if !s.cfg.Relay.TCPConnect {
		return nil
	}
	if cerr := rc.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); cerr != nil {
		return cerr
	}
	return err
}

func tcpNetwork(a netip.Addr) string {
	if a.Is4() {
		return "tcp4"
	}
	return "tcp6"
}

func (t *tcpRelay) start() *failure {
	if !t.alloc.srv.begin() {
		return &failure{stun.CodeInsufficientCapacity, refusedDraining}
	}
	go t.accept()
	return nil
}

// accept takes connections of peers until the listener is closed. Running out of descriptors makes it pause, not end.
func (t *tcpRelay) accept() {
	defer t.alloc.srv.background.Done()
	for {
		conn, err := t.ln.AcceptTCP()
		if err == nil {
			t.arrived(conn)
			continue
		}
		select {
		case <-t.life.Done():
			return
		case <-time.After(acceptPause):
		}
	}
}

// arrived is RFC 6062 §5.3. A peer without permission is reset: docs/protocols/turn-usage.md §4.
func (t *tcpRelay) arrived(conn *net.TCPConn) {
	a := t.alloc
	peer := a.srv.outward(unmap(conn.RemoteAddr().(*net.TCPAddr).AddrPort()))
	a.mu.Lock()
	verdict, ok := a.permitted(peer, true, time.Now())
	a.mu.Unlock()
	if ok && a.srv.released.Load() { // its data connection would come to the next server
		a.srv.metrics.refused(refusedDraining)
		reset(conn)
		return
	}
	if !ok {
		if verdict != policy.Allowed {
			a.srv.metrics.policyDropped(verdict)
		}
		a.srv.metrics.refused(refusedPeerPermission)
		reset(conn)
		return
	}
	p := &peerConn{relay: t, peer: peer}
	if !t.enter(p) {
		a.srv.metrics.refused(refusedTooMany)
		reset(conn)
		return
	}
	if !t.offer(p, conn) {
		return
	}
	a.link.reply(connectionAttempt(p))
}

func connectionAttempt(p *peerConn) []byte {
	ind := &request{msg: stun.New()}
	_ = ind.msg.NewTransactionID()
	ind.msg.Type.Method = stun.MethodConnectionAttempt
	return ind.answer(stun.ClassIndication, nil).uint32(stun.AttrConnectionID, p.id).address(stun.AttrXORPeerAddress, p.peer).seal()
}

// reset closes a connection so that the other end sees RST.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	conn.Close()
}

// enter counts p among the peers, unless there are enough.
func (t *tcpRelay) enter(p *peerConn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shut || len(t.peers) >= t.alloc.srv.cfg.Limits.PeersPerAllocation {
		return false
	}
	t.peers[p] = struct{}{}
	return true
}

// offer gives p its connection and a CONNECTION-ID, under which a client may bind it for 30 seconds. It reports false, and has closed the
// connection, when the allocation has ended.
func (t *tcpRelay) offer(p *peerConn, conn *net.TCPConn) bool {
	s := t.alloc.srv
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shut {
		reset(conn)
		return false
	}
	p.conn = conn
	s.mu.Lock()
	for p.id == 0 || s.pending[p.id] != nil {
		p.id = rand.Uint32()
	}
	p.timer = time.AfterFunc(bindTimeout, func() { // before others can find p
		if s.claim(p.id, p) {
			s.metrics.refused(refusedSlow)
			t.leave(p)
		}
	})
	s.pending[p.id] = p
	s.mu.Unlock()
	return true
}

// leave resets p's connection, unless it is closed, and forgets it.
func (t *tcpRelay) leave(p *peerConn) {
	t.mu.Lock()
	delete(t.peers, p)
	t.mu.Unlock()
	if p.conn != nil {
		reset(p.conn)
	}
}

// close resets the allocation's connections; those that are bound, their pipes do.
func (t *tcpRelay) close() {
	t.mu.Lock()
	if t.shut {
		t.mu.Unlock()
		return
	}
	t.shut = true
	t.end()
	t.ln.Close()
	for p := range t.peers {
		if p.id != 0 && t.alloc.srv.claim(p.id, p) {
			p.timer.Stop()
			reset(p.conn)
		}
	}
	clear(t.peers)
	t.mu.Unlock()
	t.host.tcp.Give(t.port)
}

// claim takes p from the table of unbound connections. Only one caller gets it.
func (s *Server) claim(id uint32, p *peerConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending[id] != p {
		return false
	}
	delete(s.pending, id)
	return true
}

// connectionBind is RFC 6062 §5.4. After the answer the client's connection is a pipe to the peer.
func (s *Server) connectionBind(l link, r *request, id *identity) *failure {
	conn, ok := l.(*streamConn)
	if !ok || r.malformed || r.connectionID < 0 || l.allocation() != nil {
		return &failure{stun.CodeBadRequest, refusedConnectionID}
	}
	s.mu.Lock()
	p := s.pending[uint32(r.connectionID)]
	s.mu.Unlock()
	if p == nil {
		return &failure{stun.CodeBadRequest, refusedConnectionID}
	}
	if owner := p.relay.alloc.id; owner.user != id.user || owner.realm != id.realm {
		return &failure{stun.CodeWrongCredentials, refusedUser}
	}
	if !s.claim(p.id, p) {
		return &failure{stun.CodeBadRequest, refusedConnectionID}
	}
	p.timer.Stop()
	l.reply(r.answer(stun.ClassSuccessResponse, id).seal()) // before any byte of the peer
	conn.handOver(p)
	return nil
}

// carry joins the client's data connection and the peer until either ends. early is what the client sent right behind its request.
func (p *peerConn) carry(client net.Conn, early []byte) {
	defer p.relay.leave(p)
	a := p.relay.alloc
	if len(early) > 0 {
		_ = p.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := p.conn.Write(early); err != nil {
			client.Close()
			return
		}
		_ = p.conn.SetWriteDeadline(time.Time{})
		a.streamed(&a.up, len(early))
	}
	relay.Pipe(p.relay.life, client, p.conn,
		func(n int) time.Duration { a.streamed(&a.up, n); return delay(&a.shape.up, n, time.Now()) },
		func(n int) time.Duration { a.streamed(&a.down, n); return delay(&a.shape.down, n, time.Now()) })
}

func (a *alloc) streamed(t *traffic, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t.bytes += uint64(n)
}

// connect is RFC 6062 §5.2, for clients other than Jami's, where the operator allows it.
func (s *Server) connect(l link, r *request, id *identity, a *alloc) *failure {
	switch {
	case a.tcp == nil || len(r.peers) != 1 || r.peers[0].Port() == 0:
		return &failure{stun.CodeBadRequest, refusedMalformed}
	case !s.cfg.Relay.TCPConnect:
		return &failure{stun.CodeForbidden, refusedForbidden}
	}
	peer := r.peers[0]
	if !a.hasFamily(peer.Addr()) {
		return &failure{stun.CodePeerAddrFamilyMismatch, refusedFamily}
	}
	if v := s.judge(peer.Addr()); v != policy.Allowed && (v != policy.Own || !s.relayedHere(peer, true)) {
		return &failure{stun.CodeForbidden, refusedForbidden}
	}
	p := &peerConn{relay: a.tcp, peer: peer}
	if a.tcp.knows(peer) {
		return &failure{stun.CodeConnAlreadyExists, refusedConnect}
	}
	if !a.tcp.enter(p) {
		return &failure{stun.CodeInsufficientCapacity, refusedTooMany}
	}
	if !s.begin() {
		a.tcp.leave(p)
		return &failure{stun.CodeInsufficientCapacity, refusedDraining}
	}
	go func() { // ends with the attempt, or with the server
		defer s.background.Done()
		if f := s.dialPeer(l, r, id, p); f != nil {
			a.tcp.leave(p)
			s.refuse(l, r, id, *f)
		}
	}()
	return nil
}

func (t *tcpRelay) knows(peer netip.AddrPort) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for p := range t.peers {
		if p.peer == peer {
			return true
		}
	}
	return false
}

func (s *Server) dialPeer(l link, r *request, id *identity, p *peerConn) *failure {
	t := p.relay
	d := net.Dialer{Timeout: connectTimeout, Control: s.shareable,
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(t.host.local, t.port))}
	conn, err := d.DialContext(s.life, tcpNetwork(p.peer.Addr()), s.inward(p.peer).String())
	if err != nil {
		return &failure{stun.CodeConnTimeoutOrFailure, refusedConnect}
	}
	if !t.offer(p, conn.(*net.TCPConn)) {
		return &failure{stun.CodeAllocMismatch, refusedMismatch}
	}
	l.reply(r.answer(stun.ClassSuccessResponse, id).uint32(stun.AttrConnectionID, p.id).seal())
	return nil
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
