package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/disk"
)

// version is what an extent is after one operation on it.
type version struct {
	lsn       LSN
	held      bool
	chain     journal.Chain
	log, data []byte
}

// model is a naive twin of a store: what it was told, operation by operation.
type model struct {
	rng      *rand.Rand
	s        *Store
	live     []*scribe
	n        uint32
	history  map[block.ExtentID][]version
	promises map[block.VolumeID][]step[block.Epoch]
	meta     map[string][]step[string]
	tombs    map[block.VolumeID]LSN
	acked    LSN // all up to here is acknowledged
	inFlight LSN // the last of the commit under way, else acked

	transient bool   // what is read may be wrong once only
	within    bool   // an operation runs within another one's
	gives     int    // appends, whose payloads are given in different ways
	outer     string // the operation under way: append, commit, tidy or none
}

type step[T any] struct {
	lsn LSN
	v   T
}

func newModel(seed uint64) *model {
	return &model{rng: rand.New(rand.NewPCG(seed, 99)), history: map[block.ExtentID][]version{}, promises: map[block.VolumeID][]step[block.Epoch]{},
		meta: map[string][]step[string]{}, tombs: map[block.VolumeID]LSN{}}
}

// at gives the version after the operations up to lsn.
func at(vs []version, lsn LSN) (v version) {
	for _, c := range vs {
		if c.lsn <= lsn {
			v = c
		}
	}
	return v
}

// compare demands that a recovered store is the acknowledged state, or that with the batch in flight too.
func (m *model) compare(s *Store, rep Report) error {
	if len(rep.Damage) > 0 || len(rep.Unknown) > 0 || rep.Unsure {
		return fmt.Errorf("a crash is no damage: %+v", rep)
	}
	err := m.equals(s, m.acked)
	if err != nil && m.inFlight > m.acked {
		if m.equals(s, m.inFlight) == nil {
			return nil
		}
	}
	return err
}

func (m *model) equals(s *Store, lsn LSN) error {
	seen := 0
	for _, id := range sortedExtents(m.history) {
		want := at(m.history[id], lsn)
		st, ok := s.Stat(id)
		if ok != want.held {
			return fmt.Errorf("%s held: %v at %d", id, ok, lsn)
		}
		if !ok {
			continue
		}
		seen++
		if st.Chain != want.chain || st.Durable != want.chain || (st.Closed != nil) != want.chain.Closed || st.Open.Extent != id {
			return fmt.Errorf("%s is %+v, want %+v", id, st, want.chain)
		}
		log, data := make([]byte, len(want.log)), make([]byte, len(want.data))
		if err := errors.Join(s.ReadLog(id, 0, log), s.ReadData(id, 0, data)); err != nil {
			return err
		}
		if !bytes.Equal(log, want.log) || !bytes.Equal(data, want.data) {
			return fmt.Errorf("%s: log equal %v, data equal %v", id, bytes.Equal(log, want.log), bytes.Equal(data, want.data))
		}
	}
	if seen != len(s.extents) {
		return fmt.Errorf("%d extents, want %d", len(s.extents), seen)
	}
	return m.small(s)
}

// small checks promises, values and tombstones: the acknowledged one or a later one.
func (m *model) small(s *Store) error {
	for v, steps := range m.promises {
		if !permitted(steps, m.acked, s.Promised(v)) {
			return fmt.Errorf("promise of %s: %v", v, s.Promised(v))
		}
	}
	for k, steps := range m.meta {
		if !permitted(steps, m.acked, string(s.Meta(k))) {
			return fmt.Errorf("value of %s: %q", k, s.Meta(k))
		}
	}
	for v, lsn := range m.tombs {
		if lsn <= m.acked && s.Deleted(v) == nil {
			return fmt.Errorf("tombstone of %s is gone", v)
		}
	}
	return nil
}

func permitted[T comparable](steps []step[T], acked LSN, got T) bool {
	var base T
	ok := false
	for _, st := range steps {
		if st.lsn <= acked {
			base = st.v
		} else {
			ok = ok || st.v == got
		}
	}
	return ok || got == base
}

// push notes the version that the operation which gets the next LSN makes; it returns how to take that back.
func (m *model) push(w *scribe, held bool) (undo func()) {
	vs := m.history[w.id]
	m.history[w.id] = append(vs, version{m.s.lsn + 1, held, w.chain, w.log, w.data})
	return func() {
		if m.history[w.id] = vs; len(vs) == 0 {
			delete(m.history, w.id)
		}
	}
}

