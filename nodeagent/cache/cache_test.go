package cache

import (
	"testing"

	"go.uber.org/goleak"

	"mynetwork.io/mynetwork/nodeagent/volume"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func key(n uint64) volume.CacheKey { return volume.CacheKey{Owner: 1, Kind: 2, A: n, B: 3} }

func TestGetWhatWasPut(t *testing.T) {
	r, err := NewRistretto(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Cache{"ristretto": r, "lru": NewLRU(1 << 20)} {
		t.Run(name, func(t *testing.T) {
			defer c.Close()
			page := new([4096]byte)
			c.Put(key(1), page, 4096)
			if r, ok := c.(*Ristretto); ok {
				r.Settle()
			}
			if v, ok := c.Get(key(1)); !ok || v != any(page) {
				t.Fatalf("got %v %v", v, ok)
			}
			for _, k := range []volume.CacheKey{{Owner: 2, Kind: 2, A: 1, B: 3}, {Owner: 1, Kind: 1, A: 1, B: 3}, {Owner: 1, Kind: 2, A: 1, B: 4}, key(2)} {
				if _, ok := c.Get(k); ok {
					t.Errorf("%+v is there", k)
				}
			}
			if m := c.Metrics(); m.Hits != 1 || m.Misses != 4 || m.HitRate() != 0.2 {
				t.Errorf("metrics %+v", m)
			}
		})
	}
}

// TestCollision: two keys of one hash are told apart. The negative control is the hash that makes all of them collide.
func TestCollision(t *testing.T) {
	r, err := NewRistretto(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.hash = func(volume.CacheKey) uint64 { return 42 }
	r.Put(key(1), "one", 3)
	r.Settle()
	if v, ok := r.Get(key(1)); !ok || v != "one" {
		t.Fatal(v, ok)
	}
	if v, ok := r.Get(key(2)); ok {
		t.Fatalf("key 2 gives the value of key 1: %v", v)
	}
}

func TestBounds(t *testing.T) {
	const limit = 64 << 10
	r, err := NewRistretto(limit)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Cache{"ristretto": r, "lru": NewLRU(limit)} {
		t.Run(name, func(t *testing.T) {
			defer c.Close()
			for i := range uint64(1000) {
				c.Put(key(i), i, 4096)
			}
			if r, ok := c.(*Ristretto); ok {
				r.Settle()
			}
			held := 0
			for i := range uint64(1000) {
				if v, ok := c.Get(key(i)); ok {
					held++
					if v != i {
						t.Fatalf("key %d gives %v", i, v)
					}
				}
			}
			if held > limit/4096 || held == 0 {
				t.Fatalf("%d pages held in %d bytes", held, limit)
			}
			if b := c.Metrics().Bytes; b > limit {
				t.Fatalf("%d bytes held, limit %d", b, limit)
			}
		})
	}
}

func TestLRUOrder(t *testing.T) {
	l := NewLRU(2)
	l.Put(key(1), 1, 1)
	l.Put(key(2), 2, 1)
	l.Get(key(1))
	l.Put(key(3), 3, 1)
	if _, ok := l.Get(key(2)); ok {
		t.Error("the least recently used is still there")
	}
	if _, ok := l.Get(key(1)); !ok {
		t.Error("the latest used is gone")
	}
	l.Put(key(4), 4, 3)
	if _, ok := l.Get(key(4)); ok {
		t.Error("a value larger than the cache is kept")
	}
}

func TestOff(t *testing.T) {
	c, err := New(-1)
	if err != nil {
		t.Fatal(err)
	}
	c.Put(key(1), 1, 1)
	if _, ok := c.Get(key(1)); ok {
		t.Error("Off keeps")
	}
}

func BenchmarkGet(b *testing.B) {
	r, err := NewRistretto(1 << 20)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	r.Put(key(1), 1, 1)
	r.Settle()
	b.ReportAllocs()
	for b.Loop() {
		r.Get(key(1))
	}
}
