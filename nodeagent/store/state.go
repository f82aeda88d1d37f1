package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"syscall"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/disk"
)

// Superblock says who a store is.
type Superblock struct {
	Network [16]byte      // the network it belongs to
	Store   block.StoreID // this incarnation
	Node    string        // the node that formatted it, at most 255 bytes: for people
}

// encode writes the superblock, with the shape of the log that the options gave it at Format.
func (sb *Superblock) encode(o *Options) []byte {
	var e enc
	e.raw(sb.Network[:])
	e.raw(sb.Store[:])
	e.u64(uint64(o.SegmentSize))
	e.u16(uint16(o.Segments))
	e.u16(uint16(o.Align))
	e.short(sb.Node)
	return seal(magicSuper, e.b)
}

// decodeSuper reads what encode wrote, and the shape of the log into o.
func decodeSuper(file []byte, o *Options) (sb Superblock, err error) {
	body, err := unsealTwice(magicSuper, file)
	if err != nil {
		return sb, err
	}
	d := dec{b: body}
	sb = Superblock{Network: d.id16(), Store: d.id16()}
	o.SegmentSize, o.Segments, o.Align = int64(d.u64()), int(d.u16()), int(d.u16())
	sb.Node = d.short()
	if err := d.done("superblock"); err != nil {
		return sb, err
	}
	if _, err := o.withDefaults(); err != nil {
		return sb, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return sb, nil
}

// promise is the highest epoch promised for a volume.
type promise struct {
	epoch   block.Epoch
	settled bool // made, or confirmed, after the log was last damaged
}

// openExtent says what the files of an extent without a footer durably hold.
type openExtent struct {
	logLen  uint32
	hash    block.Hash // of the record that ends there
	lsn     LSN        // log entries of the extent up to here are in the files
	unknown bool
}

// place is where a batch is, or will be.
type place struct {
	batch        uint64
	slot, sector uint32
	lsn          LSN // of its first entry
}

// state is the content of the state file.
type state struct {
	generation uint64
	start      place // batches before it are not replayed
	lsn        LSN   // promises, tombstones and values up to here are in this state
	unsure     bool  // the log was damaged: a promise that is not settled may have been lost
	promises   map[block.VolumeID]promise
	tombs      map[block.VolumeID][]byte
	meta       map[string][]byte
	open       map[block.ExtentID]openExtent
}

func newState() *state {
	return &state{promises: map[block.VolumeID]promise{}, tombs: map[block.VolumeID][]byte{}, meta: map[string][]byte{},
		open: map[block.ExtentID]openExtent{}}
}

func compareVolumes(a, b block.VolumeID) int { return bytes.Compare(a[:], b[:]) }

func compareExtents(a, b block.ExtentID) int {
	return cmp.Or(compareVolumes(a.Volume, b.Volume), cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.N, b.N))
}

func (st *state) encode() []byte {
	var e enc
	e.u64(st.generation)
	e.u64(st.start.batch)
	e.u32(st.start.slot)
	e.u32(st.start.sector)
	e.u64(uint64(st.start.lsn))
	e.u64(uint64(st.lsn))
	e.flag(st.unsure)
	e.u32(uint32(len(st.promises)))
	for _, v := range slices.SortedFunc(maps.Keys(st.promises), compareVolumes) {
		e.raw(v[:])
		e.epoch(st.promises[v].epoch)
		e.flag(st.promises[v].settled)
	}
	e.u32(uint32(len(st.tombs)))
	for _, v := range slices.SortedFunc(maps.Keys(st.tombs), compareVolumes) {
		e.raw(v[:])
		e.long(st.tombs[v])
	}
	e.u32(uint32(len(st.meta)))
	for _, k := range slices.Sorted(maps.Keys(st.meta)) {
		e.short(k)
		e.long(st.meta[k])
	}
	e.u32(uint32(len(st.open)))
	for _, x := range slices.SortedFunc(maps.Keys(st.open), compareExtents) {
		o := st.open[x]
		e.extent(x)
		e.u32(o.logLen)
		e.raw(o.hash[:])
		e.u64(uint64(o.lsn))
		e.flag(o.unknown)
	}
	return seal(magicState, e.b)
}

func decodeState(file []byte) (*state, error) {
	body, err := unsealTwice(magicState, file)
	if err != nil {
		return nil, err
	}
	d, st := dec{b: body}, newState()
	st.generation, st.start, st.lsn = d.u64(), place{d.u64(), d.u32(), d.u32(), LSN(d.u64())}, LSN(d.u64())
	st.unsure = d.flag()
	for range d.count(37) {
		v := d.id16()
		st.promises[v] = promise{d.epoch(), d.flag()}
	}
	for range d.count(20) {
		v := d.id16()
		st.tombs[v] = bytes.Clone(d.long())
	}
	for range d.count(6) {
		k := d.short()
		st.meta[k] = bytes.Clone(d.long())
	}
	for range d.count(73) {
		x := d.extent()
		st.open[x] = openExtent{d.u32(), d.hash(), LSN(d.u64()), d.flag()}
	}
	return st, d.done("state")
}

// readWhole reads a small file. Bytes that can not be read are zeros, so that another copy in the file may still do.
func readWhole(d disk.FS, name string) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	n, err := f.Size()
	if err != nil {
		return nil, err
	}
	if n > 4*maxBody {
		return nil, fmt.Errorf("%s of %d bytes: %w", name, n, ErrCorrupt)
	}
	b := make([]byte, n)
	var failed error
	for at := int64(0); at < n; at += page {
		p := b[at:min(at+page, n)]
		if k, err := f.ReadAt(p, at); k < len(p) {
			clear(p)
			if err != nil && !errors.Is(err, io.EOF) {
				failed = err
			}
		}
	}
	return b, failed
}

// writeWhole replaces a file atomically and durably.
func writeWhole(d disk.FS, dir, name string, b []byte) error {
	tmp := name + sufNew
	if err := d.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.Create(tmp)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(b, 0); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := d.Rename(tmp, name); err != nil {
		return err
	}
	return d.SyncDir(dir)
}

// reserveSize is the space that the file "reserve" keeps for the state and footers when others fill the disk, in bytes.
const reserveSize = 4 << 20

// replace is writeWhole; on a full disk it takes the reserve. ErrFull leaves everything as it was.
func (s *Store) replace(dir, name string, b []byte) error {
	err := writeWhole(s.fs, dir, name, b)
	if errors.Is(err, syscall.ENOSPC) && s.fs.Remove(fileReserve) == nil {
		s.mu.Lock()
		s.reserved = false
		s.mu.Unlock()
		err = writeWhole(s.fs, dir, name, b)
	}
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%s: %w", name, ErrFull)
	}
	return err
}

// refill makes the reserve again if it was taken. A disk that is still full lets it be.
func (s *Store) refill() {
	s.mu.Lock()
	have := s.reserved
	s.mu.Unlock()
	if have {
		return
	}
	f, err := s.fs.Create(fileReserve)
	if errors.Is(err, fs.ErrExist) {
		f, err = s.fs.Open(fileReserve)
	}
	if err != nil {
		return
	}
	err = f.Allocate(reserveSize)
	_ = f.Close() // it holds nothing
	if err != nil {
		_ = s.fs.Remove(fileReserve)
		return
	}
	s.mu.Lock()
	s.reserved = true
	s.mu.Unlock()
}
