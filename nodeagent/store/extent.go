package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
	"syscall"
	"unsafe"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/disk"
)

// extent is the index's entry of an extent.
type extent struct {
	id    block.ExtentID
	shard uint8
	log   file
	dat   file

	mu sync.Mutex // serialises whatever changes the extent; before Store.mu

	// Guarded by Store.mu; changed only with mu held too, except by Commit.
	chain   journal.Chain // staged end
	pending journal.Chain // end as in the batch that is being written
	durable journal.Chain // committed end
	open    journal.Open
	closed  *journal.Closed
	synced  journal.Chain // what the files durably hold ...
	upTo    LSN           // ... which is every entry up to here
	oldest  LSN           // first log entry that is not covered by upTo; 0 if none
	newest  LSN           // last log entry
	cut     LSN           // of the last cut: appends wait until it is durable
	freed   LSN           // of the free; 0 while it lives
	space   int64         // bytes occupied or reserved
	reopens bool          // a staged cut takes its closed record away
	unknown bool
	footer  bool   // the footer is durable
	logCRC  uint32 // of the log, as in the footer
	batched bool   // it is in the batch being staged
	queued  bool   // it is in closing

	allocated bool   // its files' space was reserved by this process; guarded by mu
	turn      uint64 // how often something was written to its data, whether a record names it or not; guarded by mu
	sum       logSum // guarded by mu
}

// logSum is the checksum of a log as this process appended it, all from its first byte on: of bytes of which each record followed the chain when it came.
type logSum struct {
	n   uint32 // bytes
	crc uint32
}

// add extends the sum by a record that was appended at off. What has another end than the sum, after a cut or a restart, is not summed any more.
func (c *logSum) add(off uint32, rec []byte) {
	if off != c.n {
		return
	}
	c.n += uint32(len(rec))
	c.crc = crc32.Update(c.crc, castagnoli, rec)
}

const (
	sufLog    = ".log"
	sufDat    = ".dat"
	sufFooter = ".ftr"
	sufNew    = ".new" // behind the name that a file gets when it is whole
)

func newExtent(id block.ExtentID) *extent { return &extent{id: id, shard: id.Key()[0]} }

func shardDir(shard uint8) string { return fmt.Sprintf("ext/%02x", shard) }

func (x *extent) path(suffix string) string { return shardDir(x.shard) + "/" + x.id.String() + suffix }

// logShare is the room for log records that comes with a data capacity: rows and headers take about 1/19 of data that
// is written page by page.
func logShare(capacity uint32) int64 { return int64(capacity)/16 + 64<<10 }

// reserved is up to where a stream's space is sure to be there; x.mu is held.
func (x *extent) reserved(suffix string) int64 {
	switch {
	case !x.allocated:
		return 0
	case suffix == sufLog:
		return logShare(x.open.Capacity)
	}
	return int64(x.open.Capacity)
}

func roundUp(n int64) int64 { return (n + page - 1) / page * page }

// footprint is the space that x needs: its reservation while open, its size when closed.
func (x *extent) footprint() int64 {
	size := roundUp(int64(x.chain.LogLen)) + roundUp(int64(x.chain.DataLen)) + page
	if x.closed != nil {
		return size
	}
	return max(size, roundUp(int64(x.open.Capacity))+roundUp(logShare(x.open.Capacity))+page)
}

// insert adds x to the index; mu is held.
func (s *Store) insert(x *extent) {
	s.extents[x.id] = x
	list := s.volumes[x.id.Volume]
	i, _ := slices.BinarySearchFunc(list, x, func(a, b *extent) int { return compareExtents(a.id, b.id) })
	s.volumes[x.id.Volume] = slices.Insert(list, i, x)
	s.account(x)
}

// forget removes x from the index; mu is held.
func (s *Store) forget(x *extent) {
	delete(s.extents, x.id)
	list := s.volumes[x.id.Volume]
	if i := slices.Index(list, x); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == 0 {
		delete(s.volumes, x.id.Volume)
	} else {
		s.volumes[x.id.Volume] = list
	}
	if i := slices.Index(s.dirty, x); i >= 0 {
		s.dirty = slices.Delete(s.dirty, i, i+1)
	}
	s.own -= x.space
	x.space = 0
}

