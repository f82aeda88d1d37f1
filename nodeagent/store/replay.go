package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// fate is what the live log says about an extent before its entries are applied.
type fate struct {
	opened bool // after the last free
	freed  LSN  // last one
	cuts   []cutAt
}

type cutAt struct {
	lsn    LSN
	seq    uint64
	logLen uint32
	hash   block.Hash
}

// undone reports whether a cut after lsn takes seq away.
func (f *fate) undone(lsn LSN, seq uint64) bool {
	return slices.ContainsFunc(f.cuts, func(c cutAt) bool { return c.lsn > lsn && c.seq < seq })
}

// recovery is the work of one Open.
type recovery struct {
	s       *Store
	rep     *Report
	log     []logged
	fates   map[block.ExtentID]*fate
	damaged bool
	lost    LSN // entries up to here may have been lost in damaged batches
	applied map[*extent]LSN
}

// recover builds the index from footers, open extents and the log.
func (s *Store) recover(rep *Report) error {
	r := recovery{s: s, rep: rep, fates: map[block.ExtentID]*fate{}, applied: map[*extent]LSN{}}
	r.log, r.damaged = s.liveLog(rep)
	s.lsn = s.st.lsn
	if err := r.foresee(); err != nil {
		return err
	}
	if err := r.load(); err != nil {
		return err
	}
	for _, l := range r.log {
		if l.number == 0 {
			continue
		}
		rep.Batches++
		stream, err := s.readBatch(l.found)
		if err == nil {
			err = decodeStream(stream, r.apply)
		}
		if err != nil {
			return err
		}
	}
	r.judge()
	return nil
}

// foresee reads the whole log for what later entries undo of earlier ones.
func (r *recovery) foresee() error {
	after := false
	for _, l := range r.log {
		if l.number == 0 {
			after = true
			r.lost = math.MaxUint64
			continue
		}
		stream, err := r.s.readBatch(l.found)
		if err != nil {
			return err
		}
		if after {
			r.lost = LSN(le.Uint64(stream)) - 1
			after = false
		}
		if err := decodeStream(stream, r.note); err != nil {
			return err
		}
	}
	return nil
}

func (r *recovery) note(e *entry) error {
	r.s.lsn = max(r.s.lsn, e.lsn)
	if e.extent.IsZero() {
		return nil
	}
	f := r.fates[e.extent]
	if f == nil {
		f = &fate{}
		r.fates[e.extent] = f
	}
	switch e.kind {
	case kindInline, kindExtern:
		f.opened = f.opened || journal.Type(e.rec[3]) == journal.TypeOpen
	case kindCut:
		f.cuts = append(f.cuts, cutAt{e.lsn, e.seq, e.logLen, e.hash})
	case kindFree:
		*f = fate{freed: e.lsn}
	}
	return nil
}

// load enters the extents that have files, as far as their files are to be trusted.
func (r *recovery) load() error {
	files, err := r.list()
	if err != nil {
		return err
	}
	ids := sortedExtents(files)
	for _, id := range ids { // all footers first: one of a later version must not be met after something was removed
		if files[id]&hasFooter == 0 {
			continue
		}
		if err := r.loadFooter(newExtent(id)); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if r.s.extents[id] != nil {
			continue
		}
		if err := r.loadExtent(id, files[id]); err != nil {
			return err
		}
	}
	for _, id := range sortedExtents(r.s.st.open) {
		if f := r.fates[id]; files[id] == 0 && (f == nil || f.freed == 0) {
			x := newExtent(id)
			x.unknown = true
			r.rep.damage("extent %s: its files are gone", id)
			r.s.insert(x)
		}
	}
	return nil
}

const (
	hasLog = 1 << iota
	hasDat
	hasFooter
)

// list gives the files of each extent, and removes what a crash left of replacing files. All directories are to be synced:
// a process that was killed may have left names that are not durable, and removals that a power cut would take back after
// the log that says so is gone.
func (r *recovery) list() (map[block.ExtentID]uint8, error) {
	s, out := r.s, map[block.ExtentID]uint8{}
	shards, err := s.fs.List("ext")
	if err == nil {
		err = s.fs.SyncDir("ext")
	}
	if err != nil {
		return nil, fmt.Errorf("list: %w: %w", ErrIO, err)
	}
	for _, dir := range shards {
		if shard, err := strconv.ParseUint(dir, 16, 8); err == nil && shardDir(uint8(shard)) == "ext/"+dir {
			s.unsynced[shard] = true
		}
		names, err := s.fs.List("ext/" + dir)
		if err != nil {
			return nil, fmt.Errorf("list: %w: %w", ErrIO, err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, sufNew) {
				_ = s.fs.Remove("ext/" + dir + "/" + name) // it stays until the next time
				continue
			}
			stem, suffix, _ := strings.Cut(name, ".")
			id, err := block.ParseExtentID(stem)
			if x := newExtent(id); err == nil && shardDir(x.shard) == "ext/"+dir {
				s.made[x.shard] = true
				switch "." + suffix {
				case sufLog:
					out[id] |= hasLog
				case sufDat:
					out[id] |= hasDat
				case sufFooter:
					out[id] |= hasFooter
				}
			}
		}
	}
	return out, nil
}

