package store

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/disk"
)

// Errors. They are wrapped with what was attempted.
var (
	ErrNotEmpty    = errors.New("directory is not empty")
	ErrNoStore     = errors.New("no store here")
	ErrCorrupt     = errors.New("store is corrupt")
	ErrNewer       = errors.New("store is of a newer version of this program")
	ErrFull        = errors.New("store is full")
	ErrExtentFull  = errors.New("extent is full")
	ErrBusy        = errors.New("store is busy: commit and tidy, then try again")
	ErrMismatch    = errors.New("content does not match")
	ErrNotHeld     = errors.New("not held")
	ErrDeleted     = errors.New("volume is deleted")
	ErrQuarantined = errors.New("store is quarantined")
	ErrIO          = errors.New("disk error")
	ErrTooLarge    = errors.New("too large")
	ErrClosed      = errors.New("store is closed")
)

// LSN numbers the staged operations of a store, from 1, without end. 0 is before the first.
type LSN uint64

// Options of a store. The zero value is usable. Align, SegmentSize and Segments count at Format only.
type Options struct {
	Align       int   // bytes, 512 (default) or 4096: what the disk writes whole or not at all; its physical sector if that is known
	SegmentSize int64 // bytes of one log segment, a multiple of 4096, at least 1 MiB, at most 2 GiB; default 32 MiB
	Segments    int   // in the ring, 3 to 256; default 8
	Capacity    int64 // bytes the store may use; 0 is the whole disk
	Inline      int   // payloads smaller than this many bytes travel inside the log; default 32 KiB, at most 256 KiB
	MaxFiles    int   // open descriptors; default 1024

	trustStamps bool // negative control of tests: what is not whole counts as never written
}

// MaxMeta is the most bytes of a value of SetMeta.
const MaxMeta = 64 << 10

// MaxSigned is the most bytes of a deletion record.
const MaxSigned = 64 << 10

func (o Options) withDefaults() (Options, error) {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&o.Align, sectorSize)
	def(&o.Segments, 8)
	def(&o.Inline, 32<<10)
	def(&o.MaxFiles, 1024)
	if o.SegmentSize == 0 {
		o.SegmentSize = 32 << 20
	}
	if o.Align != sectorSize && o.Align != page || o.SegmentSize < 1<<20 || o.SegmentSize > 1<<31 || o.SegmentSize%page != 0 ||
		o.Segments < 3 || o.Segments > 256 || o.Inline < 1 || o.Inline > journal.MaxPayload || o.MaxFiles < 8 || o.Capacity < 0 {
		return o, fmt.Errorf("store: options out of range: %+v", o)
	}
	return o, nil
}

// largestEntry is what the largest entry needs, in bytes: a record with the largest body, or with the rows of as many pages
// as a record has and all of them inline.
const largestEntry = prologue + entrySlack + journal.MaxRecordPages*(block.PageSize+block.RowSize) + journal.HeaderSize

const _ = uint(largestEntry - (prologue + entrySlack + journal.MaxRecord)) // does not compile if a body could be larger

// maxBatch bounds a batch in bytes: four fit a segment, so that the ring wastes less than a quarter; three do if segments
// are so small that the largest entry would not fit otherwise.
func (o *Options) maxBatch() int {
	return max(int(min(o.SegmentSize/4, 8<<20)), sectorsFor(largestEntry, o.Align)*sectorSize)
}

// segment is one slot of the log's ring.
type segment struct {
	f     disk.File
	seed  uint32
	first place // its first batch
	last  LSN   // of its entries
}

// Store is one open store.
type Store struct {
	fs disk.FS
	o  Options
	sb Superblock

	files fileSet
	tails tails
	// keeping is how many bytes of memory that is lent are held.
	keeping atomic.Int64
	segs    []segment

	committing sync.Mutex // one Commit at a time; before stating and mu
	tidying    sync.Mutex // one Tidy at a time; before committing
	shifting   []*extent  // of tidyTails; guarded by tidying
	stating    sync.Mutex // one writer of the state file at a time; before mu

	mu       sync.Mutex // guards all below
	dead     error      // why the store is quarantined or closed
	extents  map[block.ExtentID]*extent
	volumes  map[block.VolumeID][]*extent // ascending by extent id
	st       *state                       // promises, tombstones, values, generation; where the log starts
	cur      *batch                       // being staged
	spare    *batch
	lsn      LSN    // last one given out
	durable  LSN    // all up to here survive power loss
	next     uint64 // number of the next batch
	marked   uint64 // the last batch that is known to be followed by another
	slot     int    // segment being written
	pos      int64  // bytes, in it
	live     int    // segments in use, the one being written included
	dirty    []*extent
	closing  []*extent // closed extents that wait for their footer
	unsynced [256]bool // shard directories with removed names
	made     [256]bool // shard directories that exist durably
	own      int64     // bytes that the extents occupy or have reserved
	grown    int64     // bytes that were ever added to own
	unmade   int64     // of grown: reserved for files that are not made yet
	figure   figure    // what the file system last said of its room
	// questions counts those for a figure.
	questions uint64
	reserved  bool      // the file "reserve" is there
	scratch   [128]byte // for encoding entry heads
}

