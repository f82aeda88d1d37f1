package blockmap

import (
	"math/rand"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// levels is a full map whose nodes of one level are all alike: block number = level, for nodes; data is in block 5.
type levels [MaxLevels + 1][]byte

func (l *levels) Node(a Addr) ([]byte, error) { return l[a.Block()], nil }

// tebibyte is a full map of 1 TiB.
func tebibyte() (*levels, journal.MapRoot) {
	l := new(levels)
	for level := uint64(1); level <= MaxLevels; level++ {
		var t table
		n := Fanout
		if level == 4 {
			n = 2
		}
		for i := range t[:n] {
			t[i] = New(0, level-1, 0)
			if level == 1 {
				t[i] = New(0, 5, uint8(i%block.MaxPages))
			}
		}
		l[level] = make([]byte, block.PageSize)
		t.put(l[level])
	}
	return l, journal.MapRoot{Addr: uint64(New(0, 4, 0)), Levels: 4}
}

const tebibytePages = 1 << 28

func BenchmarkLookup(b *testing.B) {
	p, root := tebibyte()
	r := rand.New(rand.NewSource(1))
	b.ReportAllocs()
	for b.Loop() {
		if a, err := Lookup(p, root, uint64(r.Int63n(tebibytePages))); a == 0 || err != nil {
			b.Fatal(a, err)
		}
	}
}

func BenchmarkLookupRange256(b *testing.B) {
	p, root := tebibyte()
	r := rand.New(rand.NewSource(1))
	var out [256]Addr
	b.ReportAllocs()
	for b.Loop() {
		if err := LookupRange(p, root, uint64(r.Int63n(tebibytePages-256)), out[:]); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkMerge(b *testing.B, spread int64) {
	p, root := tebibyte()
	r := rand.New(rand.NewSource(1))
	o := NewOverlay(1, nil)
	for range 65536 {
		o.Put(uint64(r.Int63n(spread)), 1, New(0, 6, uint8(r.Intn(240))))
	}
	emits, drops := 0, 0
	sink := Sink{
		Emit: func([]byte, uint8, uint64) (Addr, error) { emits++; return New(0, 7, 0), nil },
		Drop: func(Addr) { drops++ },
		Cut:  func(Addr, uint8) {},
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Merge(p, root, o.Sorted(), sink); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(emits)/float64(b.N), "nodes/op")
	b.ReportMetric(float64(drops)/float64(b.N), "drops/op")
}

func BenchmarkMergeRandom(b *testing.B) { benchmarkMerge(b, tebibytePages) }
func BenchmarkMergeDense(b *testing.B)  { benchmarkMerge(b, 1<<18) } // within 1 GiB

func BenchmarkSorted(b *testing.B) {
	o := NewOverlay(1, nil)
	r := rand.New(rand.NewSource(1))
	for range 65536 {
		o.Put(uint64(r.Int63n(tebibytePages)), 1, New(0, 6, 0))
	}
	for b.Loop() {
		o.Sorted().Next()
	}
}

func BenchmarkOverlayPut(b *testing.B) {
	o := NewOverlay(1, nil)
	r := rand.New(rand.NewSource(1))
	b.ReportAllocs()
	for b.Loop() {
		if o.Len() >= 65536 {
			o.Reset()
		}
		o.Put(uint64(r.Int63n(tebibytePages)), 1, New(0, 1, 0))
	}
}

func BenchmarkOverlayPutRun240(b *testing.B) {
	o := NewOverlay(1, nil)
	r := rand.New(rand.NewSource(1))
	b.ReportAllocs()
	for b.Loop() {
		if o.Len() >= 65536 {
			o.Reset()
		}
		o.Put(uint64(r.Int63n(tebibytePages)), 240, New(0, 1, 0))
	}
}

func BenchmarkOverlayLookupRange256(b *testing.B) {
	o := NewOverlay(1, nil)
	r := rand.New(rand.NewSource(1))
	for range 65536 {
		o.Put(uint64(r.Int63n(tebibytePages)), 1, New(0, 6, 0))
	}
	var out [256]Addr
	b.ReportAllocs()
	for b.Loop() {
		o.LookupRange(uint64(r.Int63n(tebibytePages)), out[:], nil)
	}
}

func BenchmarkOverlayDiscardMany(b *testing.B) {
	r := rand.New(rand.NewSource(1))
	o := NewOverlay(1, nil)
	for b.Loop() {
		if o.Len() >= 65536 {
			o.Reset()
		}
		o.Discard(uint64(r.Int63n(tebibytePages)), 1)
	}
}

func BenchmarkArrayGet(b *testing.B) {
	w := newArrayWorld(BlockEntrySize)
	edits := map[uint64][]byte{}
	for i := range uint64(20000) {
		edits[i] = []byte{BlockEntrySize - 1: 1}
	}
	if err := w.merge(edits); err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, BlockEntrySize)
	b.ReportAllocs()
	for b.Loop() {
		if err := w.Get(12345, dst); err != nil {
			b.Fatal(err)
		}
	}
}