// loadExtent enters one extent that has files and no good footer.
func (r *recovery) loadExtent(id block.ExtentID, has uint8) error {
	s, x, f := r.s, newExtent(id), r.fates[id]
	if f == nil {
		f = &fate{}
	}
	o, listed := s.st.open[id]
	listed = listed && o.lsn >= f.freed
	limit, hash := uint32(0), block.Hash{}
	switch {
	case listed:
		limit, hash, x.upTo, x.unknown = o.logLen, o.hash, o.lsn, o.unknown
		for _, c := range f.cuts {
			if c.lsn > o.lsn && c.logLen < limit {
				limit, hash = c.logLen, c.hash
			}
		}
	case f.opened:
	case f.freed != 0:
		s.removeFiles(x)
		return nil
	default:
		return r.stray(x, has)
	}
	r.scanExtent(x, limit, hash)
	s.insert(x)
	return nil
}

// loadFooter enters a closed extent by its footer, unless that is damaged or of before the extent was freed. Its error is ErrNewer.
func (r *recovery) loadFooter(x *extent) error {
	b, err := readWhole(r.s.fs, x.path(sufFooter))
	var ft footer
	if err == nil {
		ft, err = decodeFooter(b)
	}
	if err == nil && ft.extent != x.id {
		err = fmt.Errorf("footer of %s: %w", ft.extent, ErrCorrupt)
	}
	if errors.Is(err, ErrNewer) {
		return fmt.Errorf("footer of extent %s: %w", x.id, err)
	}
	if err != nil {
		r.rep.damage("extent %s: %v", x.id, err)
		return nil
	}
	if f := r.fates[x.id]; f != nil && ft.lsn < f.freed {
		return nil
	}
	x.chain, x.open, x.closed, x.upTo, x.footer = ft.chain, ft.open, &ft.closed, ft.lsn, true
	x.synced, x.logCRC = x.chain, ft.logCRC
	r.s.lsn = max(r.s.lsn, ft.lsn) // numbers of entries that were lost are not given out again
	r.s.insert(x)
	return nil
}

// scanExtent reads limit bytes of x's log, all of which must be good and lead to hash. If they do not, the last record
// that can be read does not count: only the one after it would vouch for it.
func (r *recovery) scanExtent(x *extent, limit uint32, hash block.Hash) {
	var before journal.Chain
	h, err := r.s.files.get(&x.log, x, sufLog)
	if err == nil {
		err = walkLog(h, limit, &x.chain, func(rec *journal.Record, _ block.Hash) error {
			before = x.chain
			return x.learn(rec)
		})
		r.s.files.put(&x.log)
		if err == nil && x.chain.Hash != hash {
			err = fmt.Errorf("log ends in %s, want %s: %w", x.chain.Hash, hash, ErrCorrupt)
		}
	} else if limit == 0 && errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		x.chain, x.closed = before, nil
		if before.LogLen == 0 {
			x.open = journal.Open{}
		}
	} else {
		err = r.s.dataThere(x)
	}
	if err != nil {
		r.rep.damage("extent %s: %v", x.id, err)
		x.unknown = true
	}
	x.synced = x.chain
}

// dataThere checks that the data file is as long as the log says.
func (s *Store) dataThere(x *extent) error {
	if x.chain.DataLen == 0 {
		return nil
	}
	h, err := s.files.get(&x.dat, x, sufDat)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIO, err)
	}
	defer s.files.put(&x.dat)
	n, err := h.Size()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIO, err)
	}
	if n < int64(x.chain.DataLen) {
		return fmt.Errorf("data of %d bytes, want %d: %w", n, x.chain.DataLen, ErrCorrupt)
	}
	return nil
}

// learn takes from a record what the index keeps.
func (x *extent) learn(rec *journal.Record) (err error) {
	switch rec.Type {
	case journal.TypeOpen:
		x.open, err = journal.DecodeOpen(rec.Body)
		if err == nil && x.open.Extent != x.id.Origin() {
			err = fmt.Errorf("open record of %s: %w", x.open.Extent, ErrCorrupt)
		}
	case journal.TypeClosed:
		x.closed = new(journal.Closed)
		*x.closed, err = journal.DecodeClosed(rec.Body)
	}
	return err
}