// do runs one random operation. ErrBusy is no failure: nothing happened.
func (m *model) do() error {
	busy := func(err error, undo func()) error {
		if err != nil {
			undo()
		}
		if errors.Is(err, ErrBusy) {
			return nil
		}
		return err
	}
	if len(m.live) == 0 || len(m.live) < 3 && m.rng.IntN(8) == 0 {
		m.n++
		w := newScribe(testID(byte(m.n%3), m.n))
		rec := w.open(256 << 10)
		undo := m.push(w, true)
		_, err := m.append(w, rec, nil)
		if err == nil {
			m.live = append(m.live, w)
		}
		if errors.Is(err, ErrDeleted) {
			undo()
			return nil
		}
		return busy(err, undo)
	}
	i := m.rng.IntN(len(m.live))
	w := m.live[i]
	saved := *w
	saved.ends = slices.Clone(w.ends)
	back := func(undo func()) func() { return func() { undo(); *w = saved } }
	switch k := m.rng.IntN(40); {
	case k < 14 && !w.chain.Closed:
		rec, payload := w.pages(1+m.rng.IntN(3)*m.rng.IntN(2), m.rng)
		undo := m.push(w, true)
		_, err := m.append(w, rec, payload)
		if errors.Is(err, ErrExtentFull) {
			back(undo)()
			return nil
		}
		return busy(err, back(undo))
	case k < 16 && !w.chain.Closed:
		rec := w.close()
		undo := m.push(w, true)
		_, err := m.append(w, rec, nil)
		return busy(err, back(undo))
	case k == 16:
		to := m.rng.IntN(len(w.ends))
		seq := w.ends[to].Seq
		w.cut(to)
		undo := m.push(w, true)
		_, err := m.s.Cut(w.id, seq)
		return busy(err, back(undo))
	case k == 17:
		undo := m.push(w, false)
		_, err := m.s.Free(w.id)
		if err == nil {
			m.live = slices.Delete(m.live, i, i+1)
		}
		return busy(err, undo)
	case k == 18:
		v := w.id.Volume
		e := block.Epoch{Number: m.s.Promised(v).Number + 1, Token: m.rng.Uint64()}
		m.promises[v] = append(m.promises[v], step[block.Epoch]{m.s.lsn + 1, e})
		_, err := m.s.Promise(v, e)
		return busy(err, func() { m.promises[v] = m.promises[v][:len(m.promises[v])-1] })
	case k == 19:
		key, value := string('a'+byte(m.rng.IntN(3))), fmt.Sprint(m.rng.Uint64())
		m.meta[key] = append(m.meta[key], step[string]{m.s.lsn + 1, value})
		_, err := m.s.SetMeta(key, []byte(value))
		return busy(err, func() { m.meta[key] = m.meta[key][:len(m.meta[key])-1] })
	case k == 20 && m.rng.IntN(10) == 0:
		v := block.VolumeID{byte(100 + m.rng.IntN(3))}
		if m.tombs[v] == 0 {
			m.tombs[v] = m.s.lsn + 1
		}
		_, err := m.s.DropVolume(v, []byte("signed"))
		return busy(err, func() { delete(m.tombs, v) })
	case k < 26:
		m.outer = "tidy"
		defer func() { m.outer = "" }()
		_, err := m.s.Tidy(int64(m.rng.IntN(1 << 20)))
		return err
	case k < 34:
		m.outer = "commit"
		defer func() { m.outer = "" }()
		return m.commit()
	}
	return nil
}

func (m *model) append(w *scribe, rec, payload []byte) (LSN, error) {
	m.outer = "append"
	defer func() { m.outer = "" }()
	return m.give(w, rec, payload)
}

// give appends: the payload is copied or lent by turns, and placed now and then (more often, the log would be full too seldom).
func (m *model) give(w *scribe, rec, payload []byte) (LSN, error) {
	m.gives++
	switch {
	case m.gives%2 == 0:
		return m.s.Append(w.id, rec, payload)
	case m.gives%8 != 3 || len(payload) == 0 || m.within: // what is placed waits for a sync that one goroutine may be within
		l := lend(payload)
		defer l.Release()
		return m.s.AppendKept(w.id, rec, l.b, 0, l)
	}
	return givePlaced(m.s, w, rec, payload)
}

// givePlaced appends a record whose payload is placed before.
func givePlaced(s *Store, w *scribe, rec, payload []byte) (LSN, error) {
	r, _, err := journal.Parse(rec)
	if err != nil {
		return 0, err
	}
	at, err := s.Place(w.id, r.DataOff, payload)
	if err != nil {
		return 0, err
	}
	return s.AppendPlaced(w.id, rec, &at)
}

// beside runs what another goroutine might, from within a disk operation: a commit beside an append, an append beside
// a commit or Tidy.
func (m *model) beside() {
	outer := m.outer
	m.outer, m.within = "", true
	defer func() { m.outer, m.within = outer, false }()
	switch {
	case outer == "append":
		_ = m.commit() // an error comes back from the append
	case outer != "" && len(m.live) > 0:
		_ = m.write(m.live[m.rng.IntN(len(m.live))], 1+2*m.rng.IntN(2)) // or from the next one
	}
}

// mayBeside tells whether something may happen beside a disk operation. What an append syncs is the file that makes room for its own: a commit
// beside that waits for its end, which one goroutine can not.
func (m *model) mayBeside(op disk.Op) bool {
	return op.Kind == disk.OpWrite || op.Kind == disk.OpSync && m.outer != "append"
}

