package agent

import (
	"testing"

	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// BenchmarkWriteFlush is one 4 KiB write and the flush behind it, over three agents, TLS and real disks.
func BenchmarkWriteFlush(b *testing.B) {
	c := newCluster(b, 3, false)
	c.create("a", "vol", 64*mib)
	e := c.attach("a", "vol")
	p := make([]byte, 4096)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		p[0] = byte(i)
		check(b, e.Write(ring.ID{}, p, int64(i%16384)*4096))
		check(b, e.Flush())
		i++
	}
}

// BenchmarkWrite is 64 KiB writes, flushed once in 256.
func BenchmarkWrite(b *testing.B) {
	c := newCluster(b, 3, false)
	c.create("a", "vol", 64*mib)
	e := c.attach("a", "vol")
	p := make([]byte, 64<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		p[0] = byte(i)
		check(b, e.Write(ring.ID{}, p, int64(i%1024)*64<<10))
		if i++; i%256 == 0 {
			check(b, e.Flush())
		}
	}
}