// stray decides about files that neither the state nor the log knows. If its log was trimmed to a closed record, the
// extent lost its footer, and with it what vouches for that record: it does not count, nor does the last one that can be read of what is damaged.
// Files of an open that was never committed are removed; not if the log is damaged, because then the open may have been there, and not if there was a footer.
func (r *recovery) stray(x *extent, has uint8) error {
	var size int64
	var before journal.Chain
	h, err := r.s.files.get(&x.log, x, sufLog)
	if err == nil {
		size, _ = h.Size()
		err = walkLog(h, uint32(min(size, math.MaxUint32)), &x.chain, func(rec *journal.Record, _ block.Hash) error {
			before = x.chain
			return x.learn(rec)
		})
		r.s.files.put(&x.log)
	}
	whole := x.chain.Closed && int64(x.chain.LogLen) == size && has&hasDat != 0 && r.s.dataThere(x) == nil
	switch {
	case whole:
		r.rep.damage("extent %s: found without its footer", x.id)
		x.chain, x.closed, x.unknown = before, nil, true
	case has&hasFooter != 0 || r.damaged:
		r.rep.damage("extent %s: found without its footer or its open record: %v", x.id, err)
		x.chain, x.closed, x.unknown = before, nil, true
		if before.LogLen == 0 {
			x.open = journal.Open{}
		}
	default:
		r.rep.Removed = append(r.rep.Removed, x.id)
		r.s.removeFiles(x)
		return nil
	}
	x.synced = x.chain
	r.s.insert(x)
	return nil
}

// apply replays one entry.
func (r *recovery) apply(e *entry) error {
	r.rep.Entries++
	s := r.s
	switch e.kind {
	case kindPromise:
		p, known := s.st.promises[e.volume]
		if !known || p.epoch.Less(e.epoch) {
			s.st.promises[e.volume] = promise{e.epoch, e.settles}
		} else if e.settles && !e.epoch.Less(p.epoch) {
			s.st.promises[e.volume] = promise{p.epoch, true}
		}
	case kindDrop:
		if s.st.tombs[e.volume] == nil {
			s.st.tombs[e.volume] = bytes.Clone(e.payload)
		}
	case kindMeta:
		if e.lsn > s.st.lsn {
			s.setMeta(e.key, e.payload)
		}
	default:
		return r.applyExtent(e)
	}
	return nil
}

func (r *recovery) applyExtent(e *entry) error {
	s, f := r.s, r.fates[e.extent]
	x := s.extents[e.extent]
	if e.lsn <= f.freed || x != nil && e.lsn <= x.upTo {
		return nil
	}
	if e.kind == kindCut {
		return r.applyCut(x, e)
	}
	rec, n, err := journal.Parse(e.rec)
	if err != nil || n != len(e.rec) || e.kind == kindInline && int(rec.Payload) != len(e.payload) {
		return fmt.Errorf("record in the log: %w: %w", ErrCorrupt, err)
	}
	if f.undone(e.lsn, rec.Seq) {
		return nil
	}
	if x == nil {
		x = newExtent(e.extent)
		if rec.Type != journal.TypeOpen {
			x.unknown = true
		}
		s.insert(x)
	}
	if err := x.chain.Check(&rec); err != nil {
		if !x.unknown {
			r.rep.damage("extent %s: gap in the log: %v", x.id, err)
		}
		x.unknown = true
		return nil
	}
	if err := x.learn(&rec); err != nil {
		return err
	}
	if rec.Type == journal.TypeOpen {
		if err := r.ensureFiles(x); err != nil {
			return err
		}
	}
	if err := s.write(x, &rec, e.rec, &body{payload: e.payload}); err != nil {
		return err
	}
	x.chain.Advance(&rec, journal.HashOf(e.rec))
	r.applied[x] = e.lsn
	s.account(x)
	return nil
}

// ensureFiles makes the files of an extent that the log opens, whatever a crash left of them.
func (r *recovery) ensureFiles(x *extent) error {
	r.s.files.drop(&x.log)
	r.s.files.drop(&x.dat)
	for _, suffix := range []string{sufLog, sufDat} {
		f, err := r.s.fs.Open(x.path(suffix))
		if errors.Is(err, fs.ErrNotExist) {
			if err = r.s.fs.MkdirAll(shardDir(x.shard)); err == nil {
				f, err = r.s.fs.Create(x.path(suffix))
				r.s.unsynced[x.shard] = true
			}
		}
		if err != nil {
			return fmt.Errorf("replay: %w: %w", ErrIO, err)
		}
		size := logShare(x.open.Capacity)
		if suffix == sufDat {
			size = int64(x.open.Capacity)
		}
		_ = f.Allocate(size) // a disk that is full by now fails the writes, if any are left
		_ = f.Close()        // nothing is written yet
	}
	return nil
}

func (r *recovery) applyCut(x *extent, e *entry) error {
	if x == nil || r.fates[e.extent].undone(e.lsn, e.seq) {
		return nil
	}
	if x.chain.Seq != e.seq || x.chain.LogLen != e.logLen {
		r.rep.damage("extent %s: cut after seq %d of a log that ends at %d", x.id, e.seq, x.chain.Seq)
		x.unknown = true
		return nil
	}
	x.unknown = false
	r.applied[x] = e.lsn
	return nil
}

// judge marks the extents that may have lost entries: those that damaged batches could name, unless a later entry of
// their own chain, or their files, prove that nothing is missing.
func (r *recovery) judge() {
	if !r.damaged {
		return
	}
	r.s.st.unsure = true
	for v, p := range r.s.st.promises {
		p.settled = false
		r.s.st.promises[v] = p
	}
	for id, x := range r.s.extents {
		if !x.footer && x.upTo < r.lost && r.applied[x] <= r.lost {
			r.s.extents[id].unknown = true
		}
	}
}
