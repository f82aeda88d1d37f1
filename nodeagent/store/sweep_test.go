package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/disk"
)

// judge demands of a store that was hurt: right data, or an error, or Unknown; never wrong bytes that nothing notices,
// never a shorter log that claims to be whole.
func (m *model) judge(s *Store, rep Report) error {
	for _, id := range sortedExtents(m.history) {
		want := at(m.history[id], m.acked)
		st, ok := s.Stat(id)
		switch {
		case !ok && !want.held:
		case !ok && m.inFlight > m.acked && !at(m.history[id], m.inFlight).held:
		case !ok:
			return fmt.Errorf("%s is gone", id)
		case st.Unknown:
			if err := m.known(id, st.Chain); err != nil {
				return err
			}
		case !want.held && rep.Unsure, st.Chain == want.chain, st.Chain == at(m.history[id], m.inFlight).chain:
			if err := m.verify(s, id, st.Chain); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s claims %+v, acknowledged %+v (%+v)", id, st.Chain, want.chain, rep)
		}
	}
	if rep.Unsure {
		return nil
	}
	return m.small(s)
}

// known demands that an Unknown extent ends where it once ended.
func (m *model) known(id block.ExtentID, c journal.Chain) error {
	if c == (journal.Chain{}) {
		return nil
	}
	for _, v := range m.history[id] {
		if v.chain == c {
			return nil
		}
	}
	return fmt.Errorf("%s is Unknown after %+v, which never was", id, c)
}

// verify reads an extent; where the bytes are not right an error or a scrub must say so.
func (m *model) verify(s *Store, id block.ExtentID, c journal.Chain) error {
	var want version
	for _, v := range m.history[id] {
		if v.chain == c && v.held {
			want = v
		}
	}
	log, data := make([]byte, c.LogLen), make([]byte, c.DataLen)
	errLog, errData := s.ReadLog(id, 0, log), s.ReadData(id, 0, data)
	for _, err := range []error{errLog, errData} {
		if err != nil && !errors.Is(err, ErrIO) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrQuarantined) {
			return fmt.Errorf("read of %s: %w", id, err)
		}
	}
	wrong := errLog == nil && !bytes.Equal(log, want.log) || errData == nil && !bytes.Equal(data, want.data)
	if !wrong || errLog != nil {
		return nil
	}
	// The reader checks the chain, the leaves and, with the key, the keyed hashes, which the chain does not cover.
	x, err := verified(id, log, data)
	if err == nil && x.chain == c && !bytes.Equal(data, want.data) {
		return fmt.Errorf("%s reads wrong bytes that a reader does not notice", id)
	}
	if m.transient || err == nil {
		return nil
	}
	noticed := false
	if err := s.Scrub(id, func(Finding) { noticed = true }); err != nil {
		return err
	}
	if !noticed {
		return fmt.Errorf("%s reads wrong bytes and scrub does not notice", id)
	}
	return nil
}

func typed(err error) bool {
	for _, e := range []error{ErrCorrupt, ErrIO, ErrQuarantined, ErrNoStore, ErrFull, ErrBusy, ErrNotHeld} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// image is a store after some work, with a live log, closed and open extents, all of it acknowledged.
func image(t *testing.T) (*disk.Mem, *model) {
	t.Helper()
	mem, m := formatted(t, small), newModel(11)
	m.s = opened(t, mem, small)
	for i := range 120 {
		if err := m.do(); err != nil {
			t.Fatal(i, err)
		}
	}
	m.inFlight = m.s.lsn
	commitOK(t, m.s)
	if _, err := m.s.Tidy(1 << 30); err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // a tail that is only in the log and in files that were not synced
		if err := m.do(); err != nil {
			t.Fatal(i, err)
		}
	}
	for _, w := range m.live {
		if !w.chain.Closed {
			rec, payload := w.pages(1, m.rng)
			m.push(w, true)
			appendOK(t, m.s, w.id, rec, payload)
		}
	}
	m.inFlight = m.s.lsn
	m.acked, _ = m.s.Commit()
	if err := m.s.mark(); err != nil {
		t.Fatal(err)
	}
	if err := m.s.segs[m.s.slot].f.Sync(); err != nil {
		t.Fatal(err)
	}
	return mem.Crash(func() uint64 { return 0 }), m
}

