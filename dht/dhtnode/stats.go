package dhtnode

import (
	"sync/atomic"
	"time"

	"github.com/jirani/jirani/dht/routing"
	"github.com/jirani/jirani/dht/storage"
	"github.com/jirani/jirani/dht/wire"
)

// dropReason says why a packet was not processed.
type dropReason int

const (
	dropMalformed dropReason = iota // did not parse
	dropUnknown                     // a request we do not know
	dropNetwork                     // of another network
	dropFiltered                    // martian, blacklisted, or not in the allow-list
	dropID                          // no id, or our own
	dropRate                        // over the rate limit
	dropUnasked                     // a reply or update nobody waits for
	dropUnproved                    // a large answer to an address that proved nothing
	dropBusy                        // signature checks have no room
	dropListeners                   // no room for another listener
	dropUnsent                      // not received but not sent: parts of an answer beyond the room for those that wait
	dropReasons
)

var dropNames = [dropReasons]string{"malformed", "unknown", "network", "filtered", "id", "rate_limited", "unasked",
	"unproved", "busy", "listeners", "unsent"}

// errorKind groups error codes (docs/protocols/opendht.md §3.3).
const (
	error203 = iota
	error401
	error404
	errorOther
	errorKinds
)

var errorNames = [errorKinds]string{"203", "401", "404", "other"}

func errorKind(code int) int {
	switch code {
	case wire.CodeNonAuthoritative:
		return error203
	case wire.CodeUnauthorized:
		return error401
	case wire.CodeNotFound:
		return error404
	}
	return errorOther
}

// counters only grow. They are read without the lock.
type counters struct {
	in, out                             [wire.Kinds]atomic.Uint64
	drops                               [dropReasons]atomic.Uint64
	errorsIn                            [errorKinds]atomic.Uint64
	errorsOut                           [errorKinds]atomic.Uint64
	parts                               [partOutcomes]atomic.Uint64
	timeouts, conflicts, pushes         atomic.Uint64
	stored, refreshed, refused, expired atomic.Uint64
}

// partOutcomes is the number of a Reassembler's outcomes.
const partOutcomes = int(wire.Bad) + 1

func (c *counters) drop(r dropReason) { c.drops[r].Add(1) }
func (c *counters) errorIn(code int)  { c.errorsIn[errorKind(code)].Add(1) }
func (c *counters) errorOut(code int) { c.errorsOut[errorKind(code)].Add(1) }

// Stats is the state of a node in numbers, for metrics. Counters start at zero when the node is made; label sets are
// closed.
type Stats struct {
	In, Out          map[string]uint64 // packets by kind: ping, find, get, put, refresh, listen, update, reply, error, push, part
	Drops            map[string]uint64 // packets dropped by reason, e.g. malformed, rate_limited, network
	ErrorsIn         map[string]uint64 // error replies received by code: 203, 401, 404, other
	ErrorsOut        map[string]uint64
	Parts            map[string]uint64 // parts and their headers by outcome, e.g. complete, overflow
	Timeouts         uint64            // requests of ours left unanswered
	Conflicts        uint64            // packets with the id of a good node from another address
	Pushes           uint64            // updates sent to listeners
	Stored           uint64            // values stored or edited
	Refreshed        uint64
	Refused          uint64 // values kept out by policy, age or limits
	Expired          uint64 // values that ended or were evicted
	IPv4, IPv6       FamilyStats
	Storage          storage.Stats
	Requests         int // of ours in flight
	LocalListens     int
	LocalPuts        int
	ReassemblySets   int
	ReassemblyBytes  int
	Blacklisted      int
	SignatureChecks  int // waiting
	CallbacksWaiting int
	CallbacksDropped uint64
}

// FamilyStats is what exists for each address family.
type FamilyStats struct {
	Enabled                 bool
	Status                  Status
	Good, Dubious, Incoming int // nodes in the routing table
	Buckets, Depth          int
	NetworkSize             int // estimate
	Cached                  int // node records
	Candidates              int // waiting for a place in a full bucket
	Searches                int
}

// Stats returns the current numbers. It waits for the running turn.
func (n *Node) Stats() Stats {
	c := &n.count
	s := Stats{
		In: byKind(&c.in), Out: byKind(&c.out),
		Drops: byName(dropNames[:], c.drops[:]), Parts: byOutcome(&c.parts),
		ErrorsIn: byName(errorNames[:], c.errorsIn[:]), ErrorsOut: byName(errorNames[:], c.errorsOut[:]),
		Timeouts: c.timeouts.Load(), Conflicts: c.conflicts.Load(), Pushes: c.pushes.Load(),
		Stored: c.stored.Load(), Refreshed: c.refreshed.Load(), Refused: c.refused.Load(), Expired: c.expired.Load(),
		SignatureChecks: len(n.checks),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.clock()
	s.IPv4, s.IPv6 = n.familyStats(inet4, now), n.familyStats(inet6, now)
	s.Storage, s.Requests, s.Blacklisted = n.store.Stats(), len(n.requests), len(n.black.byAddr)
	s.ReassemblySets, s.ReassemblyBytes = n.parts.Usage()
	for _, ws := range n.watches {
		for _, w := range ws {
			s.LocalListens += len(w.listeners)
		}
	}
	for _, ps := range n.puts {
		s.LocalPuts += len(ps)
	}
	s.CallbacksWaiting, s.CallbacksDropped = n.events.state()
	return s
}

func (n *Node) familyStats(i int, now time.Time) FamilyStats {
	f := n.fam[i]
	if f == nil {
		return FamilyStats{}
	}
	var c routing.Counts = f.table.Counts(now)
	return FamilyStats{
		Enabled: true, Status: n.familyStatus(i, now), Good: c.Good, Dubious: c.Dubious, Incoming: c.Incoming,
		Buckets: c.Buckets, Depth: f.table.Depth(), NetworkSize: f.table.NetworkSize(), Cached: f.cache.Len(),
		Candidates: c.Candidates,
		Searches:   len(f.searches),
	}
}

func byKind(c *[wire.Kinds]atomic.Uint64) map[string]uint64 {
	m := make(map[string]uint64, wire.Kinds)
	for k := wire.Ping; int(k) < wire.Kinds; k++ {
		m[k.String()] = c[k].Load()
	}
	return m
}

func byOutcome(c *[partOutcomes]atomic.Uint64) map[string]uint64 {
	m := make(map[string]uint64, partOutcomes)
	for o := range c {
		m[wire.Outcome(o).String()] = c[o].Load()
	}
	return m
}

func byName(names []string, c []atomic.Uint64) map[string]uint64 {
	m := make(map[string]uint64, len(names))
	for i, name := range names {
		m[name] = c[i].Load()
	}
	return m
}