// hold finds an extent and locks it. The caller unlocks x.mu.
func (s *Store) hold(id block.ExtentID) (*extent, error) {
	s.mu.Lock()
	x, err := s.find(id)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	s.mu.Lock()
	again, err := s.find(id)
	s.mu.Unlock()
	if err == nil && again != x {
		err = fmt.Errorf("extent %s was replaced: %w", id, ErrBusy)
	}
	if err != nil {
		x.mu.Unlock()
		return nil, err
	}
	return x, nil
}

func (s *Store) find(id block.ExtentID) (*extent, error) {
	if s.dead != nil {
		return nil, s.dead
	}
	x := s.extents[id]
	if x == nil || x.freed != 0 {
		return nil, notHeld(id)
	}
	return x, nil
}

func notHeld(id block.ExtentID) error { return fmt.Errorf("extent %s: %w", id, ErrNotHeld) }

// Append stages one encoded journal record with its payload, which the store copies. The record must follow the
// extent's chain (journal.ErrChain); an open record makes the extent and reserves its capacity (ErrFull beyond the user
// mark, ErrDeleted for a deleted volume); a seal record must name the id that the extent's own log gives (ErrMismatch).
// ErrBusy: nothing was staged; Commit and Tidy make room.
//
// The payload's pages are not checked against their leaves: that is done at the door where bytes enter the process.
func (s *Store) Append(id block.ExtentID, rec, payload []byte) (LSN, error) {
	return s.AppendAs(id, rec, payload, 0)
}

// Use is what an append is for.
type Use uint8

// Uses.
const (
	ForCleaning Use = 1 << iota // it may fill the disk a little more than users may
	Unread                      // its pages are not likely to be read here soon: large ones need not pass through the page cache
)

// AppendAs is Append for a special use. A payload that is not to be read soon goes past the page cache if it lies at whole pages of the
// file, and in memory that begins at one.
func (s *Store) AppendAs(id block.ExtentID, rec, payload []byte, use Use) (LSN, error) {
	return s.AppendKept(id, rec, payload, use, nil)
}

// AppendKept is AppendAs for a payload in memory that is lent: a large one is not copied or written, but held, until a commit writes it. nil
// lends nothing. When it returns an error, nothing is held.
func (s *Store) AppendKept(id block.ExtentID, rec, payload []byte, use Use, lent Keeper) (LSN, error) {
	return s.append(id, rec, &body{payload: payload, size: len(payload), use: use, lent: lent})
}

// body is the payload of an append.
type body struct {
	payload []byte
	size    int // -1: as the record says
	use     Use
	lent    Keeper  // of payload; nil: nothing is lent
	at      *Placed // where it lies already; nil: nowhere
}

// external tells that the log does not get a payload of n bytes.
func (s *Store) external(n int, at *Placed) bool { return n >= s.o.Inline || at != nil && n > 0 }

func (s *Store) append(id block.ExtentID, rec []byte, b *body) (LSN, error) {
	mark := int64(userMark)
	if b.use&ForCleaning != 0 {
		mark = gcMark
	}
	r, n, err := journal.Parse(rec)
	if err == nil && (n != len(rec) || b.size >= 0 && int(r.Payload) != b.size) {
		err = fmt.Errorf("record of %d bytes in %d, payload %d of %d: %w", n, len(rec), b.size, r.Payload, journal.ErrFormat)
	}
	if err != nil {
		return 0, err
	}
	if r.Type == journal.TypeOpen {
		return s.create(id, &r, rec, mark)
	}
	x, err := s.hold(id)
	if err != nil {
		return 0, err
	}
	defer x.mu.Unlock()
	if err := s.admit(x, &r, b.at); err != nil {
		return 0, err
	}
	var closed *journal.Closed
	switch r.Type {
	case journal.TypeSeal:
		err = s.checkSeal(x, &r)
	case journal.TypeClosed:
		closed = new(journal.Closed)
		*closed, err = journal.DecodeClosed(r.Body)
	}
	if err != nil {
		return 0, err
	}
	if err := s.write(x, &r, rec, b); err != nil {
		return 0, err
	}
	lsn, err := s.stage(x, &r, rec, b, closed)
	if err != nil && b.lent != nil {
		s.unkeep(x, int64(r.DataOff))
	}
	if err == nil {
		x.sum.add(r.LogOff, rec)
	}
	return lsn, err
}