// structures lists the files of an image by what they are.
func structures(t *testing.T, mem *disk.Mem) map[string][]string {
	t.Helper()
	out := map[string][]string{"superblock": {fileSuper}, "state": {fileState}}
	for i := range small.Segments {
		out["log"] = append(out["log"], segmentName(i))
	}
	shards, _ := mem.List("ext")
	for _, d := range shards {
		names, _ := mem.List("ext/" + d)
		for _, n := range names {
			suffix := n[strings.LastIndex(n, "."):]
			out[suffix] = append(out[suffix], "ext/"+d+"/"+n)
		}
	}
	for _, k := range []string{sufLog, sufDat, sufFooter} {
		if len(out[k]) == 0 {
			t.Fatalf("the image has no %s", k)
		}
	}
	return out
}

// hurts are the faults at rest: each changes a file around an offset.
var hurts = map[string]func(f disk.File, off, size int64) error{
	"bit flip": func(f disk.File, off, _ int64) error {
		var b [1]byte
		_, _ = f.ReadAt(b[:], off)
		b[0] ^= 0x10
		_, err := f.WriteAt(b[:], off)
		return err
	},
	"zeros": func(f disk.File, off, size int64) error {
		off = off / 512 * 512
		_, err := f.WriteAt(make([]byte, min(512, size-off)), off)
		return err
	},
	"truncation": func(f disk.File, off, _ int64) error { return f.Truncate(off) },
	"misdirected": func(f disk.File, off, size int64) error { // a sector of the file lands here instead of elsewhere
		p, from := make([]byte, 512), (off/512*512+3*512)%max(512, size/512*512)
		n, _ := f.ReadAt(p, from)
		_, err := f.WriteAt(p[:min(int64(n), size-off/512*512)], off/512*512)
		return err
	},
	"torn": func(f disk.File, off, size int64) error { // every other sector of a page is not there
		for at := off / 4096 * 4096; at < min(size, off/4096*4096+4096); at += 1024 {
			if _, err := f.WriteAt(make([]byte, min(512, size-at)), at); err != nil {
				return err
			}
		}
		return nil
	},
	"garbage": func(f disk.File, off, size int64) error {
		p := make([]byte, min(700, size-off))
		rng := rand.New(rand.NewPCG(uint64(off), 1))
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		_, err := f.WriteAt(p, off)
		return err
	},
}

// sweepSteps is how many places of a file are hurt: few, or many with STORE_SWEEP set.
func sweepSteps() int64 {
	if os.Getenv("STORE_SWEEP") != "" {
		return 1000
	}
	return 24
}

func sweepAtRest(t *testing.T, o Options, only string) (cases int, failures []string) {
	t.Helper()
	base, m := image(t)
	m.inFlight = m.acked
	for what, names := range structures(t, base) {
		for _, name := range names {
			if only != "" && what != only {
				continue
			}
			f, err := base.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			size, _ := f.Size()
			limit := size
			if what == "log" { // beyond is empty
				limit = min(size, m.s.pos+1024)
			} else if what == sufLog || what == sufDat {
				limit = min(size, 16<<10)
			}
			step := max(197, limit/sweepSteps())
			for off := int64(0); off < limit; off += step {
				for fault, hurt := range hurts {
					cases++
					if err := sweepCase(base, m, o, name, off, size, hurt); err != nil {
						failures = append(failures, fmt.Sprintf("%s (%s) at %d, %s: %v", what, name, off, fault, err))
					}
				}
			}
		}
	}
	return cases, failures
}

