package turnserver

import (
	"crypto/rand"
	"errors"
	"net/netip"
	"syscall"
	"time"

	"github.com/jirani/jirani/turnserver/relay"
	"github.com/pion/stun/v3"
)

// reservationTTL is how long the second port of a pair waits for its allocation (RFC 8656 §7.2: 30 seconds at least).
const reservationTTL = 30 * time.Second

// bindAttempts is how many ports are tried before giving up: other programs of the host may hold some of the range.
const bindAttempts = 32

// allocate is RFC 8656 §7.2 from its second step on, and RFC 6062 §5.1. A copy of the request that made the allocation gets its answer
// again.
func (s *Server) allocate(l link, r *request, id *identity) *failure {
	if a := l.allocation(); a != nil {
		if a.txid == r.msg.TransactionID && a.id == *id {
			s.answerAllocate(a, r, id)
			return nil
		}
		return &failure{stun.CodeAllocMismatch, refusedMismatch}
	}
	if f := s.checkAllocate(l, r); f != nil {
		return f
	}
	a := &alloc{srv: s, link: l, tuple: l.fiveTuple(), id: *id, began: time.Now(), txid: r.msg.TransactionID}
	if f := s.admit(a); f != nil {
		return f
	}
	f := s.furnish(a, r)
	if f == nil && !l.adopt(a) {
		f = &failure{stun.CodeAllocMismatch, refusedMismatch}
	}
	if f != nil {
		a.end()
		return f
	}
	if f := s.start(a); f != nil {
		a.end()
		return f
	}
	s.answerAllocate(a, r, id)
	return nil
}

// checkAllocate looks at the request alone.
func (s *Server) checkAllocate(l link, r *request) *failure {
	bad := &failure{stun.CodeBadRequest, refusedMalformed}
	overStream := l.fiveTuple().transport == transportTCP || l.fiveTuple().transport == transportTLS
	switch {
	case r.malformed || r.protocol < 0:
		return bad
	case r.protocol != protocolUDP && (r.protocol != protocolTCP || !s.cfg.Relay.TCP):
		return &failure{stun.CodeUnsupportedTransProto, refusedTransport}
	case r.protocol == protocolTCP && (!overStream || r.evenPort >= 0 || r.reservation != nil || r.dontFragment):
		return bad // RFC 6062 §5.1
	case r.protocol == protocolTCP && r.additional >= 0:
		return bad
	case r.reservation != nil && (r.evenPort >= 0 || r.family >= 0 || r.additional >= 0):
		return bad
	case r.family >= 0 && r.additional >= 0, r.evenPort == 1 && r.additional >= 0:
		return bad
	case r.family >= 0 && r.family != familyIPv4 && r.family != familyIPv6:
		return &failure{stun.CodeAddrFamilyNotSupported, refusedFamily}
	case r.additional >= 0 && r.additional != familyIPv6:
		return bad // RFC 8656 §7.2: the additional family can be IPv6 only
	}
	return nil
}

// furnish gives a its relayed transport addresses.
func (s *Server) furnish(a *alloc, r *request) *failure {
	a.expiresAt = a.began.Add(s.lifetime(r))
	if r.reservation != nil {
		return s.furnishReserved(a, r.reservation)
	}
	family := s.defaultFamily(a.tuple)
	if r.family >= 0 {
		family = r.family
	}
	if r.additional >= 0 {
		family = familyIPv4
	}
	host := s.hostFor(a.tuple, family)
	if host == nil && r.additional < 0 {
		return &failure{stun.CodeAddrFamilyNotSupported, refusedFamily}
	}
	if r.protocol == protocolTCP {
		return s.furnishTCP(a, host)
	}
	f := s.furnishUDP(a, host, r.evenPort)
	if r.additional >= 0 {
		second := s.furnishUDP(a, s.hostFor(a.tuple, familyIPv6), -1)
		switch {
		case second == nil && f != nil:
			f, a.failed = nil, familyIPv4
		case second != nil && f == nil:
			a.failed = familyIPv6
		}
	}
	return f
}

// defaultFamily is IPv4 by RFC 8656 §7.2, except where the client came by IPv6 to a server that relays no IPv4.
func (s *Server) defaultFamily(t fiveTuple) int {
	if t.server.Addr().Is6() && s.hostFor(t, familyIPv4) == nil {
		return familyIPv6
	}
	return familyIPv4
}