// Quarantined gives the cause, wrapped in ErrQuarantined, or nil.
func (s *Store) Quarantined() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(s.dead, ErrQuarantined) {
		return s.dead
	}
	return nil
}

// fail quarantines the store: from now on every call gives the same error. It returns that error.
func (s *Store) fail(cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead == nil {
		s.dead = fmt.Errorf("%w: %w", ErrQuarantined, cause)
	}
	return s.dead
}

// Superblock says who the store is.
func (s *Store) Superblock() Superblock { return s.sb }

// Generation counts the openings of the store.
func (s *Store) Generation() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st.generation
}

// ExtentStat describes an extent.
type ExtentStat struct {
	Chain   journal.Chain   // its end, staged records included
	Durable journal.Chain   // its end as covered by commits
	Open    journal.Open    // body of its open record; zero if that was lost
	Closed  *journal.Closed // body of its closed record, nil while open; not to be changed
	Unknown bool            // records after Chain may have been lost: it has no vote on the tail
}

// Stat describes an extent; ok is false if the store does not hold it, or is quarantined.
func (s *Store) Stat(id block.ExtentID) (st ExtentStat, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.extents[id]
	if x == nil || x.freed != 0 || s.dead != nil {
		return st, false
	}
	return ExtentStat{Chain: x.chain, Durable: x.durable, Open: x.open, Closed: x.closed, Unknown: x.unknown}, true
}

// Extents lists the extents of a volume, ascending.
func (s *Store) Extents(v block.VolumeID) []block.ExtentID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []block.ExtentID
	for _, x := range s.volumes[v] {
		if x.freed == 0 {
			out = append(out, x.id)
		}
	}
	return out
}

// VolumeStat describes what the store holds of a volume.
type VolumeStat struct {
	Volume   block.VolumeID
	Extents  int
	Log      int64 // bytes of log streams
	Data     int64 // bytes of data streams
	Promised block.Epoch
	Unsure   bool // a higher promise may have been lost: see Settle
	Deleted  bool
}

// Volumes describes every volume that the store knows: by an extent, a promise or a tombstone; ascending.
func (s *Store) Volumes() []VolumeStat {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[block.VolumeID]*VolumeStat{}
	of := func(v block.VolumeID) *VolumeStat {
		if seen[v] == nil {
			seen[v] = &VolumeStat{Volume: v, Promised: s.st.promises[v].epoch, Unsure: s.unsure(v)}
		}
		return seen[v]
	}
	for v, xs := range s.volumes {
		for _, x := range xs {
			if x.freed == 0 {
				st := of(v)
				st.Extents++
				st.Log += int64(x.chain.LogLen)
				st.Data += int64(x.chain.DataLen)
			}
		}
	}
	for v := range s.st.promises {
		of(v)
	}
	for v := range s.st.tombs {
		of(v).Deleted = true
	}
	out := make([]VolumeStat, 0, len(seen))
	for _, st := range seen {
		out = append(out, *st)
	}
	slices.SortFunc(out, func(a, b VolumeStat) int { return compareVolumes(a.Volume, b.Volume) })
	return out
}

// CountExtents counts the extents that the store holds.
func (s *Store) CountExtents() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.extents {
		if x.freed == 0 {
			n++
		}
	}
	return n
}

// Promised is the highest epoch promised for a volume, staged ones included; zero if none.
func (s *Store) Promised(v block.VolumeID) block.Epoch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st.promises[v].epoch
}

// Unsure reports whether damage to the log may have lost a promise for v that is higher than Promised. Until Settle
// the store's owner must not let it vote for v, nor accept a writer of v.
func (s *Store) Unsure(v block.VolumeID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unsure(v)
}

func (s *Store) unsure(v block.VolumeID) bool { return s.st.unsure && !s.st.promises[v].settled }

// Deleted gives the signed deletion record of a volume, nil if there is none. It must not be changed.
func (s *Store) Deleted(v block.VolumeID) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st.tombs[v]
}

// Meta gives a value of SetMeta, staged ones included; nil if there is none. It must not be changed.
func (s *Store) Meta(key string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st.meta[key]
}

// Close commits, writes the state and releases the files. A store that was not closed loses nothing that was
// committed; opening it takes longer.
func (s *Store) Close() error {
	s.mu.Lock()
	gone := errors.Is(s.dead, ErrClosed)
	s.mu.Unlock()
	if gone {
		return nil
	}
	_, err := s.Commit()
	if err == nil {
		err = s.checkpoint()
	}
	s.mu.Lock()
	if s.dead == nil {
		s.dead = ErrClosed
	} else if errors.Is(err, ErrQuarantined) {
		err = nil // it was reported by the call that failed, and there is nothing to save
	}
	s.mu.Unlock()
	s.files.closeAll()
	for i := range s.segs {
		_ = s.segs[i].f.Close() // synced by each commit
	}
	return err
}
