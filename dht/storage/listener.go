package storage

import (
	"net/netip"
	"slices"
	"time"

	"github.com/jirani/jirani/dht"
)

// ListenerLifetime is how long a remote listener is kept after its last renewal (docs/protocols/opendht.md §11.2).
const ListenerLifetime = 10 * time.Minute

// Listener is a remote node that wants to hear of changes at a key, known by the node's id, its address and the socket
// number it chose.
type Listener struct {
	Node     dht.InfoHash
	Addr     netip.AddrPort
	Socket   uint32     // `sid`
	Version  int        // `ve`; 0 for very old clients (§11.4)
	Query    *dht.Query // nil wants everything
	lastSeen int64
}

// Listen adds or renews a listener. isNew tells that it was not there, so that it must be sent what is stored already; ok
// is false when a limit keeps it out.
func (s *Store) Listen(key dht.InfoHash, l Listener, now time.Time) (isNew, ok bool) {
	l.lastSeen = s.stamp(now)
	p := s.keys[key]
	if p != nil {
		if i := slices.IndexFunc(p.listeners, l.same); i >= 0 {
			p.listeners[i] = l
			return false, true
		}
	}
	src := SourceOf(l.Addr.Addr())
	if s.listeners >= s.limits.Listeners || s.listening[src] >= s.limits.ListenersPerSource {
		return false, false
	}
	if p == nil {
		if len(s.keys) >= s.limits.Keys {
			return false, false
		}
		p = new(place)
		s.keys[key] = p
	} else if len(p.listeners) >= s.limits.ListenersPerKey {
		return false, false
	}
	p.listeners = append(p.listeners, l)
	s.listeners++
	s.listening[src]++
	return true, true
}

func (l Listener) same(o Listener) bool {
	return l.Socket == o.Socket && l.Node == o.Node && l.Addr == o.Addr
}

// Listeners returns the remote listeners at key. The slice is the store's own: do not keep or change it.
func (s *Store) Listeners(key dht.InfoHash) []Listener {
	if p := s.keys[key]; p != nil {
		return p.listeners
	}
	return nil
}

// DropListeners removes those for which drop returns true; key limits it to one key unless it is zero. It looks at every
// key then: for rare events.
func (s *Store) DropListeners(key dht.InfoHash, drop func(*Listener) bool) {
	if !key.IsZero() {
		if p := s.keys[key]; p != nil {
			s.prune(key, p, drop)
		}
		return
	}
	for k, p := range s.keys {
		s.prune(k, p, drop)
	}
}

// SweepListeners removes listeners that were not renewed in time.
func (s *Store) SweepListeners(now time.Time) {
	before := s.stamp(now.Add(-ListenerLifetime))
	s.DropListeners(dht.InfoHash{}, func(l *Listener) bool { return l.lastSeen < before })
}

func (s *Store) prune(key dht.InfoHash, p *place, drop func(*Listener) bool) {
	if len(p.listeners) == 0 {
		return
	}
	p.listeners = slices.DeleteFunc(p.listeners, func(l Listener) bool {
		if !drop(&l) {
			return false
		}
		s.listeners--
		src := SourceOf(l.Addr.Addr())
		if s.listening[src]--; s.listening[src] == 0 {
			delete(s.listening, src)
		}
		return true
	})
	if len(p.listeners) == 0 {
		p.listeners = nil
	}
	s.tidy(key, p)
}

// Stats is the state of a store in numbers.
type Stats struct {
	Keys                int
	Values, LocalValues int
	Bytes, LocalBytes   int64 // with our overhead, as quotas count
	Sources, Listeners  int
}

// Stats returns the current numbers.
func (s *Store) Stats() Stats {
	return Stats{
		Keys: len(s.keys), Values: s.remote.values, LocalValues: s.local.values,
		Bytes: s.remote.bytes, LocalBytes: s.local.bytes, Sources: len(s.sources), Listeners: s.listeners,
	}
}
