package store

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/disk"
)

const (
	fileSuper   = "superblock"
	fileState   = "state"
	fileReserve = "reserve"
)

// generationShift leaves a generation a million million batches: years of them.
const generationShift = 40

func segmentName(i int) string { return fmt.Sprintf("wal/%02x", i) }

// Report says what Open found.
type Report struct {
	Generation uint64
	Batches    int              // replayed
	Entries    int              // in them
	Torn       bool             // the last batch was torn, not acknowledged, and is cut
	Damage     []string         // what was corrupt, for people
	Unknown    []block.ExtentID // extents that have no vote on their tail, ascending
	Unsure     bool             // promises may have been lost: see Store.Unsure
	Removed    []block.ExtentID // files of opens that were never committed
}

func (r *Report) damage(format string, args ...any) {
	r.Damage = append(r.Damage, fmt.Sprintf(format, args...))
}

// Format makes a store in an empty directory (ErrNotEmpty; the file system's own lost+found does not count). The
// superblock comes last: without it there is no store.
func Format(d disk.FS, sb Superblock, o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	if len(sb.Node) > 255 || sb.Store.IsZero() {
		return fmt.Errorf("store: superblock %+v: %w", sb, ErrTooLarge)
	}
	names, err := d.List(".")
	if err != nil {
		return fmt.Errorf("format: %w: %w", ErrIO, err)
	}
	if len(names) > 1 || len(names) == 1 && names[0] != "lost+found" {
		return fmt.Errorf("format: %w: %s", ErrNotEmpty, strings.Join(names[:min(len(names), 5)], " "))
	}
	if err := format(d, sb, o); err != nil {
		return fmt.Errorf("format: %w: %w", ErrIO, err)
	}
	return nil
}

func format(d disk.FS, sb Superblock, o Options) error {
	for _, dir := range []string{"wal", "ext"} {
		if err := d.MkdirAll(dir); err != nil {
			return err
		}
	}
	zeros := make([]byte, 1<<20)
	for i := range o.Segments {
		if err := makeSegment(d, segmentName(i), o.SegmentSize, zeros); err != nil {
			return err
		}
	}
	if err := d.SyncDir("wal"); err != nil {
		return err
	}
	st := newState()
	st.start = place{batch: 1, lsn: 1}
	if err := writeWhole(d, ".", fileState, twice(st.encode())); err != nil {
		return err
	}
	return writeWhole(d, ".", fileSuper, twice(sb.encode(&o)))
}

// makeSegment writes zeros rather than only reserve space: a sync of a block that was never written costs the file
// system a transaction of its own.
func makeSegment(d disk.FS, name string, size int64, zeros []byte) error {
	f, err := d.Create(name)
	if err != nil {
		return err
	}
	err = f.Allocate(size)
	for at := int64(0); at < size && err == nil; at += int64(len(zeros)) {
		_, err = f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Open opens a store and brings it to what was committed: it reads footers, scans open extents, replays the log, makes
// the result durable and begins a new generation. ErrNoStore when there is no superblock; ErrNewer, and nothing is changed, when a later
// version of this program wrote the store; ErrCorrupt or ErrIO when the superblock or the state can not be read. Damage elsewhere does not keep a store from opening: see Report.
func Open(d disk.FS, o Options) (*Store, Report, error) {
	var rep Report
	o, err := o.withDefaults()
	if err != nil {
		return nil, rep, err
	}
	sb, st, err := readRoots(d, &o, &rep)
	if err != nil {
		return nil, rep, err
	}
	s := &Store{fs: d, o: o, sb: sb, st: st, cur: &batch{}, spare: &batch{},
		extents: map[block.ExtentID]*extent{}, volumes: map[block.VolumeID][]*extent{}}
	s.files.init(d, o.MaxFiles, s.fail)
	if err := s.openSegments(); err != nil {
		return nil, rep, err
	}
	err = s.recover(&rep)
	if err == nil {
		err = s.begun(&rep)
	}
	if err != nil {
		s.files.closeAll()
		for i := range s.segs {
			_ = s.segs[i].f.Close() // nothing was written
		}
		return nil, rep, err
	}
	return s, rep, nil
}

func readRoots(d disk.FS, o *Options, rep *Report) (sb Superblock, st *state, err error) {
	b, err := readWhole(d, fileSuper)
	if errors.Is(err, fs.ErrNotExist) {
		return sb, nil, ErrNoStore
	}
	sb, bad := decodeSuper(b, o)
	if bad != nil {
		return sb, nil, fmt.Errorf("superblock: %w", orIO(bad, err))
	}
	if err != nil {
		rep.damage("superblock: one copy can not be read: %v", err)
	}
	b, err = readWhole(d, fileState)
	if st, bad = decodeState(b); bad != nil {
		return sb, nil, fmt.Errorf("state: %w", orIO(bad, err))
	}
	if err != nil {
		rep.damage("state: one copy can not be read: %v", err)
	}
	return sb, st, nil
}

func orIO(bad, err error) error {
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIO, err)
	}
	return bad
}

func (s *Store) openSegments() error {
	s.segs = make([]segment, s.o.Segments)
	for i := range s.segs {
		f, err := s.fs.Open(segmentName(i))
		if err != nil {
			for j := range i {
				_ = s.segs[j].f.Close()
			}
			return fmt.Errorf("log: %w: %w", ErrIO, err)
		}
		s.segs[i] = segment{f: f, seed: slotSeed(s.sb.Store, i)}
	}
	return nil
}

// begun makes what recovery found durable and starts a generation with an empty log.
func (s *Store) begun(rep *Report) error {
	s.st.generation++
	rep.Generation = s.st.generation
	s.next = max(s.next, s.st.generation<<generationShift+1) // above every number that the ring has seen
	s.marked = s.next - 1
	s.durable = s.lsn
	s.slot, s.pos, s.live = int(s.st.start.slot)%len(s.segs), 0, 1
	for _, id := range sortedExtents(s.extents) {
		x := s.extents[id]
		x.durable = x.chain
		x.oldest, x.newest = 0, 0
		if x.unknown {
			rep.Unknown = append(rep.Unknown, id)
		}
		if x.footer {
			x.synced, x.upTo = x.chain, s.lsn
			continue
		}
		if _, err := s.syncExtent(x); err != nil {
			return err
		}
		if x.closed != nil && !x.unknown {
			x.queued = true
			s.closing = append(s.closing, x)
		}
	}
	rep.Unsure = s.st.unsure
	s.direct()
	at := place{s.next, uint32(s.slot), 0, s.lsn + 1}
	if err := s.writeState(&at); err != nil {
		return s.fail(err)
	}
	s.refill()
	_ = s.Measure() // Usage gives the error, until it is measured again
	return nil
}

// direct takes the log past the page cache where the disk allows it: there each batch would dirty a folio of up to
// megabytes, which the kernel walks at every sync, and nobody reads the log before the next Open.
func (s *Store) direct() {
	for i := range s.segs {
		if f, ok := s.segs[i].f.(disk.Direct); ok {
			_ = f.Direct(s.o.Align) // otherwise it goes through the page cache
		}
	}
}

func sortedExtents[V any](m map[block.ExtentID]V) []block.ExtentID {
	ids := make([]block.ExtentID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, compareExtents)
	return ids
}