// explore runs workloads until it has checked count crash states, and returns the first that is wrong.
func explore(seed uint64, count int, lose func(disk.Op) bool) error {
	for checked := 0; checked < count; seed++ {
		n, err := exploreOne(seed, count-checked, lose)
		if err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		checked += n
	}
	return nil
}

func exploreOne(seed uint64, count int, lose func(disk.Op) bool) (checked int, failed error) {
	mem, o := disk.NewMem(0), small
	if seed%4 == 3 {
		o.Align = 4096
	}
	every, length := 4, 400
	beside := 0
	if seed%2 == 1 {
		beside = 8
	}
	if seed%8 == 6 { // the log goes round several times
		every, length = 100, 6000
	}
	if err := Format(mem, testSuper, o); err != nil {
		return 0, err
	}
	m := newModel(seed)
	faults := disk.NewFaults(mem, nil)
	o.MaxFiles = 8 + int(seed%3)*20
	s, _, err := Open(faults, o)
	if err != nil {
		return 0, err
	}
	m.s = s
	crashes := rand.New(rand.NewPCG(seed, 7))
	faults.SetPlan(func(op disk.Op) (f disk.Fault) {
		if (op.Kind == disk.OpSync || op.Kind == disk.OpSyncDir) && lose(op) {
			f.Action = disk.Lose
		}
		if beside > 0 && m.outer != "" && m.mayBeside(op) && crashes.IntN(beside) == 0 {
			f.Wait = m.beside
		}
		if failed != nil || checked >= count || op.Kind == disk.OpRead || crashes.IntN(every) != 0 {
			return f
		}
		checked++
		if err := m.crash(mem, crashes); err != nil {
			failed = fmt.Errorf("state %d, before %s of %s: %w", checked, op.Kind, op.Name, err)
		}
		return f
	})
	for i := 0; i < length && failed == nil && checked < count; i++ {
		if err := m.do(); err != nil {
			return checked, fmt.Errorf("operation %d: %w", i, err)
		}
	}
	return checked, failed
}

// crash opens what a power loss at this moment leaves, after another one while it is opened, now and then.
func (m *model) crash(mem *disk.Mem, rng *rand.Rand) error {
	c := mem.Crash(rng.Uint64)
	if rng.IntN(4) == 0 {
		left := rng.IntN(40)
		var again *disk.Mem
		f := disk.NewFaults(c, func(op disk.Op) disk.Fault {
			if op.Kind == disk.OpRead {
				return disk.Fault{}
			}
			if left--; left == 0 {
				again = c.Crash(rng.Uint64)
			}
			return disk.Fault{}
		})
		if s, _, err := Open(f, small); err != nil {
			return fmt.Errorf("open: %w", err)
		} else if err := s.Close(); err != nil {
			return err
		}
		if again != nil {
			c = again
		}
	}
	s, rep, err := Open(c, small)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	return m.compare(s, rep)
}

// inOneGoroutine leaves out of a short run, which is that with the race detector, what has nothing to race with.
func inOneGoroutine(t *testing.T) {
	if testing.Short() {
		t.Skip("it is run without -short")
	}
}

// crashStates is how many crash states to check: STORE_CRASH_STATES, or few.
func crashStates(few int) int {
	if n, err := strconv.Atoi(os.Getenv("STORE_CRASH_STATES")); err == nil {
		return n
	}
	return few
}

func TestCrash(t *testing.T) {
	if err := explore(1, crashStates(1000), func(disk.Op) bool { return false }); err != nil {
		t.Fatal(err)
	}
}

// Each kind of sync is needed: a disk on which it does nothing is noticed.
func TestCrashNoticesALyingDisk(t *testing.T) {
	inOneGoroutine(t)
	for name, lose := range map[string]func(op disk.Op) bool{
		"all":                    func(disk.Op) bool { return true },
		"log":                    func(op disk.Op) bool { return strings.HasPrefix(op.Name, "wal/") },
		"state":                  func(op disk.Op) bool { return strings.HasPrefix(op.Name, fileState) },
		"data of large payloads": func(op disk.Op) bool { return strings.HasSuffix(op.Name, sufDat) },
		"logs of extents":        func(op disk.Op) bool { return strings.HasSuffix(op.Name, sufLog) },
		"footers":                func(op disk.Op) bool { return strings.Contains(op.Name, sufFooter) },
		"names":                  func(op disk.Op) bool { return op.Kind == disk.OpSyncDir },
		"names of extents":       func(op disk.Op) bool { return op.Kind == disk.OpSyncDir && strings.HasPrefix(op.Name, "ext/") },
		"name of the state":      func(op disk.Op) bool { return op.Kind == disk.OpSyncDir && op.Name == "." },
		"names of shard folders": func(op disk.Op) bool { return op.Kind == disk.OpSyncDir && op.Name == "ext" },
	} {
		if err := explore(1, 3000, lose); err == nil {
			t.Errorf("%s: no sync, and no one noticed", name)
		}
	}
}
