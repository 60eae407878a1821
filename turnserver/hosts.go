package turnserver

import (
	"net/netip"

	"github.com/jirani/jirani/turnserver/policy"
)

// hostFor returns the address of a family to relay from for a client: the one it reached if that is relayed from, otherwise the first
// that is.
func (s *Server) hostFor(t fiveTuple, family int) *relayHost {
	here := s.here.Load()
	if h := here.hosts[t.server.Addr()]; h != nil && familyOf(h.local) == family {
		return h
	}
	for _, a := range here.from {
		if familyOf(a) == family {
			return here.hosts[a]
		}
	}
	return nil
}

// judge is the policy's verdict on a peer address, own addresses included.
func (s *Server) judge(a netip.Addr) policy.Reason {
	verdict := s.policy.Check(a)
	if verdict == policy.Allowed && !a.IsLoopback() && !s.policy.Listed(a) {
		if _, own := s.here.Load().own[a]; own {
			return policy.Own
		}
	}
	return verdict
}

// relayedHere reports whether peer is a relayed transport address of this server.
func (s *Server) relayedHere(peer netip.AddrPort, tcp bool) bool {
	here := s.here.Load()
	h := here.hosts[peer.Addr()]
	if h == nil {
		h = here.external[peer.Addr()]
	}
	switch {
	case h == nil:
		return false
	case tcp:
		return h.tcp.Taken(peer.Port())
	}
	return h.udp.Taken(peer.Port())
}

// inward replaces the external form of a relayed transport address of this server by the local one: a NAT need not send back what comes
// from its inside.
func (s *Server) inward(peer netip.AddrPort) netip.AddrPort {
	here := s.here.Load()
	if len(here.external) == 0 {
		return peer
	}
	if h := here.external[peer.Addr()]; h != nil && (h.udp.Taken(peer.Port()) || h.tcp.Taken(peer.Port())) {
		return netip.AddrPortFrom(h.local, peer.Port())
	}
	return peer
}

// outward is the inverse of inward, for a source address: other clients know it in its external form.
func (s *Server) outward(src netip.AddrPort) netip.AddrPort {
	here := s.here.Load()
	if len(here.external) == 0 {
		return src
	}
	if h := here.hosts[src.Addr()]; h != nil && (h.udp.Taken(src.Port()) || h.tcp.Taken(src.Port())) {
		return netip.AddrPortFrom(h.external, src.Port())
	}
	return src
}
