package turnserver

import (
	"errors"
	"net/netip"

	"github.com/jirani/jirani/internal/hostaddr"
	"github.com/jirani/jirani/internal/logging"
	"github.com/jirani/jirani/turnserver/allocation"
	"github.com/jirani/jirani/turnserver/policy"
)

// findHosts lists the addresses that are relayed from.
func (s *Server) findHosts() error {
	locals := s.cfg.Relay.Addresses
	if len(locals) == 0 {
		for _, l := range s.listeners {
			locals = append(locals, l.addr.Addr())
		}
	}
	for _, a := range locals {
		if s.hosts[a] != nil {
			continue
		}
		h := &relayHost{local: a, external: a, udp: allocation.NewPorts(s.cfg.Relay.MinPort, s.cfg.Relay.MaxPort),
			tcp: allocation.NewPorts(s.cfg.Relay.MinPort, s.cfg.Relay.MaxPort)}
		if ext, ok := s.cfg.Relay.External[a.String()]; ok {
			h.external = netip.MustParseAddr(ext) // Validate has parsed it
			s.external[h.external] = h
		}
		s.hosts[a] = h
	}
	if len(s.hosts) == 0 {
		return errors.New("turnserver: no address to relay from")
	}
	s.findOwn()
	return nil
}

// findOwn notes this host's addresses.
func (s *Server) findOwn() {
	own := make(map[netip.Addr]struct{})
	list, err := hostaddr.List()
	if err != nil {
		s.log.Warn("own addresses not listed", logging.KeyErr, err)
	}
	for _, a := range list {
		own[a.Addr] = struct{}{}
	}
	for a, h := range s.hosts {
		own[a], own[h.external] = struct{}{}, struct{}{}
	}
	s.own.Store(&own)
}

// hostFor returns the address of a family to relay from for a client: the one it reached if that is relayed from, otherwise the first
// configured one.
func (s *Server) hostFor(t fiveTuple, family int) *relayHost {
	if h := s.hosts[t.server.Addr()]; h != nil && familyOf(h.local) == family {
		return h
	}
	for _, a := range s.cfg.Relay.Addresses {
		if familyOf(a) == family {
			return s.hosts[a]
		}
	}
	if len(s.cfg.Relay.Addresses) > 0 {
		return nil
	}
	for _, l := range s.listeners {
		if a := l.addr.Addr(); familyOf(a) == family {
			return s.hosts[a]
		}
	}
	return nil
}

// judge is the policy's verdict on a peer address, own addresses included.
func (s *Server) judge(a netip.Addr) policy.Reason {
	verdict := s.policy.Check(a)
	if verdict == policy.Allowed && !a.IsLoopback() && !s.policy.Listed(a) {
		if _, own := (*s.own.Load())[a]; own {
			return policy.Own
		}
	}
	return verdict
}

// relayedHere reports whether peer is a relayed transport address of this server.
func (s *Server) relayedHere(peer netip.AddrPort, tcp bool) bool {
	h := s.hosts[peer.Addr()]
	if h == nil {
		h = s.external[peer.Addr()]
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
	if len(s.external) == 0 {
		return peer
	}
	if h := s.external[peer.Addr()]; h != nil && (h.udp.Taken(peer.Port()) || h.tcp.Taken(peer.Port())) {
		return netip.AddrPortFrom(h.local, peer.Port())
	}
	return peer
}

// outward is the inverse of inward, for a source address: other clients know it in its external form.
func (s *Server) outward(src netip.AddrPort) netip.AddrPort {
	if len(s.external) == 0 {
		return src
	}
	if h := s.hosts[src.Addr()]; h != nil && (h.udp.Taken(src.Port()) || h.tcp.Taken(src.Port())) {
		return netip.AddrPortFrom(h.external, src.Port())
	}
	return src
}
