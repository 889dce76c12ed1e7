// SPDX-License-Identifier: Apache-2.0

package crypto

import "container/list"

// An lru is a map that forgets what was not used for the longest. It is not
// safe for concurrent use.
type lru[K comparable, V any] struct {
	size  int
	order *list.List // of lruEntry, the most recently used first
	byKey map[K]*list.Element
}

type lruEntry[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](size int) *lru[K, V] {
	return &lru[K, V]{size: size, order: list.New(), byKey: make(map[K]*list.Element)}
}

func (c *lru[K, V]) get(k K) (v V, ok bool) {
	e, ok := c.byKey[k]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*lruEntry[K, V]).value, true
}

func (c *lru[K, V]) put(k K, v V) {
	if e, ok := c.byKey[k]; ok {
		e.Value.(*lruEntry[K, V]).value = v
		c.order.MoveToFront(e)
		return
	}
	c.byKey[k] = c.order.PushFront(&lruEntry[K, V]{k, v})
	if c.order.Len() > c.size {
		c.remove(c.order.Back())
	}
}

// removeIf removes every entry whose value is for removal.
func (c *lru[K, V]) removeIf(remove func(V) bool) {
	for e := c.order.Front(); e != nil; {
		next := e.Next()
		if remove(e.Value.(*lruEntry[K, V]).value) {
			c.remove(e)
		}
		e = next
	}
}

func (c *lru[K, V]) remove(e *list.Element) {
	delete(c.byKey, c.order.Remove(e).(*lruEntry[K, V]).key)
}