func sweepCase(base *disk.Mem, m *model, o Options, name string, off, size int64, hurt func(disk.File, int64, int64) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	c := base.Crash(func() uint64 { return 0 })
	f, err := c.Open(name)
	if err == nil {
		err = hurt(f, off, size)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return err
	}
	s, rep, err := Open(c, o)
	if err != nil {
		if !typed(err) {
			return err
		}
		return nil
	}
	if err := m.judge(s, rep); err != nil {
		return err
	}
	return s.Close()
}

func TestSweepAtRest(t *testing.T) {
	inOneGoroutine(t)
	cases, failures := sweepAtRest(t, small, "")
	t.Logf("%d cases", cases)
	for i, f := range failures {
		if i < 10 {
			t.Error(f)
		}
	}
	if cases < 500 {
		t.Errorf("only %d cases", cases)
	}
}

// A store that takes sectors which fail their checksum for sectors never written loses an acknowledged batch to bit rot.
func TestSweepNoticesIgnoredStamps(t *testing.T) {
	inOneGoroutine(t)
	o := small
	o.trustStamps = true
	if _, failures := sweepAtRest(t, o, "log"); len(failures) == 0 {
		t.Fatal("ignoring stamps went unnoticed")
	}
}

// TestBitRotInTheLastBatch flips each byte of the last acknowledged batch, with nothing after it.
func TestBitRotInTheLastBatch(t *testing.T) {
	inOneGoroutine(t)
	run := func(o Options) (silent int) {
		mem := formatted(t, small)
		s := opened(t, mem, o)
		w := newScribe(testID(1, 1))
		appendOK(t, s, w.id, w.open(1<<20), nil)
		commitOK(t, s)
		from := s.pos
		rec, payload := w.pages(1, rand.New(rand.NewPCG(1, 1)))
		appendOK(t, s, w.id, rec, payload)
		commitOK(t, s)
		for off := from; off < s.pos; off += 11 {
			c := mem.Crash(func() uint64 { return 0 })
			if err := c.FlipBit(segmentName(0), off, uint(off%8)); err != nil {
				t.Fatal(err)
			}
			s, rep, err := Open(c, o)
			if err != nil {
				t.Fatal(err)
			}
			if st, _ := s.Stat(w.id); !st.Unknown || !rep.Unsure || len(rep.Damage) == 0 {
				silent++
			}
		}
		return silent
	}
	if n := run(small); n != 0 {
		t.Errorf("%d flips cut the log silently", n)
	}
	o := small
	o.trustStamps = true
	if run(o) == 0 {
		t.Error("ignoring stamps went unnoticed")
	}
}

// faultsOf are the faults of operations.
var faultsOf = map[string]struct {
	kind  disk.OpKind
	fault disk.Fault
}{
	"read EIO":   {disk.OpRead, disk.Fault{Err: syscall.EIO}},
	"read flip":  {disk.OpRead, disk.Fault{Action: disk.Flip, At: 1234}},
	"read short": {disk.OpRead, disk.Fault{Action: disk.Short, At: 100}},
	"write EIO":  {disk.OpWrite, disk.Fault{Err: syscall.EIO}},
	"torn EIO":   {disk.OpWrite, disk.Fault{Err: syscall.EIO, Action: disk.Torn, Mask: 0x5555}},
	"lost":       {disk.OpWrite, disk.Fault{Action: disk.Lose}},
	"torn":       {disk.OpWrite, disk.Fault{Action: disk.Torn, Mask: 0xaaaa}},
	"flipped":    {disk.OpWrite, disk.Fault{Action: disk.Flip, At: 999}},
	"zeros":      {disk.OpWrite, disk.Fault{Action: disk.Zero}},
	"misdirect":  {disk.OpWrite, disk.Fault{Action: disk.Misdirect, At: 8192}},
	"fsync EIO":  {disk.OpSync, disk.Fault{Action: disk.Forget}},
	"dir EIO":    {disk.OpSyncDir, disk.Fault{Err: syscall.EIO}},
	"rename EIO": {disk.OpRename, disk.Fault{Err: syscall.EIO}},
	"create EIO": {disk.OpCreate, disk.Fault{Err: syscall.EIO}},
	"alloc EIO":  {disk.OpAllocate, disk.Fault{Err: syscall.EIO}},
	"remove EIO": {disk.OpRemove, disk.Fault{Err: syscall.EIO}},
	"list EIO":   {disk.OpList, disk.Fault{Err: syscall.EIO}},
	"open EIO":   {disk.OpOpen, disk.Fault{Err: syscall.EIO}},
	"no space":   {disk.OpWrite, disk.Fault{Err: syscall.ENOSPC}},
	"no room":    {disk.OpAllocate, disk.Fault{Err: syscall.ENOSPC}},
	"trunc EIO":  {disk.OpTruncate, disk.Fault{Err: syscall.EIO}},
}

