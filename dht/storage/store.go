package storage

import (
	"container/heap"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/jirani/jirani/dht"
)

// Limits bounds a Store. A zero field means the default.
type Limits struct {
	Bytes              int64 // of remote values in total
	BytesPerSource     int64
	Keys               int
	ValuesPerKey       int
	Listeners          int // remote listeners in total
	ListenersPerSource int
	ListenersPerKey    int
}

// DefaultLimits are upstream's (docs/protocols/opendht.md §8) where it has any.
var DefaultLimits = Limits{
	Bytes:              64 << 20,
	BytesPerSource:     16 << 20,
	Keys:               1 << 20,
	ValuesPerKey:       1 << 16,
	Listeners:          1 << 17,
	ListenersPerSource: 1 << 15,
	ListenersPerKey:    1 << 12,
}

// overhead is what one stored value costs beside its serialised form, in bytes, counted into quotas: records, heap and
// map entries.
const overhead = 256

// Forever is the end of life of local permanent values.
const Forever = time.Duration(math.MaxInt64)

// Local is the source of our own values.
var Local netip.Addr

// SourceOf returns what counts as one source: an IPv4 address, or the first 64 bits of an IPv6 address.
func SourceOf(a netip.Addr) netip.Addr {
	if a.Is4() || !a.IsValid() {
		return a
	}
	b := a.As16()
	clear(b[8:])
	return netip.AddrFrom16(b)
}

// Store holds values and listeners. Create it with New.
type Store struct {
	limits    Limits
	base      time.Time // times are kept as nanoseconds since then
	keys      map[dht.InfoHash]*place
	sources   map[netip.Addr]*source
	byEnd     endHeap  // all sources, the one with the earliest end of life first
	bySize    sizeHeap // remote sources, the largest first
	remote    usage
	local     usage
	listening map[netip.Addr]int
	listeners int
}

type usage struct {
	bytes  int64
	values int
}

// place is all there is at one key.
type place struct {
	values    []item
	listeners []Listener
}

type item struct {
	raw     []byte
	id      dht.ValueID
	ends    int64 // nanoseconds since base
	queued  int64 // the end under which it stands in its source's heap
	src     *source
	created int32 // seconds since base
	typ     dht.ValueTypeID
}

// Value describes one stored value. Raw is its serialised form (§5.1), which the store keeps:
// nobody may change it.
type Value struct {
	Raw     []byte
	ID      dht.ValueID
	Type    dht.ValueTypeID
	Created time.Time
	Ends    time.Time // zero = never
	Source  netip.Addr
}

// New returns an empty store. now is the origin of its clock.
func New(limits Limits, now time.Time) *Store {
	limits.fill(DefaultLimits)
	return &Store{
		limits:    limits,
		base:      now,
		keys:      make(map[dht.InfoHash]*place),
		sources:   make(map[netip.Addr]*source),
		listening: make(map[netip.Addr]int),
	}
}

func (l *Limits) fill(d Limits) {
	fill(&l.Bytes, d.Bytes)
	fill(&l.BytesPerSource, d.BytesPerSource)
	fill(&l.Keys, d.Keys)
	fill(&l.ValuesPerKey, d.ValuesPerKey)
	fill(&l.Listeners, d.Listeners)
	fill(&l.ListenersPerSource, d.ListenersPerSource)
	fill(&l.ListenersPerKey, d.ListenersPerKey)
}

