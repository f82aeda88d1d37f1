package store

import (
	"bytes"
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// entrySlack bounds what an entry adds to its record and payload, in bytes.
const entrySlack = 128

// room reports ErrBusy unless an entry with n bytes can be staged such that its batch certainly finds its place in the
// log. Entries of the store itself may use the last free segment; mu is held.
func (s *Store) room(n int, control bool) error {
	bytes := sectorsFor(max(s.cur.n, prologue)+n+entrySlack, s.o.Align) * sectorSize
	if bytes > s.o.maxBatch() {
		return fmt.Errorf("batch of %d bytes: %w", bytes, ErrBusy)
	}
	need := 2
	if control {
		need = 1
	}
	if s.pos+int64(bytes) > s.o.SegmentSize && len(s.segs)-s.live < need {
		return fmt.Errorf("log is full: %w", ErrBusy)
	}
	return nil
}

// begin opens an entry of a body of n bytes; mu is held, and the caller has called room.
func (s *Store) begin(kind uint8, n int) LSN {
	b := s.cur
	s.lsn++
	if b.entries == 0 {
		b.first = s.lsn
		clear(s.scratch[:prologue])
		b.put(s.scratch[:prologue])
	}
	b.entries++
	b.last = s.lsn
	h := s.scratch[:entryHead]
	clear(h)
	h[0] = kind
	le.PutUint32(h[4:], uint32(n))
	b.put(h)
	return s.lsn
}

// touch notes that x has an entry in the batch being staged; mu is held.
func (s *Store) touch(x *extent) {
	x.newest = s.lsn
	if x.oldest == 0 {
		x.oldest = s.lsn
		s.dirty = append(s.dirty, x)
	}
	if !x.batched {
		x.batched = true
		s.cur.touched = append(s.cur.touched, x)
	}
}

func (s *Store) putExtent(id block.ExtentID) {
	h := s.scratch[:block.ExtentIDSize]
	id.Put(h)
	s.cur.put(h)
}

// stage enters a record, whose bytes are in x's files, into the batch and moves the end of x.
func (s *Store) stage(x *extent, r *journal.Record, rec []byte, b *body, closed *journal.Closed) (LSN, error) {
	h := journal.HashOf(rec)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead != nil {
		return 0, s.dead
	}
	if x.freed != 0 {
		return 0, notHeld(x.id)
	}
	extern := s.external(int(r.Payload), b.at)
	kind, inline := uint8(kindInline), b.payload
	if extern {
		kind, inline = kindExtern, nil
	}
	if err := s.room(len(rec)+len(inline), false); err != nil {
		return 0, err
	}
	lsn := s.begin(kind, block.ExtentIDSize+4+len(rec)+len(inline))
	s.putExtent(x.id)
	le.PutUint32(s.scratch[:4], uint32(len(rec)))
	s.cur.put(s.scratch[:4])
	s.cur.put(rec)
	s.cur.put(inline)
	s.touch(x)
	if extern && b.at == nil && (len(s.cur.syncs) == 0 || s.cur.syncs[len(s.cur.syncs)-1] != x) {
		s.cur.syncs = append(s.cur.syncs, x)
	}
	if r.Type == journal.TypeOpen {
		s.cur.created = append(s.cur.created, x)
	}
	x.chain.Advance(r, h)
	if closed != nil {
		x.closed = closed
	}
	s.account(x)
	return lsn, nil
}

// Promise stages the promise of an epoch. It never goes down, and one number has one token: ErrMismatch.
func (s *Store) Promise(v block.VolumeID, e block.Epoch) (LSN, error) { return s.promise(v, e, false) }

// Settle is Promise for an epoch that the caller knows to be at least as high as every promise ever given, because the
// registry says so. It ends Unsure.
func (s *Store) Settle(v block.VolumeID, e block.Epoch) (LSN, error) { return s.promise(v, e, true) }

func (s *Store) promise(v block.VolumeID, e block.Epoch, settles bool) (LSN, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead != nil {
		return 0, s.dead
	}
	p, known := s.st.promises[v]
	if known && (e.Less(p.epoch) || e.Number == p.epoch.Number && e.Token != p.epoch.Token) {
		return 0, fmt.Errorf("promise of %s after %s for volume %s: %w", e, p.epoch, v, ErrMismatch)
	}
	if err := s.room(0, true); err != nil {
		return 0, err
	}
	// In a store that never was unsure a promise needs no settling, also not later.
	p = promise{e, settles || known && p.settled || !s.st.unsure}
	lsn := s.begin(kindPromise, 16+block.EpochSize+1)
	b := s.scratch[:16+block.EpochSize+1]
	copy(b, v[:])
	e.Put(b[16:])
	b[16+block.EpochSize] = 0
	if p.settled {
		b[16+block.EpochSize] = 1
	}
	s.cur.put(b)
	s.st.promises[v] = p
	return lsn, nil
}

// Cut stages the removal of the records after afterSeq. It opens a closed extent again if its closed record goes. A cut
// at or below the end of an Unknown extent settles it once it is durable. Until then appends to it give ErrBusy.
// ErrNotHeld if the extent ends before afterSeq.
func (s *Store) Cut(id block.ExtentID, afterSeq uint64) (LSN, error) {
	x, err := s.hold(id)
	if err != nil {
		return 0, err
	}
	defer x.mu.Unlock()
	end, err := s.chainAt(x, afterSeq)
	if err != nil {
		return 0, err
	}
	lsn, reopened, err := s.stageCut(x, end)
	if reopened {
		if h, err := s.files.get(&x.dat, x, sufDat); err == nil {
			x.allocated = h.Allocate(int64(x.open.Capacity)) == nil && x.allocated // on a full disk appends to it fail later
			s.files.put(&x.dat)
		}
	}
	return lsn, err
}

func (s *Store) stageCut(x *extent, end journal.Chain) (lsn LSN, reopened bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead != nil {
		return 0, false, s.dead
	}
	if x.cut > s.durable {
		return 0, false, fmt.Errorf("cut of %s after a cut that is not committed: %w", x.id, ErrBusy)
	}
	if err := s.room(0, true); err != nil {
		return 0, false, err
	}
	lsn = s.begin(kindCut, block.ExtentIDSize+16+len(end.Hash))
	s.putExtent(x.id)
	b := s.scratch[:16]
	le.PutUint64(b, end.Seq)
	le.PutUint32(b[8:], end.LogLen)
	le.PutUint32(b[12:], end.DataLen)
	s.cur.put(b)
	s.cur.put(end.Hash[:])
	s.touch(x)
	s.cur.cuts = append(s.cur.cuts, x)
	x.cut = lsn
	if x.chain.Closed && !end.Closed {
		x.closed, x.reopens = nil, true
	}
	x.chain = end
	s.account(x)
	return lsn, x.reopens, nil
}

// chainAt gives the end that x had at seq; x.mu is held.
func (s *Store) chainAt(x *extent, seq uint64) (journal.Chain, error) {
	s.mu.Lock()
	end := x.chain
	s.mu.Unlock()
	if seq >= end.Seq {
		if seq > end.Seq {
			return end, fmt.Errorf("%s ends at seq %d, not %d: %w", x.id, end.Seq, seq, ErrNotHeld)
		}
		return end, nil
	}
	if err := s.toFile(x); err != nil {
		return end, fmt.Errorf("cut of %s: %w", x.id, err)
	}
	h, err := s.files.get(&x.log, x, sufLog)
	if err != nil {
		return end, fmt.Errorf("cut of %s: %w: %w", x.id, ErrIO, err)
	}
	defer s.files.put(&x.log)
	var c journal.Chain
	err = walkLog(h, end.LogLen, &c, func(r *journal.Record, _ block.Hash) error {
		if r.Seq > seq {
			return errStop
		}
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return c, fmt.Errorf("cut of %s at seq %d: %w", x.id, seq, err)
	}
	if c.Seq != seq {
		return c, fmt.Errorf("cut of %s at seq %d, before its first record: %w", x.id, seq, journal.ErrChain)
	}
	return c, nil
}

// Free stages the removal of an extent. Its space returns with the commit.
func (s *Store) Free(id block.ExtentID) (LSN, error) {
	x, err := s.hold(id)
	if err != nil {
		return 0, err
	}
	defer x.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead != nil {
		return 0, s.dead
	}
	if err := s.room(0, true); err != nil {
		return 0, err
	}
	lsn := s.begin(kindFree, block.ExtentIDSize)
	s.putExtent(id)
	s.touch(x)
	s.cur.frees = append(s.cur.frees, x)
	x.freed = lsn
	return lsn, nil
}

// DropVolume stages a tombstone: the signed deletion record of a volume, kept for ever. Later opens of the volume give
// ErrDeleted. Its extents stay until they are freed one by one, because clones may live on them.
func (s *Store) DropVolume(v block.VolumeID, signed []byte) (LSN, error) {
	if len(signed) == 0 || len(signed) > MaxSigned {
		return 0, fmt.Errorf("deletion record of %d bytes: %w", len(signed), ErrTooLarge)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead != nil {
		return 0, s.dead
	}
	if s.st.tombs[v] != nil {
		return s.lsn, nil
	}
	if err := s.room(len(signed), true); err != nil {
		return 0, err
	}
	lsn := s.begin(kindDrop, len(v)+len(signed))
	s.cur.put(v[:])
	s.cur.put(signed)
	s.st.tombs[v] = bytes.Clone(signed)
	return lsn, nil
}

// SetMeta stages a small value; an empty one removes the key.
func (s *Store) SetMeta(key string, value []byte) (LSN, error) {
	if len(key) == 0 || len(key) > 255 || len(value) > MaxMeta {
		return 0, fmt.Errorf("key of %d bytes, value of %d: %w", len(key), len(value), ErrTooLarge)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead != nil {
		return 0, s.dead
	}
	if err := s.room(len(key)+len(value), true); err != nil {
		return 0, err
	}
	lsn := s.begin(kindMeta, 2+len(key)+len(value))
	le.PutUint16(s.scratch[:2], uint16(len(key)))
	s.cur.put(s.scratch[:2])
	s.cur.put([]byte(key))
	s.cur.put(value)
	s.setMeta(key, value)
	return lsn, nil
}

func (s *Store) setMeta(key string, value []byte) {
	if len(value) == 0 {
		delete(s.st.meta, key)
	} else {
		s.st.meta[key] = bytes.Clone(value)
	}
}
