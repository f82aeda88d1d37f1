package cache

import (
	"container/list"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"

	"mynetwork.io/mynetwork/nodeagent/volume"
)

// Metrics count since the cache was made.
type Metrics struct {
	Hits, Misses uint64
	Bytes        int64 // held now, about
}

// HitRate is hits by all look-ups, in [0, 1]; 0 before the first.
func (m Metrics) HitRate() float64 {
	if m.Hits+m.Misses == 0 {
		return 0
	}
	return float64(m.Hits) / float64(m.Hits+m.Misses)
}

// Cache is what a node's agent keeps: the engines' cache, with metrics and an end.
type Cache interface {
	volume.Cache
	Metrics() Metrics
	Close()
}

var (
	_ Cache = (*Ristretto)(nil)
	_ Cache = (*LRU)(nil)
	_ Cache = Off{}
)

// New makes a Ristretto of the given size in bytes, or Off if that is below 1.
func New(bytes int64) (Cache, error) {
	if bytes < 1 {
		return Off{}, nil
	}
	return NewRistretto(bytes)
}

// entry is a value with its whole key.
type entry struct {
	key   volume.CacheKey
	value any
}

// Ristretto is a cache that is bounded by bytes. A value that was put may become visible a little later, or never.
type Ristretto struct {
	c            *ristretto.Cache[uint64, *entry]
	hits, misses atomic.Uint64
	hash         func(k volume.CacheKey) uint64
}

// overhead is about what an entry costs beside its value, in bytes.
const overhead = 128

// NewRistretto makes a cache of at most size bytes.
func NewRistretto(size int64) (*Ristretto, error) {
	c, err := ristretto.NewCache(&ristretto.Config[uint64, *entry]{
		NumCounters: max(size/4096*10, 1000), // ten for each page that fits, as its documentation advises
		MaxCost:     size,
		BufferItems: 64,
		Metrics:     true,
	})
	if err != nil {
		return nil, fmt.Errorf("cache of %d bytes: %w", size, err)
	}
	return &Ristretto{c: c, hash: mix}, nil
}

// Get returns what was put under k, if it is still there.
func (r *Ristretto) Get(k volume.CacheKey) (any, bool) {
	if e, ok := r.c.Get(r.hash(k)); ok && e.key == k {
		r.hits.Add(1)
		return e.value, true
	}
	r.misses.Add(1)
	return nil, false
}

// Put keeps v, of about the given bytes, for a while.
func (r *Ristretto) Put(k volume.CacheKey, v any, bytes int) {
	r.c.Set(r.hash(k), &entry{k, v}, int64(bytes)+overhead)
}

// Settle waits until what was put is visible; for tests.
func (r *Ristretto) Settle() { r.c.Wait() }

// Metrics reads the counters.
func (r *Ristretto) Metrics() Metrics {
	m := r.c.Metrics
	return Metrics{Hits: r.hits.Load(), Misses: r.misses.Load(), Bytes: int64(m.CostAdded() - m.CostEvicted())}
}

// Close ends the cache's goroutines. Nothing may be called after it.
func (r *Ristretto) Close() { r.c.Close() }

// mix spreads a key over 64 bits: splitmix64's finalizer (Steele, Lea, Flood 2014) over the fields in turn.
func mix(k volume.CacheKey) uint64 {
	h := k.Owner
	for _, v := range [...]uint64{uint64(k.Kind), k.A, k.B} {
		h += 0x9e3779b97f4a7c15 + v
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}

// LRU is a deterministic cache that drops what was used least recently. The zero value is not usable: see NewLRU.
type LRU struct {
	mu    sync.Mutex
	limit int64
	m     Metrics
	byKey map[volume.CacheKey]*list.Element
	order *list.List // of *lruEntry, the latest used first
}

type lruEntry struct {
	entry
	bytes int64
}

// NewLRU makes a cache of at most size bytes of values.
func NewLRU(size int64) *LRU {
	return &LRU{limit: size, byKey: map[volume.CacheKey]*list.Element{}, order: list.New()}
}

// Get returns what was put under k, if it is still there.
func (l *LRU) Get(k volume.CacheKey) (any, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.byKey[k]
	if !ok {
		l.m.Misses++
		return nil, false
	}
	l.m.Hits++
	l.order.MoveToFront(e)
	return e.Value.(*lruEntry).value, true
}

// Put keeps v until what comes later needs its room.
func (l *LRU) Put(k volume.CacheKey, v any, bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.byKey[k]; ok {
		l.drop(e)
	}
	if int64(bytes) > l.limit {
		return
	}
	l.byKey[k] = l.order.PushFront(&lruEntry{entry{k, v}, int64(bytes)})
	l.m.Bytes += int64(bytes)
	for l.m.Bytes > l.limit {
		l.drop(l.order.Back())
	}
}

func (l *LRU) drop(e *list.Element) {
	x := l.order.Remove(e).(*lruEntry)
	delete(l.byKey, x.key)
	l.m.Bytes -= x.bytes
}

// Metrics reads the counters.
func (l *LRU) Metrics() Metrics {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.m
}

// Close does nothing.
func (l *LRU) Close() {}

// Off is a cache that keeps nothing.
type Off struct{}

// Get finds nothing.
func (Off) Get(volume.CacheKey) (any, bool) { return nil, false }

// Put does nothing.
func (Off) Put(volume.CacheKey, any, int) {}

// Metrics are zero.
func (Off) Metrics() Metrics { return Metrics{} }

// Close does nothing.
func (Off) Close() {}