func (s *Server) furnishUDP(a *alloc, host *relayHost, evenPort int) *failure {
	if host == nil {
		return &failure{stun.CodeAddrFamilyNotSupported, refusedFamily}
	}
	var sock, second *relay.Socket
	var f *failure
	switch evenPort {
	case 1:
		sock, second, f = s.bindPair(host)
	case 0:
		sock, f = s.bindUDP(host, host.udp.TakeEven)
	default:
		sock, f = s.bindUDP(host, host.udp.Take)
	}
	if f != nil {
		return f
	}
	a.udp[familyOf(host.local)-familyIPv4] = &udpRelay{alloc: a, sock: sock, host: host, port: sock.LocalAddr().Port()}
	if second != nil {
		a.token = s.reserve(host, second)
	}
	return nil
}

// bindUDP takes ports until one can be bound.
func (s *Server) bindUDP(host *relayHost, take func() (uint16, error)) (*relay.Socket, *failure) {
	for range bindAttempts {
		port, err := take()
		if err != nil {
			break
		}
		sock, err := s.bind(host, port)
		if err == nil {
			return sock, nil
		}
		host.udp.Give(port)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, &failure{stun.CodeInsufficientCapacity, refusedSockets}
		}
	}
	return nil, &failure{stun.CodeInsufficientCapacity, refusedPorts}
}

// bindPair takes pairs of ports until both can be bound.
func (s *Server) bindPair(host *relayHost) (even, odd *relay.Socket, f *failure) {
	for range bindAttempts {
		port, err := host.udp.TakePair()
		if err != nil {
			break
		}
		if even, err = s.bind(host, port); err == nil {
			if odd, err = s.bind(host, port+1); err == nil {
				return even, odd, nil
			}
			even.Close()
		}
		host.udp.Give(port)
		host.udp.Give(port + 1)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, nil, &failure{stun.CodeInsufficientCapacity, refusedSockets}
		}
	}
	return nil, nil, &failure{stun.CodeInsufficientCapacity, refusedPorts}
}

func (s *Server) bind(host *relayHost, port uint16) (*relay.Socket, error) {
	return relay.Listen(netip.AddrPortFrom(host.local, port), relay.SocketConfig{Buffer: int(s.cfg.Relay.Buffer), Single: s.kernel.wants(host.local)})
}

// reservation is the second socket of a pair, kept for an allocation to come.
type reservation struct {
	host      *relayHost
	sock      *relay.Socket
	expiresAt time.Time
}

// drop gives up what was reserved.
func (r reservation) drop() {
	r.sock.Close()
	r.host.udp.Give(r.sock.LocalAddr().Port())
}

func (s *Server) reserve(host *relayHost, sock *relay.Socket) []byte {
	var token [8]byte
	rand.Read(token[:]) // never fails
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reservations[token] = reservation{host, sock, time.Now().Add(reservationTTL)}
	return token[:]
}

func (s *Server) furnishReserved(a *alloc, token []byte) *failure {
	s.mu.Lock()
	res, ok := s.reservations[[8]byte(token)]
	delete(s.reservations, [8]byte(token))
	s.mu.Unlock()
	if !ok {
		return &failure{stun.CodeInsufficientCapacity, refusedPorts}
	}
	a.udp[familyOf(res.host.local)-familyIPv4] = &udpRelay{alloc: a, sock: res.sock, host: res.host, port: res.sock.LocalAddr().Port()}
	return nil
}

// lifetime is RFC 8656 §7.2: what was asked for, but not less than the default nor more than the most.
func (s *Server) lifetime(r *request) time.Duration {
	asked := time.Duration(max(r.lifetime, 0)) * time.Second
	return min(max(asked, s.cfg.Limits.DefaultLifetime), s.cfg.Limits.MaxLifetime)
}

// start has the relayed transport addresses read.
func (s *Server) start(a *alloc) *failure {
	if a.tcp != nil {
		return a.tcp.start()
	}
	for _, u := range a.udp {
		if u != nil && a.link.attach(u) != nil {
			return &failure{stun.CodeInsufficientCapacity, refusedSockets}
		}
	}
	return nil
}

func (s *Server) answerAllocate(a *alloc, r *request, id *identity) {
	resp := r.answer(stun.ClassSuccessResponse, id)
	a.mu.Lock()
	left := time.Until(a.expiresAt)
	if a.tcp != nil {
		resp.address(stun.AttrXORRelayedAddress, a.tcp.relayed())
	}
	for _, u := range a.udp {
		if u != nil {
			resp.address(stun.AttrXORRelayedAddress, u.relayed())
		}
	}
	a.mu.Unlock()
	resp.lifetime(left)
	resp.address(stun.AttrXORMappedAddress, a.tuple.client)
	if a.token != nil {
		resp.bytes(stun.AttrReservationToken, a.token)
	}
	if a.failed != 0 {
		resp.errorCode(attrAddressErrorCode, byte(a.failed), stun.CodeAddrFamilyNotSupported)
	}
	resp.bytes(stun.AttrSoftware, software)
	a.link.reply(resp.seal())
}

var software = []byte("jirani")