// admit checks whether r may be appended to x.
func (s *Store) admit(x *extent, r *journal.Record, at *Placed) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.dead != nil:
		return s.dead
	case x.cut > s.durable:
		return fmt.Errorf("append to %s: a cut is not committed: %w", x.id, ErrBusy)
	}
	if err := x.chain.Check(r); err != nil {
		return err
	}
	if x.open.Capacity > 0 && uint64(x.chain.DataLen)+uint64(r.Payload) > uint64(x.open.Capacity) {
		return fmt.Errorf("append to %s: %d bytes more than %d: %w", x.id, r.Payload, x.open.Capacity, ErrExtentFull)
	}
	if at != nil && r.Payload > 0 {
		if err := at.has(x, r); err != nil {
			return err
		}
	}
	n := r.Size()
	if !s.external(int(r.Payload), at) {
		n += int(r.Payload)
	}
	return s.room(n, false)
}

// write puts the bytes of r where reads come from: into the extent's files, or their tails. It makes nothing durable.
func (s *Store) write(x *extent, r *journal.Record, rec []byte, b *body) error {
	payload := b.payload
	if err := s.add(x, &x.log, sufLog, rec, int64(r.LogOff), false); err != nil || len(payload) == 0 {
		return err
	}
	x.turn++
	past := b.use&Unread != 0 && len(payload) >= s.o.Inline && wholePages(payload, int64(r.DataOff))
	if s.keep(x, &piece{payload, int64(r.DataOff), past, b.lent}) {
		return nil
	}
	return s.add(x, &x.dat, sufDat, payload, int64(r.DataOff), past)
}

// wholePages tells whether p can go to off past the page cache, whatever the disk's sectors are.
func wholePages(p []byte, off int64) bool {
	return off%page == 0 && len(p)%page == 0 && uintptr(unsafe.Pointer(unsafe.SliceData(p)))%page == 0
}

func (s *Store) writeTo(x *extent, f *file, suffix string, parts [][]byte, off int64, past bool) error {
	h, err := s.files.get(f, x, suffix)
	if err != nil {
		return s.fail(err)
	}
	defer s.files.wrote(f)
	if past {
		h = s.files.around(f, x, suffix)
	}
	if err := disk.Gather(h, parts, off); errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("write to %s: %w", x.id, ErrFull)
	} else if err != nil {
		return s.fail(err)
	}
	return nil
}

// create makes the extent of an open record.
func (s *Store) create(id block.ExtentID, r *journal.Record, rec []byte, mark int64) (LSN, error) {
	open, err := journal.DecodeOpen(r.Body)
	if err != nil {
		return 0, err
	}
	if open.Extent != id.Origin() {
		return 0, fmt.Errorf("open record of %s for %s: %w", open.Extent, id, journal.ErrFormat)
	}
	x := newExtent(id)
	x.open = open
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := s.Measure(); err != nil {
		return 0, err
	}
	if err := s.reserve(x, r, mark); err != nil {
		return 0, err
	}
	defer s.filesMade(x.space)
	err = s.makeFiles(x)
	if err == nil {
		err = s.write(x, r, rec, &body{})
	}
	var lsn LSN
	if err == nil {
		lsn, err = s.stage(x, r, rec, &body{}, nil)
	}
	x.sum.add(r.LogOff, rec)
	if err != nil {
		s.mu.Lock()
		s.forget(x)
		s.mu.Unlock()
		s.removeFiles(x)
	}
	return lsn, err
}

