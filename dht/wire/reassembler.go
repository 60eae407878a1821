package wire

import (
	"bytes"
	"net/netip"
	"time"
)

// ReassemblyLimits bounds the memory of a Reassembler. A source is an IPv4
// address or an IPv6 /64, whatever its ports.
type ReassemblyLimits struct {
	Bytes       int // in all sets together
	Sets        int // sets in progress
	SourceBytes int // in the sets of one source
	SourceSets  int // sets in progress of one source
}

// DefaultReassemblyLimits serves a busy node: 64 MiB in all, and per source
// room for a NAT with dozens of peers that put the largest values at once.
func DefaultReassemblyLimits() ReassemblyLimits {
	return ReassemblyLimits{Bytes: 64 << 20, Sets: 4096, SourceBytes: 8 << 20, SourceSets: 256}
}

// Limits per set (§4.2).
const (
	setTimeout   = 10 * time.Second // from first packet to last
	pieceTimeout = 3 * time.Second  // from one packet to the next
	earlyParts   = 98               // parts before their header
	earlyBytes   = 122912           // bytes of them
	maxSpans     = 256              // separate ranges of one value held at a time
	setOverhead  = 512              // charged for a set besides its bytes
	valueCost    = 64               // charged for an announced value besides its bytes
	earlyCost    = 64               // charged for an early part besides its bytes
)

// Outcome says what a Reassembler did with a packet.
type Outcome uint8

// The outcomes.
const (
	// Whole: the packet announces nothing that is worth waiting for. Process it now.
	Whole Outcome = iota
	// Waiting: taken; more parts are needed.
	Waiting
	// Complete: the last part came. Process the packet returned.
	Complete
	// Early: a part whose header has not come yet, kept. Counts against the rate limit.
	Early
	// Stray: a part of nothing we know, dropped. Counts against the rate limit.
	Stray
	// Repeated: a header or pieces already held; ignored.
	Repeated
	// Overflow: a limit was hit; the set is dropped.
	Overflow
	// Bad: a piece outside of its value, or empty; ignored.
	Bad
)

var outcomeNames = [...]string{"whole", "waiting", "complete", "early", "stray", "repeated", "overflow", "bad"}

// String is the outcome in lower case, a label for metrics.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return "invalid"
}

// setKey identifies a message in parts: two sources may use one tid (§4.2).
type setKey struct {
	src netip.AddrPort
	tid uint32
}

// Reassembler puts together the values of fragmented messages. It is owned by
// one goroutine. Time is an argument; call Sweep about once a second.
//
// Before offering the header of a reply, the caller MUST see that it answers a
// pending request sent to that address, and of a put that its token is good:
// otherwise strangers fill the room of others (§19.2).
type Reassembler struct {
	limits  ReassemblyLimits
	sets    map[setKey]*set
	sources map[netip.Prefix]*usage
	total   usage
}

// usage is what the limits count.
type usage struct{ bytes, sets int }

// NewReassembler returns an empty one.
func NewReassembler(limits ReassemblyLimits) *Reassembler {
	return &Reassembler{limits: limits, sets: make(map[setKey]*set), sources: make(map[netip.Prefix]*usage)}
}

// Header takes the first packet of a message, a Put, Update or Reply as parsed
// from src. The outcome is Whole (p needs no parts: process p itself), Waiting,
// Complete (its parts had come early: process the packet returned), Repeated
// or Overflow. p may be reused afterwards.
func (r *Reassembler) Header(now time.Time, src netip.AddrPort, p *Packet) (*Packet, Outcome) {
	wanted := 0
	for i := range p.Values {
		if acceptable(p.Values[i]) {
			wanted++
		}
	}
	if wanted == 0 {
		return p, Whole
	}
	k := setKey{src, p.TID}
	s := r.find(now, k)
	if s == nil {
		if s = r.open(now, k); s == nil {
			return nil, Overflow
		}
	} else if s.header != nil {
		return nil, Repeated
	}
	if !r.charge(s, len(p.raw)+len(p.Values)*valueCost) {
		r.drop(k, s)
		return nil, Overflow
	}
	s.start(now, p, wanted)
	return r.replayEarly(k, s)
}

// acceptable reports whether an element of values is a size to wait for.
func acceptable(ref ValueRef) bool {
	return ref.Raw == nil && ref.Size > 0 && ref.Size <= MaxAnnounced
}

// replayEarly feeds the parts that came before the header.
func (r *Reassembler) replayEarly(k setKey, s *set) (*Packet, Outcome) {
	early := s.early
	s.early = nil
	for _, c := range early {
		if out := r.place(s, c); out == Overflow {
			r.drop(k, s)
			return nil, Overflow
		}
	}
	return r.finish(k, s, Waiting)
}

// Begun reports whether the header of the message with that id came from src and parts of it are awaited.
func (r *Reassembler) Begun(now time.Time, src netip.AddrPort, tid uint32) bool {
	s := r.find(now, setKey{src, tid})
	return s != nil && s.header != nil
}

