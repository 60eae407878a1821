package registry

import (
	"container/list"
	"sync"
)

// cache is a map bounded in bytes that drops what was used longest ago. It is
// safe for concurrent use.
type cache[K comparable, V any] struct {
	mu    sync.Mutex
	limit int64
	used  int64
	byKey map[K]*list.Element
	order list.List // front: used last
}

type cached[K comparable, V any] struct {
	key   K
	value V
	bytes int64
}

func newCache[K comparable, V any](limit int64) *cache[K, V] {
	return &cache[K, V]{limit: limit, byKey: map[K]*list.Element{}}
}

func (c *cache[K, V]) get(key K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached[K, V]).value, true
}

// put enters an immutable value; a second put of a key changes nothing.
func (c *cache[K, V]) put(key K, v V, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byKey[key]; ok {
		return
	}
	c.byKey[key] = c.order.PushFront(&cached[K, V]{key, v, bytes})
	for c.used += bytes; c.used > c.limit && c.order.Len() > 1; {
		e := c.order.Back()
		old := c.order.Remove(e).(*cached[K, V])
		delete(c.byKey, old.key)
		c.used -= old.bytes
	}
}