// reserve checks whether x may be opened, and enters it into the index with its reservation.
func (s *Store) reserve(x *extent, r *journal.Record, mark int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead != nil {
		return s.dead
	}
	if s.st.tombs[x.id.Volume] != nil {
		return fmt.Errorf("open of %s: %w", x.id, ErrDeleted)
	}
	if old := s.extents[x.id]; old != nil {
		if old.freed != 0 {
			return fmt.Errorf("open of %s: its free is not committed: %w", x.id, ErrBusy)
		}
		return fmt.Errorf("open of %s, which is held: %w", x.id, journal.ErrChain)
	}
	if err := x.chain.Check(r); err != nil {
		return err
	}
	if err := s.room(r.Size(), false); err != nil {
		return err
	}
	total, used, err := s.space()
	if err != nil {
		return err
	}
	if used+x.footprint() > total/100*mark {
		return fmt.Errorf("open of %s: %d of %d bytes in use: %w", x.id, used, total, ErrFull)
	}
	s.insert(x)
	s.unmade += x.space
	return nil
}

// makeFiles creates the files of x and preallocates them.
func (s *Store) makeFiles(x *extent) error {
	s.mu.Lock()
	made := s.made[x.shard]
	s.mu.Unlock()
	if !made {
		if err := s.fs.MkdirAll(shardDir(x.shard)); errors.Is(err, syscall.ENOSPC) { // a full disk is no broken one
			return fmt.Errorf("open of %s: %w", x.id, ErrFull)
		} else if err != nil {
			return s.fail(err)
		}
		if err := s.fs.SyncDir("ext"); err != nil {
			return s.fail(err)
		}
		s.mu.Lock()
		s.made[x.shard] = true
		s.mu.Unlock()
	}
	for _, p := range []struct {
		f      *file
		suffix string
		size   int64
	}{{&x.log, sufLog, logShare(x.open.Capacity)}, {&x.dat, sufDat, int64(x.open.Capacity)}} {
		f, err := s.fs.Create(x.path(p.suffix))
		if errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("open of %s: %w", x.id, ErrFull)
		} else if err != nil {
			return fmt.Errorf("open of %s: %w: %w", x.id, ErrIO, err)
		}
		if err := s.files.adopt(p.f, f); err != nil {
			return err
		}
		err = f.Allocate(p.size)
		s.files.put(p.f)
		if errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("open of %s: %w", x.id, ErrFull)
		} else if err != nil {
			return fmt.Errorf("open of %s: %w: %w", x.id, ErrIO, err)
		}
	}
	x.allocated = true
	return nil
}

// removeFiles removes whatever files x has. Their names are gone durably after the shard directory's sync.
func (s *Store) removeFiles(x *extent) {
	s.dropTails(x)
	s.files.drop(&x.log)
	s.files.drop(&x.dat)
	for _, suffix := range []string{sufFooter, sufDat, sufLog} {
		_ = s.fs.Remove(x.path(suffix)) // a file that stays is removed when the store is opened
	}
	s.mu.Lock()
	s.unsynced[x.shard] = s.unsynced[x.shard] || s.made[x.shard] // there may be no directory: a disk that was full
	s.mu.Unlock()
}

// checkSeal recomputes the id of a sealed block from the extent's own log.
func (s *Store) checkSeal(x *extent, r *journal.Record) error {
	seal, err := journal.DecodeSeal(r.Body)
	if err != nil {
		return err
	}
	if uint64(seal.LogOff)+uint64(seal.LogLen) > uint64(x.chain.LogLen) {
		return fmt.Errorf("block %d: log range ends after the log: %w", seal.Header.Number, ErrMismatch)
	}
	log := make([]byte, seal.LogLen)
	if err := s.ReadLog(x.id, seal.LogOff, log); err != nil {
		return err
	}
	rows, err := seal.BlockRows(log)
	if err == nil {
		_, err = block.NewTable(seal.Header, rows, seal.ID)
	}
	if err != nil {
		return fmt.Errorf("seal of block %d in %s: %w: %w", seal.Header.Number, x.id, ErrMismatch, err)
	}
	return nil
}
