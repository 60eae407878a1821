package pht

import (
	"context"
	"sync"
	"time"

	"github.com/jirani/jirani/dht"
)

// node is what stands at a trie node.
type node struct {
	exists  bool // there is a canary
	entries []Entry
}

// fetch reads a trie node. Entries that do not parse are skipped.
func (x *Index) fetch(ctx context.Context, p Prefix) (node, error) {
	var n node
	seen := make(map[Ref]bool)
	err := x.net.Get(ctx, p.Place(), x.query(), func(v *dht.Value) bool {
		switch v.UserType {
		case canaryType(x.name):
			n.exists = true
		case userType(x.name):
			if e, err := ParseEntry(v.Data); err == nil && !seen[e.Ref] {
				seen[e.Ref] = true
				n.entries = append(n.entries, e)
			}
		}
		return len(n.entries) < maxFetched
	})
	return n, err
}

// search is a binary search for the leaf on the way to a key. Entries met on
// the way that are accepted are collected.
type search struct {
	x       *Index
	key     Prefix
	low     int // depth at which the trie is known to exist
	accept  func(Entry) bool
	entries []Entry
	longer  int // for longest: bits shared by the entries collected
}

// run returns the leaf: the deepest trie node on the way to the key, the root
// if there is no trie.
func (s *search) run(ctx context.Context) (Prefix, error) {
	low, high := s.low, s.key.Bits
	mid := min(s.x.cache.depth(s.key, s.x.now()), high)
	if mid < low {
		mid = (low + high) / 2
	}
	for low <= high {
		here, deeper, err := s.pair(ctx, mid)
		if err != nil {
			return Prefix{}, err
		}
		switch {
		case !here.exists:
			high = mid - 1
		case !deeper.exists:
			leaf := s.key.Cut(mid)
			s.x.cache.add(leaf, s.x.now())
			return leaf, nil
		default:
			low = mid + 1
		}
		mid = (low + high) / 2
	}
	return s.key.Cut(max(high, 0)), nil
}

// pair fetches the trie nodes at depth n and n+1 at the same time.
func (s *search) pair(ctx context.Context, n int) (here, deeper node, err error) {
	var wg sync.WaitGroup
	var errDeeper error
	if n < s.key.Bits {
		wg.Go(func() { deeper, errDeeper = s.x.fetch(ctx, s.key.Cut(n+1)) })
	}
	here, err = s.x.fetch(ctx, s.key.Cut(n))
	wg.Wait()
	if err == nil {
		err = errDeeper
	}
	s.collect(here.entries)
	s.collect(deeper.entries)
	return here, deeper, err
}

func (s *search) collect(entries []Entry) {
	for _, e := range entries {
		if !s.has(e.Ref) && s.accept(e) {
			s.entries = append(s.entries, e)
		}
	}
}

func (s *search) has(ref Ref) bool {
	for _, e := range s.entries {
		if e.Ref == ref {
			return true
		}
	}
	return false
}

// exact accepts entries whose whole content is that of the key.
func exact(p Prefix) func(Entry) bool {
	return func(e Entry) bool { return string(e.Prefix) == string(p.Content) }
}

// longest accepts entries that share at least as many bits with the key as
// those before, and forgets the others. The padding counts.
func (s *search) longest() func(Entry) bool {
	wanted := s.key.Full()
	return func(e Entry) bool {
		common := wanted.CommonBits(PrefixOf(e.Prefix))
		if len(s.entries) > 0 && common < s.longer {
			return false
		}
		if common > s.longer {
			s.entries, s.longer = nil, common
		}
		return true
	}
}

// Bounds of the cache of leaves (§17).
const (
	cacheLeaves = 1024
	cacheTime   = 5 * time.Minute
)

// cache remembers leaves met lately, to start searches at their depth.
type cache struct {
	mu     sync.Mutex
	leaves map[dht.InfoHash]cached // guarded by mu
}

type cached struct {
	leaf Prefix
	met  time.Time
}

// add remembers a leaf; when full, the one not met for longest goes.
func (c *cache) add(leaf Prefix, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaves == nil {
		c.leaves = make(map[dht.InfoHash]cached)
	}
	c.leaves[leaf.Place()] = cached{leaf, now}
	if len(c.leaves) <= cacheLeaves {
		return
	}
	var oldest dht.InfoHash
	met := now
	for place, l := range c.leaves {
		if !l.met.After(met) && place != leaf.Place() {
			oldest, met = place, l.met
		}
	}
	delete(c.leaves, oldest)
}

// depth is how far the remembered leaves go on the way to p, −1 for unknown.
func (c *cache) depth(p Prefix, now time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	depth := -1
	for place, l := range c.leaves {
		if now.Sub(l.met) > cacheTime {
			delete(c.leaves, place)
			continue
		}
		depth = max(depth, p.CommonBits(l.leaf))
	}
	return depth
}
