package turnserver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/jirani/jirani/internal/hostaddr"
	"github.com/jirani/jirani/internal/logging"
	"github.com/jirani/jirani/turnserver/allocation"
)

// addressGrace is how long an address may be away before its listeners are closed and their allocations ended. Sockets outlive their
// address and work again when it comes back, as it does after a cable was pulled or a lease renewed.
const addressGrace = time.Minute

// places is where the server is reached and what it relays from: what follows from the configuration and the addresses that the host has
// just now. It does not change once it is in use.
type places struct {
	listeners []*listener
	hosts     map[netip.Addr]*relayHost // by local address
	external  map[netip.Addr]*relayHost // by external address, where that differs
	from      []netip.Addr              // relayed from when the address that a client reached cannot be, the first of a family
	own       map[netip.Addr]struct{}   // this host's addresses
}

// spot is one listener that the configuration asks for.
type spot struct {
	index     int // in Config.Listeners
	transport transport
	addr      netip.AddrPort
}

// look compares the configuration with the addresses of the host, opens what is missing, closes what has been away too long, and returns
// what it opened. At the start a listener that cannot be opened is an error; later it is tried again at every look.
func (s *Server) look(ctx context.Context, now time.Time) (opened []*listener, err error) {
	list, err := s.addresses()
	if err != nil {
		return nil, err
	}
	s.placesMu.Lock()
	defer s.placesMu.Unlock()
	if s.released.Load() {
		return nil, nil // another server may have the addresses
	}
	old := s.here.Load()
	starting := old.starting()
	next := &places{}
	wanted := s.spots(list)
	for _, at := range wanted {
		l := old.at(at)
		if l == nil {
			if l, err = s.openAt(ctx, at); err != nil && starting && !s.tentative(at, err) {
				s.here.Store(next) // what is open so far, for closeAll
				return nil, fmt.Errorf("turnserver: listeners[%d]: %w", at.index, err)
			} else if err != nil {
				s.warnOnce(at, err)
				continue
			}
			delete(s.warned, at)
			opened = append(opened, l)
		}
		l.away = time.Time{}
		next.listeners = append(next.listeners, l)
	}
	for _, l := range old.listeners {
		if !slices.Contains(wanted, l.spot) && !s.leftFor(l, now) {
			next.listeners = append(next.listeners, l)
		}
	}
	if starting && len(next.listeners) == 0 {
		return nil, errors.New("turnserver: this host has no address for any listener")
	}
	s.settle(next, old, list)
	return opened, nil
}

// spots expands the configuration: an unspecified address stands for those of the host, so that every answer leaves from the address that
// was asked and every allocation has a definite relay address.
func (s *Server) spots(list []hostaddr.Address) (out []spot) {
	for i, cfg := range s.cfg.Listeners {
		addrs := []netip.AddrPort{cfg.Address}
		if cfg.Address.Addr().IsUnspecified() {
			addrs = nil
			for _, a := range list {
				if a.Addr.Is4() == cfg.Address.Addr().Is4() && a.Reach != hostaddr.LinkLocal {
					addrs = append(addrs, netip.AddrPortFrom(a.Addr, cfg.Address.Port()))
				}
			}
		}
		for _, addr := range addrs {
			for _, name := range cfg.Transports {
				out = append(out, spot{i, transport(slices.Index(transportNames, name)), addr})
			}
		}
	}
	return out
}

// starting reports whether nothing has been settled yet.
func (p *places) starting() bool { return p.own == nil }

func (p *places) at(at spot) *listener {
	if i := slices.IndexFunc(p.listeners, func(l *listener) bool { return l.spot == at }); i >= 0 {
		return p.listeners[i]
	}
	return nil
}

func (s *Server) openAt(ctx context.Context, at spot) (*listener, error) {
	cfg := s.cfg.Listeners[at.index]
	l := &listener{srv: s, spot: at, transport: at.transport, addr: at.addr, realm: cfg.Realm, proxies: cfg.ProxyProtocol}
	if err := l.open(ctx); err != nil {
		l.close()
		return nil, err
	}
	if !s.here.Load().starting() {
		s.log.Info("listener opened: a new address", logging.KeyListen, l.addr.String())
	}
	return l, nil
}

// tentative reports whether err may pass: the host has an IPv6 address before it may be used, while it looks for duplicates.
func (s *Server) tentative(at spot, err error) bool {
	return s.cfg.Listeners[at.index].Address.Addr().IsUnspecified() && errors.Is(err, syscall.EADDRNOTAVAIL)
}

func (s *Server) warnOnce(at spot, err error) {
	if _, said := s.warned[at]; !said {
		s.warned[at] = struct{}{}
		s.log.Warn("listener not opened", logging.KeyListen, at.addr.String(), logging.KeyErr, err)
	}
}

// leftFor notes that a listener's address is away. After a while it closes the listener, ends what came in there, and reports true.
func (s *Server) leftFor(l *listener, now time.Time) bool {
	if l.away.IsZero() {
		l.away = now
	}
	if now.Sub(l.away) < addressGrace {
		return false
	}
	s.log.Info("listener closed: its address has gone", logging.KeyListen, l.addr.String())
	l.close()
	for _, a := range s.all() {
		if a.tuple.transport == l.transport && a.tuple.server == l.addr {
			a.end()
		}
	}
	return true
}

// settle completes next, whose listeners are there, and puts it in use.
func (s *Server) settle(next, old *places, list []hostaddr.Address) {
	next.hosts, next.external = make(map[netip.Addr]*relayHost), make(map[netip.Addr]*relayHost)
	next.from = s.cfg.Relay.Addresses
	if len(next.from) == 0 {
		for _, l := range next.listeners {
			if l.away.IsZero() {
				next.from = append(next.from, l.addr.Addr())
			}
		}
	}
	for _, a := range next.from {
		if next.hosts[a] = old.hosts[a]; next.hosts[a] == nil {
			next.hosts[a] = s.newHost(a)
		}
	}
	for a, h := range old.hosts {
		if !h.udp.Idle() || !h.tcp.Idle() {
			next.hosts[a] = h // away, but still relayed from
		}
	}
	next.own = make(map[netip.Addr]struct{})
	for _, a := range list {
		next.own[a.Addr] = struct{}{}
	}
	for a, h := range next.hosts {
		next.own[a], next.own[h.external] = struct{}{}, struct{}{}
		if h.external != h.local {
			next.external[h.external] = h
		}
	}
	s.here.Store(next)
}

func (s *Server) newHost(local netip.Addr) *relayHost {
	ports := func() *allocation.Ports { return allocation.NewPorts(s.cfg.Relay.MinPort, s.cfg.Relay.MaxPort) }
	h := &relayHost{local: local, external: local, udp: ports(), tcp: ports()}
	if ext, ok := s.cfg.Relay.External[local.String()]; ok {
		h.external = netip.MustParseAddr(ext) // Validate has parsed it
	}
	return h
}
