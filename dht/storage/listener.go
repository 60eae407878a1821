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
	at := s.listeners[key]
	if i := slices.IndexFunc(at, l.same); i >= 0 {
		at[i] = l
		return false, true
	}
	src := SourceOf(l.Addr.Addr())
	if s.nlisten >= s.limits.Listeners || s.listening[src] >= s.limits.ListenersPerSource ||
		len(at) >= s.limits.ListenersPerKey || len(at) == 0 && s.keys() >= s.limits.Keys {
		return false, false
	}
	s.listeners[key] = append(at, l)
	s.nlisten++
	s.listening[src]++
	return true, true
}

func (l Listener) same(o Listener) bool {
	return l.Socket == o.Socket && l.Node == o.Node && l.Addr == o.Addr
}

// Listeners returns the remote listeners at key. The slice is the store's own: do not keep or change it.
func (s *Store) Listeners(key dht.InfoHash) []Listener { return s.listeners[key] }

// DropListeners removes those at key for which drop returns true.
func (s *Store) DropListeners(key dht.InfoHash, drop func(*Listener) bool) {
	rest := slices.DeleteFunc(s.listeners[key], func(l Listener) bool {
		if !drop(&l) {
			return false
		}
		s.nlisten--
		src := SourceOf(l.Addr.Addr())
		if s.listening[src]--; s.listening[src] == 0 {
			delete(s.listening, src)
		}
		return true
	})
	if s.listeners[key] = rest; len(rest) == 0 {
		delete(s.listeners, key)
	}
}

// SweepListeners removes listeners that were not renewed in time. It looks at every key that has any.
func (s *Store) SweepListeners(now time.Time) {
	before := s.stamp(now.Add(-ListenerLifetime))
	for key := range s.listeners {
		s.DropListeners(key, func(l *Listener) bool { return l.lastSeen < before })
	}
}

// Stats is the state of a store in numbers.
type Stats struct {
	Keys                int // with values
	Values, LocalValues int
	Bytes, LocalBytes   int64 // with our overhead, as quotas count
	Sources             int
	Listeners           int // remote
	ListenedKeys        int // with remote listeners
}

// Stats returns the current numbers.
func (s *Store) Stats() Stats {
	return Stats{
		Keys: len(s.heads), Values: s.remote.values, LocalValues: s.local.values, Bytes: s.remote.bytes,
		LocalBytes: s.local.bytes, Sources: len(s.sources), Listeners: s.nlisten, ListenedKeys: len(s.listeners),
	}
}
