package volume

import (
	"iter"

	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
)

// chunkBits is log2 of the entries of a chunk.
const chunkBits = 6

// extentChunk is entries of successive ordinals, of which some are there.
type extentChunk struct {
	entries [1 << chunkBits]blockmap.ExtentEntry
	there   int
}

// extentTable has an entry for each extent by its ordinal. Ordinals only rise, and extents are freed: what has none takes an eighth of a byte.
type extentTable struct {
	chunks []*extentChunk
	n      uint32
}

// noExtent is the entry of what has none. It is never written.
var noExtent blockmap.ExtentEntry

// grow makes the next ordinal n at least.
func (t *extentTable) grow(n uint32) {
	t.n = max(t.n, n)
	for len(t.chunks) < int((uint64(t.n)+1<<chunkBits-1)>>chunkBits) {
		t.chunks = append(t.chunks, nil)
	}
}

// at is the entry of an ordinal, or one of state ExtentNone; it is only read, and until the next set.
func (t *extentTable) at(o uint32) *blockmap.ExtentEntry {
	if o >= t.n || t.chunks[o>>chunkBits] == nil {
		return &noExtent
	}
	return &t.chunks[o>>chunkBits].entries[o&(1<<chunkBits-1)]
}

// set enters an extent; one of state ExtentNone is taken out.
func (t *extentTable) set(o uint32, x blockmap.ExtentEntry) {
	t.grow(o + 1)
	p := &t.chunks[o>>chunkBits]
	if *p == nil {
		if x.State == blockmap.ExtentNone {
			return
		}
		*p = new(extentChunk)
	}
	was := &(*p).entries[o&(1<<chunkBits-1)]
	if was.State != blockmap.ExtentNone {
		(*p).there--
	}
	if x.State != blockmap.ExtentNone {
		(*p).there++
	}
	*was = x
	if (*p).there == 0 {
		*p = nil
	}
}

// all gives the entries that are there, by rising ordinal; they are only read. set may be called meanwhile for the one that was given last.
func (t *extentTable) all() iter.Seq2[uint32, *blockmap.ExtentEntry] {
	return func(yield func(uint32, *blockmap.ExtentEntry) bool) {
		for i, c := range t.chunks {
			if c == nil {
				continue
			}
			for k := range c.entries {
				if c.entries[k].State != blockmap.ExtentNone && !yield(uint32(i<<chunkBits+k), &c.entries[k]) {
					return
				}
			}
		}
	}
}

// before copies the table up to an ordinal.
func (t *extentTable) before(limit uint32) (out extentTable) {
	for o, x := range t.all() {
		if o >= limit {
			break
		}
		out.set(o, *x)
	}
	out.grow(min(limit, t.n))
	return out
}
