package journal

import (
	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// Ref is a literal reference to one index page: where it lies and its leaf. The block table and the extent directory
// are trees of such references, because they are what turns block numbers into places. A zero Ref is an empty subtree.
//
// Encoding, RefSize bytes: epoch u64, n u32 (the extent, born in the volume at hand), dataOff u32, leaf 32, reserved 16.
type Ref struct {
	Epoch uint64
	N     uint32
	Off   uint32
	Leaf  block.Hash
}

// RefSize is the encoded size of a Ref in bytes; a page holds 64.
const RefSize = 64

// IsZero reports whether r refers to nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// Put encodes r into the first RefSize bytes of b.
func (r *Ref) Put(b []byte) {
	w := writer{b: b[:0]}
	w.ref(r)
}

// GetRef decodes what Put wrote.
func GetRef(b []byte) Ref {
	r := reader{b: b[:RefSize]}
	return r.ref()
}

func (w *writer) ref(r *Ref) {
	w.u64(r.Epoch)
	w.u32(r.N)
	w.u32(r.Off)
	w.bytes(r.Leaf[:])
	w.u64(0)
	w.u64(0)
}

func (r *reader) ref() Ref {
	v := Ref{Epoch: r.u64(), N: r.u32(), Off: r.u32(), Leaf: r.hash()}
	if first, second := r.u64(), r.u64(); first|second != 0 {
		r.fail("reserved bytes of a reference in use")
	}
	return v
}

// MapRoot is the root of a volume's map: an address (see package blockmap) and the height of the tree.
type MapRoot struct {
	Addr   uint64
	Levels uint8
}

// ArrayRoot is the root of a paged array: the block table or the extent directory.
type ArrayRoot struct {
	Ref    Ref
	Levels uint8
	Count  uint64 // entries
}

// SnapshotRoot is a kept root.
type SnapshotRoot struct {
	Snapshot
	Root      MapRoot
	Pages     uint64 // volume size in pages when it was taken
	NextBlock uint64 // block numbers below it may be named by the root
}

// Checkpoint is the body of a checkpoint record: everything needed to open the volume and replay from Replay.
type Checkpoint struct {
	Replay    Position // first record that the roots do not cover
	Pages     uint64   // volume size in pages
	Map       MapRoot
	Table     ArrayRoot // block number -> place
	Dir       ArrayRoot // extent ordinal -> extent
	NextBlock uint64
	WSeq      uint64 // highest write sequence of the present epoch that the roots cover
	Lineage   []block.VolumeID
	Snapshots []SnapshotRoot
}

// checkpointVersion is of the body of a checkpoint.
const checkpointVersion = 1

// Encode gives the body: version u8 = 1, then the fields in order.
func (c *Checkpoint) Encode() []byte {
	w := writer{}
	w.u8(checkpointVersion)
	w.position(&c.Replay)
	w.u64(c.Pages)
	w.mapRoot(c.Map)
	w.arrayRoot(&c.Table)
	w.arrayRoot(&c.Dir)
	w.u64(c.NextBlock)
	w.u64(c.WSeq)
	w.u16(uint16(len(c.Lineage)))
	for _, v := range c.Lineage {
		w.bytes(v[:])
	}
	w.u16(uint16(len(c.Snapshots)))
	for i := range c.Snapshots {
		s := &c.Snapshots[i]
		w.bytes(s.ID[:])
		w.u64(uint64(s.Created))
		w.name(s.Name)
		w.mapRoot(s.Root)
		w.u64(s.Pages)
		w.u64(s.NextBlock)
	}
	return w.b
}

func (w *writer) mapRoot(m MapRoot) { w.u64(m.Addr); w.u8(m.Levels) }
func (r *reader) mapRoot() MapRoot  { return MapRoot{Addr: r.u64(), Levels: r.u8()} }

func (w *writer) arrayRoot(a *ArrayRoot) { w.ref(&a.Ref); w.u8(a.Levels); w.u64(a.Count) }
func (r *reader) arrayRoot() ArrayRoot {
	return ArrayRoot{Ref: r.ref(), Levels: r.u8(), Count: r.u64()}
}

// DecodeCheckpoint reads what Encode wrote.
func DecodeCheckpoint(b []byte) (c Checkpoint, err error) {
	r := reader{b: b}
	if v := r.u8(); v != checkpointVersion {
		r.fail("checkpoint version %d", v)
	}
	c = Checkpoint{Replay: r.position(), Pages: r.u64(), Map: r.mapRoot(), Table: r.arrayRoot(), Dir: r.arrayRoot(),
		NextBlock: r.u64(), WSeq: r.u64()}
	for range r.count(MaxLineage, "ancestors") {
		c.Lineage = append(c.Lineage, r.id16())
	}
	for range r.count(MaxSnapshots, "snapshots") {
		s := SnapshotRoot{Snapshot: Snapshot{ID: r.id16(), Created: int64(r.u64()), Name: r.name()}}
		s.Root, s.Pages, s.NextBlock = r.mapRoot(), r.u64(), r.u64()
		c.Snapshots = append(c.Snapshots, s)
	}
	if c.Map.Levels > 4 || c.Table.Levels > 6 || c.Dir.Levels > 6 {
		r.fail("tree heights %d, %d, %d", c.Map.Levels, c.Table.Levels, c.Dir.Levels)
	}
	return c, r.done()
}
