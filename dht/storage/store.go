package storage

import (
	"container/heap"
	"math"
	"net/netip"
	"runtime"
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
	limits Limits
	base   time.Time               // times are kept as nanoseconds since then
	heads  map[dht.InfoHash]uint32 // the first value at each key
	*memory
	sources   map[netip.Addr]*source
	numbered  []*source // by number
	numbers   []uint32  // free ones
	byEnd     endHeap   // all sources, the one with the earliest end of life first
	bySize    sizeHeap  // remote sources, the largest first
	remote    usage
	local     usage
	listeners map[dht.InfoHash][]Listener
	listening map[netip.Addr]int // listeners by source
	nlisten   int
}

type usage struct {
	bytes  int64
	values int
}

// Value describes one stored value. Raw is its serialised form (§5.1). What a Store returns as Raw
// is its own memory: it must not be changed, and is only valid until the store changes.
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
	s := &Store{
		limits:    limits,
		base:      now,
		heads:     make(map[dht.InfoHash]uint32),
		memory:    &memory{blobs: blobs{maxPages: int(limits.Bytes/pageSize)*3/2 + classes}},
		sources:   make(map[netip.Addr]*source),
		listeners: make(map[dht.InfoHash][]Listener),
		listening: make(map[netip.Addr]int),
	}
	runtime.AddCleanup(s, (*memory).unmap, s.memory)
	return s
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
func (s *Store) Has(key dht.InfoHash) bool {
	return s.heads[key] != 0 || len(s.listeners[key]) > 0
}

// Get returns one value.
func (s *Store) Get(key dht.InfoHash, id dht.ValueID) (Value, bool) {
	if i, _ := s.find(key, id); i != 0 {
		return s.view(s.items.at(i)), true
	}
	return Value{}, false
}

// Values calls yield with each value at key that lives at now, in the order they came, until it returns false. The store
// must not be changed meanwhile.
func (s *Store) Values(key dht.InfoHash, now time.Time, yield func(Value) bool) {
	at := s.stamp(now)
	for i := s.heads[key]; i != 0; {
		it := s.items.at(i)
		if it.ends > at && !yield(s.view(it)) {
			return
		}
		i = it.next
	}
}

// Keys calls yield with each key that has values.
func (s *Store) Keys(yield func(dht.InfoHash) bool) {
	for k := range s.heads {
		if !yield(k) {
			return
		}
	}
}

// find returns the number of a value, 0 if it is not there, and how many stand before it.
func (s *Store) find(key dht.InfoHash, id dht.ValueID) (i uint32, before int) {
	for i = s.heads[key]; i != 0; before++ {
		it := s.items.at(i)
		if it.id == id {
			return i, before
		}
		i = it.next
	}
	return 0, before
}

func (s *Store) view(it *item) Value {
	v := Value{Raw: s.blobs.get(it.blob, int(it.size)), ID: it.id, Type: it.typ,
		Created: s.base.Add(time.Duration(it.created) * time.Second), Source: s.numbered[it.src].addr}
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

// Set stores a copy of v at key, in the place of the value with its id if there is one, to end lifetime after v.Created.
// It reports false when a limit keeps it out: too many keys or values, or alone larger than its source's quota. Values
// dropped to make room are appended to gone.
func (s *Store) Set(key dht.InfoHash, v Value, lifetime time.Duration, now time.Time, gone []Gone) (bool, []Gone) {
	src := SourceOf(v.Source)
	if src.IsValid() && int64(len(v.Raw)+overhead) > min(s.limits.Bytes, s.limits.BytesPerSource) {
		return false, gone
	}
	i, before := s.find(key, v.ID)
	if i != 0 {
		s.unbook(i)
		s.blobs.free(s.items.at(i).blob)
	} else {
		if before >= s.limits.ValuesPerKey || before == 0 && s.keys() >= s.limits.Keys {
			return false, gone
		}
		i = s.append(key)
	}
	it := s.items.at(i)
	it.id, it.typ, it.blob, it.size = v.ID, v.Type, s.blobs.put(v.Raw), uint32(len(v.Raw))
	it.created, it.ends = s.seconds(v.Created), s.end(v.Created, lifetime)
	s.book(s.source(src), i)
	return true, s.evict(now, gone)
}

// append adds an empty item at the end of key's list.
func (s *Store) append(key dht.InfoHash) uint32 {
	i := s.items.alloc()
	s.items.at(i).key = key
	last := s.heads[key]
	if last == 0 {
		s.heads[key] = i
		return i
	}
	for next := s.items.at(last).next; next != 0; next = s.items.at(last).next {
		last = next
	}
	s.items.at(last).next = i
	return i
}

// keys counts those with values and those with listeners; one with both counts twice.
func (s *Store) keys() int { return len(s.heads) + len(s.listeners) }

// Refresh gives the value a new life of the given length from now, never shortening it (§12.3). It reports false if it
// is not there.
func (s *Store) Refresh(key dht.InfoHash, id dht.ValueID, lifetime time.Duration, now time.Time) bool {
	i, _ := s.find(key, id)
	if i == 0 || s.items.at(i).ends <= s.stamp(now) {
		return false
	}
	it := s.items.at(i)
	it.created, it.ends = s.seconds(now), max(it.ends, s.end(now, lifetime))
	c := s.numbered[it.src]
	c.ends.fix(it.pos)
	heap.Fix(&s.byEnd, c.atEnd)
	return true
}

// Remove drops one value.
func (s *Store) Remove(key dht.InfoHash, id dht.ValueID) bool {
	i, _ := s.find(key, id)
	if i != 0 {
		s.drop(i)
	}
	return i != 0
}

// drop removes item i, and its key with the last one.
func (s *Store) drop(i uint32) {
	it := s.items.at(i)
	switch first := s.heads[it.key]; {
	case first != i:
		for s.items.at(first).next != i {
			first = s.items.at(first).next
		}
		s.items.at(first).next = it.next
	case it.next != 0:
		s.heads[it.key] = it.next
	default:
		delete(s.heads, it.key)
	}
	s.unbook(i)
	s.blobs.free(it.blob)
	s.items.release(i)
}

// Expire removes the values whose life is over at now and appends them to gone.
func (s *Store) Expire(now time.Time, gone []Gone) []Gone {
	at := s.stamp(now)
	for len(s.byEnd) > 0 && s.byEnd[0].first() <= at {
		gone = s.dropFirst(s.byEnd[0], gone)
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