func fill[T int | int64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Has reports whether the key has an entry: values, or just listeners (§12.3).
func (s *Store) Has(key dht.InfoHash) bool { return s.keys[key] != nil }

// Get returns one value.
func (s *Store) Get(key dht.InfoHash, id dht.ValueID) (Value, bool) {
	if p := s.keys[key]; p != nil {
		if i := p.find(id); i >= 0 {
			return s.view(&p.values[i]), true
		}
	}
	return Value{}, false
}

// Values calls yield with each value at key that lives at now, in the order they came, until it returns false. The store
// must not be changed meanwhile.
func (s *Store) Values(key dht.InfoHash, now time.Time, yield func(Value) bool) {
	p := s.keys[key]
	if p == nil {
		return
	}
	at := s.stamp(now)
	for i := range p.values {
		if p.values[i].ends > at && !yield(s.view(&p.values[i])) {
			return
		}
	}
}

// Keys calls yield with each key that has values.
func (s *Store) Keys(yield func(dht.InfoHash) bool) {
	for k, p := range s.keys {
		if len(p.values) > 0 && !yield(k) {
			return
		}
	}
}

func (p *place) find(id dht.ValueID) int {
	return slices.IndexFunc(p.values, func(it item) bool { return it.id == id })
}

func (s *Store) view(it *item) Value {
	v := Value{Raw: it.raw, ID: it.id, Type: it.typ, Created: s.base.Add(time.Duration(it.created) * time.Second), Source: it.src.addr}
	if it.ends != math.MaxInt64 {
		v.Ends = s.base.Add(time.Duration(it.ends))
	}
	return v
}

func (s *Store) stamp(t time.Time) int64 { return int64(t.Sub(s.base)) }

// seconds is the coarse stamp of creation times, rounded down.
func (s *Store) seconds(t time.Time) int32 {
	sec := math.Floor(t.Sub(s.base).Seconds())
	return int32(max(min(sec, math.MaxInt32), math.MinInt32))
}

func (s *Store) end(from time.Time, lifetime time.Duration) int64 {
	at := s.stamp(from)
	if lifetime > math.MaxInt64-time.Duration(max(at, 0)) {
		return math.MaxInt64
	}
	return at + int64(lifetime)
}

// Gone is a value the store dropped, by expiry or eviction.
type Gone struct {
	Key dht.InfoHash
	ID  dht.ValueID
}

// Set stores v at key, in the place of the value with its id if there is one, to end lifetime after v.Created. It
// reports false when a limit keeps it out: too many keys or values, or alone larger than its source's quota. Values
// dropped to make room are appended to gone.
func (s *Store) Set(key dht.InfoHash, v Value, lifetime time.Duration, now time.Time, gone []Gone) (bool, []Gone) {
	src := SourceOf(v.Source)
	size := int64(len(v.Raw) + overhead)
	if src.IsValid() && size > min(s.limits.Bytes, s.limits.BytesPerSource) {
		return false, gone
	}
	p := s.keys[key]
	if p == nil {
		if len(s.keys) >= s.limits.Keys {
			return false, gone
		}
		p = new(place)
		s.keys[key] = p
	}
	i := p.find(v.ID)
	if i < 0 {
		if len(p.values) >= s.limits.ValuesPerKey {
			return false, gone
		}
		p.values = append(p.values, item{id: v.ID})
		i = len(p.values) - 1
	} else {
		s.charge(p.values[i].src, -int64(len(p.values[i].raw)+overhead), -1)
	}
	it := &p.values[i]
	old := it.src
	it.raw, it.typ, it.src = v.Raw, v.Type, s.source(src)
	it.created, it.ends = s.seconds(v.Created), s.end(v.Created, lifetime)
	it.queued = it.ends
	it.src.queue(deadline{it.ends, v.ID, key})
	s.charge(it.src, size, 1)
	if old != nil && old != it.src {
		s.settle(old)
	}
	return true, s.evict(now, gone)
}

// Refresh gives the value a new life of the given length from now, never shortening it (§12.3). It reports false if it
// is not there.
func (s *Store) Refresh(key dht.InfoHash, id dht.ValueID, lifetime time.Duration, now time.Time) bool {
	p := s.keys[key]
	if p == nil {
		return false
	}
	i := p.find(id)
	if i < 0 || p.values[i].ends <= s.stamp(now) {
		return false
	}
	it := &p.values[i]
	it.created, it.ends = s.seconds(now), max(it.ends, s.end(now, lifetime))
	return true
}

// Remove drops one value.
func (s *Store) Remove(key dht.InfoHash, id dht.ValueID) bool {
	p := s.keys[key]
	if p == nil {
		return false
	}
	i := p.find(id)
	if i < 0 {
		return false
	}
	s.drop(key, p, i)
	return true
}

// drop removes value i of p, and p with its last content. Its deadline stays queued and is ignored when it surfaces.
func (s *Store) drop(key dht.InfoHash, p *place, i int) {
	it := p.values[i]
	p.values = slices.Delete(p.values, i, i+1)
	s.charge(it.src, -int64(len(it.raw)+overhead), -1)
	s.settle(it.src)
	s.tidy(key, p)
}

func (s *Store) tidy(key dht.InfoHash, p *place) {
	if len(p.values) == 0 && len(p.listeners) == 0 {
		delete(s.keys, key)
	}
}

// Expire removes the values whose life is over at now and appends them to gone.
func (s *Store) Expire(now time.Time, gone []Gone) []Gone {
	at := s.stamp(now)
	for len(s.byEnd) > 0 && s.byEnd[0].first() <= at {
		gone = s.surface(s.byEnd[0], at, gone)
	}
	return gone
}

// Next returns when Expire should be called next.
func (s *Store) Next() (time.Time, bool) {
	if len(s.byEnd) == 0 || s.byEnd[0].first() == math.MaxInt64 {
		return time.Time{}, false
	}
	return s.base.Add(time.Duration(s.byEnd[0].first())), true
}

// surface takes the first deadline of src and drops its value if that was its end; a refreshed value is queued again.
func (s *Store) surface(src *source, at int64, gone []Gone) []Gone {
	d := heap.Pop(&src.ends).(deadline)
	p := s.keys[d.key]
	i := -1
	if p != nil {
		i = p.find(d.id)
	}
	switch {
	case i < 0 || p.values[i].src != src || p.values[i].queued != d.at:
	case p.values[i].ends > at:
		p.values[i].queued = p.values[i].ends
		src.queue(deadline{p.values[i].ends, d.id, d.key})
	default:
		gone = append(gone, Gone{d.key, d.id})
		s.drop(d.key, p, i)
		return gone
	}
	s.settle(src)
	return gone
}
