package pht

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jirani/jirani/dht"
)

// Limits and times of §17.
const (
	maxEntries    = 16               // entries of a leaf before it splits
	entryLifetime = 10 * time.Minute // of user data
	maxFetched    = 4096             // entries taken from one trie node
	maxSiblings   = 16               // empty leaves an inexact lookup steps aside from
)

// Network is what an index needs of a node. All three block.
type Network interface {
	// Get yields the values at a place until yield returns false.
	Get(ctx context.Context, place dht.InfoHash, q dht.Query, yield func(*dht.Value) bool) error
	// Put stores a value; an id of zero is drawn by the network.
	Put(ctx context.Context, place dht.InfoHash, v *dht.Value) error
	// Watch yields the values at a place, now and as they come, until yield
	// returns false or ctx is done.
	Watch(ctx context.Context, place dht.InfoHash, q dht.Query, yield func(*dht.Value) bool) error
}

// Index is one index over the network. It is safe for concurrent use and
// starts nothing that outlives a call.
type Index struct {
	name  string
	spec  Spec
	net   Network
	cache cache
	now   func() time.Time
	coin  func() bool
}

// New returns the index of that name. now is the clock of the cache of leaves;
// nil means time.Now.
func New(name string, spec Spec, net Network, now func() time.Time) *Index {
	if now == nil {
		now = time.Now
	}
	return &Index{name: name, spec: spec, net: net, now: now, coin: func() bool { return rand.IntN(2) == 0 }}
}

// Lookup returns what the index holds under exactly that key.
func (x *Index) Lookup(ctx context.Context, k Key) ([]Entry, error) {
	p, err := x.spec.Linearize(k)
	if err != nil {
		return nil, err
	}
	s := &search{x: x, key: p, accept: exact(p)}
	_, err = s.run(ctx)
	return s.entries, err
}

// Nearest returns the entries whose key shares the most leading bits with k,
// stepping aside to the sibling of leaves that are empty.
func (x *Index) Nearest(ctx context.Context, k Key) ([]Entry, error) {
	p, err := x.spec.Linearize(k)
	if err != nil {
		return nil, err
	}
	tried := make(map[dht.InfoHash]bool)
	s := &search{x: x, key: p}
	s.accept = s.longest()
	for range maxSiblings {
		leaf, err := s.run(ctx)
		if err != nil || len(s.entries) > 0 || leaf.Bits == 0 {
			return s.entries, err
		}
		side := leaf.Sibling().Full()
		if tried[side.Place()] {
			break
		}
		tried[side.Place()] = true
		s.key, s.low = side, leaf.Bits
	}
	return s.entries, nil
}

// Insert puts an entry at the leaf on the way to its key and returns the trie
// node it went to, for Follow. The entry lives ten minutes.
func (x *Index) Insert(ctx context.Context, k Key, ref Ref) (Prefix, error) {
	p, err := x.spec.Linearize(k)
	if err != nil {
		return Prefix{}, err
	}
	return x.insert(ctx, p, ref, true)
}

// Follow keeps the entry inserted at leaf findable while the trie grows: when
// a canary appears one bit deeper on the way to its key, it is inserted there.
// It returns when ctx is done, or ten minutes after the start, when the entry
// must be inserted again anyway.
func (x *Index) Follow(ctx context.Context, k Key, ref Ref, leaf Prefix) error {
	p, err := x.spec.Linearize(k)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, entryLifetime)
	defer cancel()
	full := p.Full()
	for leaf.Bits < full.Bits {
		grown := false
		err := x.net.Watch(ctx, full.Cut(leaf.Bits+1).Place(), x.query(), func(v *dht.Value) bool {
			grown = grown || v.UserType == canaryType(x.name)
			return !grown
		})
		if !grown {
			return err
		}
		if leaf, err = x.insert(ctx, p, ref, false); err != nil {
			return err
		}
	}
	return nil
}

// query selects nothing beyond what stands there: entries and canaries have
// different user types, and one place hardly has anything else.
func (x *Index) query() dht.Query {
	return dht.Query{Where: []dht.FieldValue{dht.WhereType(dht.TypeUserData)}}
}

// insert finds the leaf, the trie node to put at, and puts.
func (x *Index) insert(ctx context.Context, p Prefix, ref Ref, mayMove bool) (Prefix, error) {
	s := &search{x: x, key: p, accept: func(Entry) bool { return true }}
	leaf, err := s.run(ctx)
	if err != nil {
		return Prefix{}, err
	}
	switch {
	case !mayMove || leaf.Bits >= p.Bits:
	case len(s.entries) < maxEntries:
		leaf, err = x.shallowest(ctx, leaf)
	default:
		leaf, err = x.split(ctx, p.Full(), leaf, s.entries)
	}
	if err != nil {
		return Prefix{}, err
	}
	if err := x.putCanary(ctx, leaf); err != nil {
		return Prefix{}, err
	}
	x.cache.add(leaf, x.now())
	v := &dht.Value{UserType: userType(x.name), Data: Entry{Prefix: p.Content, Ref: ref}.Append(nil)}
	return leaf, x.net.Put(ctx, leaf.Place(), v)
}

// shallowest is the parent of a leaf if parent, leaf and sibling together have
// room for one more entry, else the leaf.
func (x *Index) shallowest(ctx context.Context, leaf Prefix) (Prefix, error) {
	if leaf.Bits == 0 {
		return leaf, nil
	}
	parent, total := leaf.Cut(leaf.Bits-1), 0
	for _, p := range []Prefix{parent, leaf, leaf.Sibling()} {
		n, err := x.fetch(ctx, p)
		if err != nil {
			return Prefix{}, err
		}
		total += len(n.entries)
	}
	if total < maxEntries {
		return parent, nil
	}
	return leaf, nil
}

// split goes down from a full leaf to just below the first bit in which the
// key differs from one of the entries, and marks the way there.
func (x *Index) split(ctx context.Context, full, leaf Prefix, entries []Entry) (Prefix, error) {
	depth := full.Bits
	for _, e := range entries {
		depth = min(depth, full.CommonBits(PrefixOf(e.Prefix))+1)
	}
	depth = max(depth, min(leaf.Bits+1, full.Bits))
	for n := depth; n >= leaf.Bits; n-- {
		if err := x.putCanary(ctx, full.Cut(n)); err != nil {
			return Prefix{}, err
		}
	}
	return full.Cut(depth), nil
}

// putCanary marks a trie node and its sibling as existing and, by the toss of
// a coin, its parent, and so on.
func (x *Index) putCanary(ctx context.Context, p Prefix) error {
	for {
		if err := x.net.Put(ctx, p.Place(), &dht.Value{UserType: canaryType(x.name)}); err != nil || p.Bits == 0 {
			return err
		}
		if err := x.net.Put(ctx, p.Sibling().Place(), &dht.Value{UserType: canaryType(x.name)}); err != nil {
			return err
		}
		if !x.coin() {
			return nil
		}
		p = p.Cut(p.Bits - 1)
	}
}