// Part takes a Part packet from src. Parts without a header are kept only if
// known says that src is the address of a node we hold (§4.2). When the outcome
// is Complete, the packet returned is the header with every awaited value
// inline; announced values that were too large stay announced. It owns its
// bytes.
func (r *Reassembler) Part(now time.Time, src netip.AddrPort, known bool, p *Packet) (*Packet, Outcome) {
	k := setKey{src, p.TID}
	s := r.find(now, k)
	if s == nil || s.header == nil {
		return nil, r.keepEarly(now, k, s, known, p)
	}
	worst := Repeated
	for _, c := range p.Pieces {
		switch out := r.place(s, c); out {
		case Overflow:
			r.drop(k, s)
			return nil, Overflow
		case Waiting:
			worst = Waiting
		case Bad:
			if worst == Repeated {
				worst = Bad
			}
		}
	}
	if worst == Waiting {
		s.last = now
	}
	return r.finish(k, s, worst)
}

// keepEarly buffers the pieces of p, bounded in number and bytes.
func (r *Reassembler) keepEarly(now time.Time, k setKey, s *set, known bool, p *Packet) Outcome {
	if !known {
		return Stray
	}
	if s == nil {
		if s = r.open(now, k); s == nil {
			return Overflow
		}
	}
	for _, c := range p.Pieces {
		s.earlyBytes += len(c.Data)
		if len(c.Data) == 0 || len(s.early) >= earlyParts || s.earlyBytes > earlyBytes ||
			!r.charge(s, len(c.Data)+earlyCost) {
			r.drop(k, s)
			return Overflow
		}
		c.Data = bytes.Clone(c.Data)
		s.early = append(s.early, c)
	}
	s.last = now
	return Early
}

// place puts one piece into its value.
func (r *Reassembler) place(s *set, c Piece) Outcome {
	if int64(c.Index) >= int64(len(s.values)) {
		return Bad
	}
	v := &s.values[c.Index]
	if out := v.check(c); out != Waiting {
		return out
	}
	if v.buf == nil {
		if !r.charge(s, v.size) {
			return Overflow
		}
		v.buf = make([]byte, v.size)
	}
	v.add(c)
	if v.held == v.size {
		s.missing--
	}
	if len(v.spans) > maxSpans {
		return Overflow
	}
	return Waiting
}

// finish returns the whole packet once nothing is missing.
func (r *Reassembler) finish(k setKey, s *set, otherwise Outcome) (*Packet, Outcome) {
	if s.missing > 0 {
		return nil, otherwise
	}
	r.drop(k, s)
	p := s.packet()
	if p == nil {
		return nil, Bad
	}
	return p, Complete
}

// find returns the live set of k; one that is over its time is dropped.
func (r *Reassembler) find(now time.Time, k setKey) *set {
	s := r.sets[k]
	if s != nil && s.over(now) {
		r.drop(k, s)
		return nil
	}
	return s
}

// open starts a set if the limits allow one more.
func (r *Reassembler) open(now time.Time, k setKey) *set {
	prefix := sourceOf(k.src.Addr())
	u := r.sources[prefix]
	if r.total.sets >= r.limits.Sets || u != nil && u.sets >= r.limits.SourceSets {
		return nil
	}
	if u == nil {
		u = new(usage)
		r.sources[prefix] = u
	}
	u.sets++
	r.total.sets++
	s := &set{began: now, last: now, source: prefix}
	r.sets[k] = s
	if !r.charge(s, setOverhead) {
		r.drop(k, s)
		return nil
	}
	return s
}

// charge counts n bytes to s, its source and all; false if that is too much.
func (r *Reassembler) charge(s *set, n int) bool {
	u := r.sources[s.source]
	if n > r.limits.Bytes-r.total.bytes || n > r.limits.SourceBytes-u.bytes {
		return false
	}
	s.charged += n
	u.bytes += n
	r.total.bytes += n
	return true
}

// drop forgets a set and gives back what it was charged.
func (r *Reassembler) drop(k setKey, s *set) {
	delete(r.sets, k)
	u := r.sources[s.source]
	u.bytes -= s.charged
	u.sets--
	r.total.bytes -= s.charged
	r.total.sets--
	if u.sets == 0 {
		delete(r.sources, s.source)
	}
}

// Sweep drops the sets that are over their time and returns how many.
func (r *Reassembler) Sweep(now time.Time) (expired int) {
	for k, s := range r.sets {
		if s.over(now) {
			r.drop(k, s)
			expired++
		}
	}
	return expired
}

// Usage returns the sets in progress and the bytes they are charged.
func (r *Reassembler) Usage() (sets, bytes int) { return r.total.sets, r.total.bytes }

// sourceOf is the address, or the /64 it lies in (§12.1).
func sourceOf(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	prefix, _ := ip.Prefix(bits)
	return prefix
}
