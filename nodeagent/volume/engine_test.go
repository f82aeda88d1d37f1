package volume

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

func fill(p []byte, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// model is what a volume's first bytes must read as.
type model struct {
	data []byte
	r    *rand.Rand
}

func newModel(seed uint64, size int) *model {
	return &model{data: make([]byte, size), r: rand.New(rand.NewPCG(seed, 2))}
}

func (m *model) steps(t testing.TB, e *Engine, n int) {
	t.Helper()
	for range n {
		m.step(t, e)
	}
}

func (m *model) step(t testing.TB, e *Engine) {
	t.Helper()
	off := m.r.Int64N(int64(len(m.data)/4096)) * 4096
	n := min((m.r.Int64N(80)+1)*4096, int64(len(m.data))-off)
	var err error
	switch k := m.r.IntN(20); {
	case k < 12:
		err = e.Write(ring.ID{}, fill(m.data[off:off+n], m.r.Uint64()), off)
	case k < 14:
		clear(m.data[off : off+n])
		err = e.Discard(ring.ID{}, off, n)
	case k < 15:
		err = e.Flush()
	default:
		m.check(t, e, off, n)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (m *model) checkAll(t testing.TB, e *Engine) {
	t.Helper()
	m.check(t, e, 0, int64(len(m.data)))
}

func (m *model) check(t testing.TB, e *Engine, off, n int64) {
	t.Helper()
	p := make([]byte, n)
	if err := e.Read(p, off); err != nil {
		t.Fatal(err)
	}
	for i := int64(0); i < n; i += 4096 {
		if !bytes.Equal(p[i:i+4096], m.data[off+i:off+i+4096]) {
			t.Fatalf("page %d differs", (off+i)/4096)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestModelReopenAndResume(t *testing.T) {
	for _, key := range [][]byte{nil, bytes.Repeat([]byte{7}, 32)} {
		w := newWorld(t, 3)
		s := w.create(1)
		s.Key = key
		m := newModel(1, 2<<20)
		mem := make([]byte, 4<<20)
		for round := range 6 {
			clear(mem)
			e := w.open(s, Options{Ring: mem, Force: true})
			for range 3 {
				m.steps(t, e, 60)
				must(t, e.Checkpoint())
				m.steps(t, e, 30)
			}
			m.checkAll(t, e)
			must(t, e.Close(round%2 == 0))
			if round%2 == 1 { // the process died: the ring is resumed
				e = w.open(s, Options{Ring: mem})
				m.checkAll(t, e)
				must(t, e.Close(true))
			}
		}
	}
}

func TestFencing(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	a := w.open(s, Options{})
	p := fill(make([]byte, 8192), 3)
	must(t, errors.Join(a.Write(ring.ID{}, p, 4096), a.Flush()))
	if _, err := Open(w.deps(), s, Options{Ring: make([]byte, 4<<20)}); !errors.Is(err, ErrHeld) {
		t.Fatalf("second writer: %v", err)
	}
	b := w.open(s, Options{Force: true})
	got := make([]byte, 8192)
	if err := b.Read(got, 4096); err != nil || !bytes.Equal(got, p) {
		t.Fatal("read by the new writer", err)
	}
	_ = a.Write(ring.ID{}, p, 0)
	if err := a.Flush(); !errors.Is(err, replication.ErrFenced) {
		t.Fatalf("fenced writer: %v", err)
	}
}

func (w *world) healed(e *Engine) {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		st := e.Status()
		ok := st.Degraded == 0
		for _, m := range st.Members {
			ok = ok && !m.Failed
		}
		if ok {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("not healed: %+v", st)
		}
		<-time.After(50 * time.Millisecond)
	}
}

func TestReplicaDiesAndReturns(t *testing.T) {
	w := newWorld(t, 3)
	e := w.open(w.create(1), Options{})
	m := newModel(5, 2<<20)
	run := func() {
		m.steps(t, e, 200)
		must(t, e.Flush())
	}
	run()
	w.setDown(w.ids[1], true)
	run()
	w.setDown(w.ids[1], false)
	run()
	w.healed(e)
	m.checkAll(t, e)
}

func TestSnapshotsAndClones(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	e := w.open(s, Options{})
	m := newModel(9, 1<<20)
	m.steps(t, e, 100)
	id := [16]byte{9}
	must(t, e.Snapshot(journal.Snapshot{ID: id, Name: "one"}))
	then := append([]byte(nil), m.data...)
	m.steps(t, e, 100)
	must(t, e.Checkpoint())
	m.steps(t, e, 100)
	c := w.create(2)
	c.Parent, c.Snapshot = s.ID, id
	clone := w.open(c, Options{})
	cm := &model{data: append([]byte(nil), then...), r: m.r}
	cm.checkAll(t, clone)
	cm.steps(t, clone, 100)
	cm.checkAll(t, clone)
	m.checkAll(t, e)
	must(t, clone.Close(true))
	clone = w.open(c, Options{Force: true})
	cm.checkAll(t, clone)
	must(t, e.Rollback(id))
	m.data = append([]byte(nil), then...)
	m.checkAll(t, e)
	m.steps(t, e, 100)
	must(t, e.Close(true))
	e = w.open(s, Options{Force: true})
	m.checkAll(t, e)
	cm.checkAll(t, clone)
}

// TestPeekBetween: the latest checkpoint is found when it lies between the extent that the anchor names and the checkpoint that this one's open record
// names: it became durable after that record was written. Found by a clone that did not find the snapshot which it starts from.
func TestPeekBetween(t *testing.T) {
	for _, earlier := range []bool{false, true} {
		w := newWorld(t, 3)
		s := w.create(1)
		s.Extent = MinExtent
		e := w.open(s, Options{})
		m := newModel(9, 1<<20)
		if earlier {
			must(t, e.Checkpoint())
		}
		m.steps(t, e, 20)
		id := [16]byte{9}
		must(t, e.Snapshot(journal.Snapshot{ID: id, Name: "one"}))
		e.mu.RLock()
		before := e.checkpoint
		e.mu.RUnlock()
		must(t, e.Checkpoint())
		e.mu.Lock() // as if the next extents had been opened before it was durable
		e.checkpoint, before = before, e.checkpoint
		first := e.progress.Current().ID
		e.mu.Unlock()
		for range 3 {
			for e.mu.RLock(); e.progress.Current().ID == first; e.mu.RLock() {
				e.mu.RUnlock()
				m.steps(t, e, 5)
				must(t, e.Flush())
			}
			first = e.progress.Current().ID
			e.mu.RUnlock()
		}
		e.moveAnchor()
		e.mu.Lock()
		e.checkpoint = before
		e.mu.Unlock()
		c, _, err := e.peek(s.ID)
		must(t, err)
		if len(c.Snapshots) != 1 || c.Snapshots[0].ID != id {
			t.Errorf("with a checkpoint before: %t: snapshots %v", earlier, c.Snapshots)
		}
		must(t, e.Close(true))
	}
}

// TestRooted: a snapshot is rooted once a durable checkpoint names it, not while one is being made that then fails, and over a recovery.
func TestRooted(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	e := w.open(s, Options{})
	m := newModel(9, 1<<20)
	m.steps(t, e, 100)
	one, two := [16]byte{1}, [16]byte{2}
	must(t, e.Snapshot(journal.Snapshot{ID: one, Name: "one"}))
	if e.Rooted(one) {
		t.Fatal("a snapshot is rooted before any checkpoint")
	}
	must(t, e.Checkpoint())
	must(t, e.Snapshot(journal.Snapshot{ID: two, Name: "two"}))
	if !e.Rooted(one) || e.Rooted(two) {
		t.Fatalf("after a checkpoint between them: one %t, two %t", e.Rooted(one), e.Rooted(two))
	}
	must(t, e.Close(false))
	e = w.open(s, Options{Force: true})
	if !e.Rooted(one) {
		t.Fatal("a recovery forgets what is rooted")
	}
	must(t, e.Checkpoint())
	must(t, e.DeleteSnapshot(one))
	if e.Rooted(one) || !e.Rooted(two) {
		t.Fatalf("one was deleted: one %t, two %t", e.Rooted(one), e.Rooted(two))
	}
}

func TestCleaningReturnsSpace(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	s.Extent = 1 << 20
	e := w.open(s, Options{})
	m := newModel(11, 4<<20)
	id := [16]byte{1}
	var snap []byte
	for round := range 6 {
		m.steps(t, e, 60)
		if round == 2 {
			must(t, e.Snapshot(journal.Snapshot{ID: id, Name: "kept"}))
			snap = append([]byte(nil), m.data...)
		}
		for range 3 {
			_, err := e.Clean()
			must(t, err)
		}
		m.checkAll(t, e)
	}
	if st := e.Status(); st.Stats.Freed == 0 {
		t.Fatalf("nothing was freed: %+v", st.Stats)
	}
	must(t, e.Close(true))
	e = w.open(s, Options{Force: true})
	m.checkAll(t, e)
	clone := w.create(2)
	clone.Parent, clone.Snapshot = s.ID, id
	c := w.open(clone, Options{})
	(&model{data: snap, r: m.r}).checkAll(t, c)
	m.steps(t, e, 100) // and on, while the clone reads what moves
	for range 3 {
		_, err := e.Clean()
		must(t, err)
	}
	(&model{data: snap, r: m.r}).checkAll(t, c)
	must(t, e.Discard(ring.ID{}, 0, int64(len(m.data))))
	must(t, e.DeleteSnapshot(id))
	for range 12 {
		_, err := e.Clean()
		must(t, err)
	}
	held := 0
	for _, n := range w.node {
		held += len(n.st.Extents(s.ID))
	}
	if held > 3*8 {
		t.Fatalf("%d extents are left of an empty volume", held)
	}
}

// TestCloneOutlivesItsParentsCleaning: a clone that nobody reads merges its map although its parent has cleaned since:
// the pages of the shared map are looked for where they are now.
func TestCloneOutlivesItsParentsCleaning(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	s.Extent = 1 << 20
	e := w.open(s, Options{})
	m := newModel(21, 4<<20)
	m.steps(t, e, 100)
	page := fill(make([]byte, 4096), 22)
	node := func(k int) int64 { return int64(k) * 512 * 4096 } // where the k-th leaf of the map begins
	for k := range 16 {
		must(t, e.Write(ring.ID{}, page, node(k)))
	}
	copy(m.data, page)
	copy(m.data[node(1):], page)
	id := [16]byte{1}
	must(t, errors.Join(e.Snapshot(journal.Snapshot{ID: id, Name: "kept"}), e.Checkpoint()))
	c := w.create(2)
	c.Parent, c.Snapshot = s.ID, id
	clone := w.open(c, Options{})
	cm := &model{data: append([]byte(nil), m.data...), r: m.r}
	for round := range 4 {
		for range 3 {
			m.steps(t, e, 40)
			_, err := e.Clean()
			must(t, err)
		}
		must(t, clone.Write(ring.ID{}, page, node(4+round)+4096))
		must(t, clone.Checkpoint())
	}
	if e.Status().Stats.Freed == 0 {
		t.Fatal("the parent freed nothing, so nothing was tried")
	}
	cm.checkAll(t, clone)
}

// TestCompact: for a store that is short of space also garbage is collected that is neither new nor half of an extent, until nothing is to be
// gained; for a store that has none of the volume nothing is done, and Clean itself leaves such extents alone.
func TestCompact(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	s.Extent = 1 << 20
	e := w.open(s, Options{})
	m := &model{data: make([]byte, 8<<20), r: newModel(31, 1).r}
	must(t, e.Write(ring.ID{}, fill(m.data, 31), 0))
	for off := 0; off < len(m.data); off += 5 * 4096 { // a fifth of each extent, evenly
		must(t, e.Write(ring.ID{}, fill(m.data[off:off+4096], 32), int64(off)))
	}
	must(t, errors.Join(e.Flush(), e.Checkpoint(), e.Close(true)))
	e = w.open(s, Options{Force: true}) // garbage of an earlier writer
	freed, err := e.Clean()
	must(t, err)
	gained, err := e.Compact([]block.StoreID{{9}})
	must(t, err)
	if freed > 2<<20 || gained != 0 {
		t.Fatalf("%d bytes freed by Clean, %d gained for a store that has nothing", freed, gained)
	}
	before, total := e.Usage().Bytes, int64(0)
	for range 20 {
		gained, err = e.Compact(w.ids[:1])
		must(t, err)
		if total += gained; gained == 0 {
			break
		}
	}
	if after := e.Usage().Bytes; gained != 0 || total < 1<<20 || after > before-1<<20 {
		t.Errorf("%d bytes gained, %d in the last pass; %d bytes used, %d before", total, gained, after, before)
	}
	m.checkAll(t, e)
}
