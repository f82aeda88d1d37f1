package volume

import (
	"testing"

	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// BenchmarkWrite4K is the engine's and three replicas' work for one 4 KiB write, on memory disks and without a network.
func BenchmarkWrite4K(b *testing.B) {
	w := newWorld(b, 3)
	s := w.create(1)
	s.Extent = 0
	e := w.open(s, Options{Ring: make([]byte, ring.DefaultSize)})
	p := fill(make([]byte, 4096), 1)
	b.SetBytes(4096)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if err := e.Write(ring.ID{}, p, int64(uint64(i)*2654435761%(1<<16))*4096); err != nil {
			b.Fatal(err)
		}
	}
	if err := e.Flush(); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	_ = e.Close(false)
}

// BenchmarkRead4K reads sealed pages from a store of the same process.
func BenchmarkRead4K(b *testing.B) {
	w := newWorld(b, 3)
	s := w.create(1)
	s.Extent = 0
	d := w.deps()
	d.Cache = &mapCache{}
	d.Local = w.local
	e, err := Open(d, s, Options{Ring: make([]byte, ring.DefaultSize)})
	if err != nil {
		b.Fatal(err)
	}
	p := fill(make([]byte, 64<<10), 1)
	for i := range 1 << 12 {
		if err := e.Write(ring.ID{}, p, int64(i)*64<<10); err != nil {
			b.Fatal(err)
		}
	}
	if err := e.Checkpoint(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(4096)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		off := int64(uint64(i)*2654435761%(1<<16)) * 4096
		ok, err := e.TryRead(p[:4096], off, nil)
		if err == nil && !ok { // it would have to wait, as for a pass of cleaning
			err = e.Read(p[:4096], off)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	_ = e.Close(false)
}