// Each kind of operation fails once, at many places of a workload; then the power goes.
func TestSweepOperations(t *testing.T) {
	inOneGoroutine(t)
	cases := 0
	for name, f := range faultsOf {
		for i := range sweepSteps() / 2 {
			cases++
			seed, nth := uint64(i*31), 1+int(i*i/8%211)
			if err := operationCase(seed, f.kind, f.fault, nth); err != nil {
				t.Errorf("%s, number %d, seed %d: %v", name, nth, seed, err)
			}
		}
	}
	t.Logf("%d cases", cases)
}

func operationCase(seed uint64, kind disk.OpKind, fault disk.Fault, nth int) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	mem := disk.NewMem(0)
	if err := Format(mem, testSuper, small); err != nil {
		return err
	}
	var hit string
	faults := disk.NewFaults(mem, func(op disk.Op) disk.Fault {
		if op.Kind != kind || strings.Contains(op.Name, "superblock") {
			return disk.Fault{}
		}
		if nth--; nth != 0 {
			return disk.Fault{}
		}
		hit = op.Kind.String() + " " + op.Name
		return fault
	})
	m := newModel(seed)
	m.transient = true
	s, rep, err := Open(faults, small)
	if err != nil {
		if typed(err) {
			return nil
		}
		return fmt.Errorf("open after %s: %w", hit, err)
	}
	m.s = s
	for i := 0; i < 150 && err == nil; i++ {
		if err = m.do(); err != nil && !errors.Is(err, ErrQuarantined) && typed(err) {
			err = nil
		}
	}
	if err != nil && !errors.Is(err, ErrQuarantined) {
		return fmt.Errorf("after %s: %w", hit, err)
	}
	if err != nil {
		if _, err := s.Commit(); !errors.Is(err, ErrQuarantined) || s.Quarantined() == nil {
			return fmt.Errorf("after %s: the quarantine ended: %v", hit, err)
		}
	} else if err := m.settleDown(s, rep); err != nil {
		return fmt.Errorf("after %s: %w", hit, err)
	}
	c := mem.Crash(rand.New(rand.NewPCG(seed, 5)).Uint64)
	s, rep, err = Open(c, small)
	if err != nil {
		if typed(err) {
			return nil
		}
		return err
	}
	if err := m.judge(s, rep); err != nil {
		return fmt.Errorf("after %s: %w", hit, err)
	}
	return nil
}

// settleDown judges a store that goes on working, and has its last batch marked as acknowledged.
func (m *model) settleDown(s *Store, rep Report) error {
	m.inFlight = s.lsn
	lsn, err := s.Commit()
	if err != nil {
		return nil // quarantined at last
	}
	m.acked = lsn
	if err := m.judge(s, rep); err != nil {
		return err
	}
	if _, err := s.Tidy(1); err == nil {
		_ = s.segs[s.slot].f.Sync()
	}
	return nil
}
