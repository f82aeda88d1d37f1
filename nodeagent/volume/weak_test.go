package volume

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/task"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// still is an Env whose clock a test sets.
type still struct {
	task.Env
	now time.Duration
}

func (s *still) Now() time.Duration { return s.now }

// TestGripGuardsFlush: one copy answers a weak volume's FLUSH as long as the lease holds, and none does afterwards. A strong volume has no
// lease: its quorum is the confirmation.
func TestGripGuardsFlush(t *testing.T) {
	env := &still{Env: task.NewReal(), now: time.Minute}
	e := &Engine{Deps: Deps{Env: env}, spec: Spec{Replicas: 3, Weak: true}, progress: replication.NewProgress(0)}
	id := block.ExtentID{N: 1}
	x := e.progress.Open(id, 1, e.structure(3), []block.StoreID{{1}, {2}, {3}})
	x.Flush, x.Last = e.flushQuorum(3), 5
	e.progress.Ack(id, block.StoreID{2}, 5)
	if e.flushedTo() != 0 {
		t.Fatal("a FLUSH is answered before anybody has confirmed the epoch")
	}
	e.confirmedBy(1, 3, env.now)
	if e.flushedTo() != 0 {
		t.Fatal("one of three confirms an epoch")
	}
	e.confirmedBy(2, 3, env.now)
	env.now += Lease - tick
	if e.flushedTo() != 5 {
		t.Fatal("one copy does not answer a FLUSH")
	}
	env.now += tick
	if e.flushedTo() != 0 {
		t.Fatal("a FLUSH is answered after the lease")
	}
	strong := &Engine{Deps: e.Deps, spec: Spec{Replicas: 3}, progress: e.progress}
	if strong.structure(3) != 2 || strong.flushQuorum(3) != 2 || strong.flushedTo() != 5 {
		t.Fatal("a strong volume waits for a lease")
	}
}

// openBody reads the open record of the extent that an engine is in.
func openBody(t *testing.T, w *world, e *Engine) (open journal.Open, size int) {
	t.Helper()
	st := e.Status()
	for _, m := range st.Members {
		log := make([]byte, 4096)
		s, ok := w.node[m.Store].st.Stat(st.Extent)
		if !ok {
			continue
		}
		log = log[:min(len(log), int(s.Chain.LogLen))]
		must(t, w.node[m.Store].st.ReadLog(st.Extent, 0, log))
		r, n, err := journal.Parse(log)
		must(t, err)
		open, err = journal.DecodeOpen(r.Body)
		must(t, err)
		return open, n
	}
	t.Fatal("no member holds the extent")
	return open, 0
}

// TestWeakTakeOver: a weak volume one of whose replicas is away is opened after patience, in a new history that its open records carry on;
// with all replicas it is opened in the one that it has. The control is a strong volume, whose open record is as it ever was.
func TestWeakTakeOver(t *testing.T) {
	for _, weak := range []bool{false, true} {
		w := newWorld(t, 4)
		s := w.create(1)
		s.Weak = weak
		d := w.deps()
		d.Patience = time.Millisecond
		open := func() *Engine {
			e, err := Open(d, s, Options{Ring: make([]byte, 4<<20), Force: true})
			must(t, err)
			return e
		}
		e := open()
		page := fill(make([]byte, 4096), 1)
		must(t, e.Write(ring.ID{}, page, 0))
		must(t, e.Flush())
		gone := e.Status().Members[0].Store
		must(t, e.Close(false))
		w.setDown(gone, true)
		for round := range 3 {
			e = open()
			got := make([]byte, 4096)
			must(t, e.Read(got, 0))
			if string(got) != string(page) {
				t.Fatal("what was flushed is not there")
			}
			h := e.Status().History
			o, size := openBody(t, w, e)
			if h.IsZero() == weak || o.History != h {
				t.Fatalf("weak %v, round %d: history %v, its record says %v", weak, round, h, o.History)
			}
			o.History = journal.History{}
			if plain := journal.HeaderSize + len(o.Encode()); !weak && size != plain {
				t.Fatalf("a strong volume's open record has %d bytes, not %d", size, plain)
			}
			must(t, e.Close(true))
		}
		w.setDown(gone, false)
	}
}

// TestWeakHistoryIsAnchored: nothing of a new history is served before the registry's anchor has passed where it began.
func TestWeakHistoryIsAnchored(t *testing.T) {
	w := newWorld(t, 4)
	s := w.create(1)
	s.Weak = true
	d := w.deps()
	d.Patience = time.Millisecond
	e, err := Open(d, s, Options{Ring: make([]byte, 4<<20)})
	must(t, err)
	must(t, e.Write(ring.ID{}, make([]byte, 4096), 0))
	must(t, e.Flush())
	st := e.Status()
	must(t, e.Close(false))
	w.setDown(st.Members[0].Store, true)
	e, err = Open(d, s, Options{Ring: make([]byte, 4<<20), Force: true})
	must(t, err)
	defer func() { _ = e.Close(false) }()
	f, err := w.Load(s.ID)
	must(t, err)
	if h := e.Status().History; h.Extent != st.Extent || f.Anchor.Extent == st.Extent || e.unanchored {
		t.Fatalf("history %v, anchor %s, extent before %s", h, f.Anchor.Extent, st.Extent)
	}
}

// TestNoGap: a ring whose first writes the journal lacks is not gone on with, in whichever way they were lost. Control: as long as the journal
// has what the ring has let go of, it is.
func TestNoGap(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	mem := make([]byte, 4<<20)
	e := w.open(s, Options{Ring: mem})
	for i := range 8 {
		must(t, e.Write(ring.ID{}, fill(make([]byte, 4096), uint64(i)), int64(i)*4096))
		must(t, e.Flush())
	}
	must(t, e.Checkpoint())
	must(t, e.Close(false))
	e, err := Open(w.deps(), s, Options{Ring: mem})
	must(t, err)
	must(t, e.Write(ring.ID{}, make([]byte, 4096), 0))
	must(t, e.Flush())
	must(t, e.Close(false))
	r, err := ring.Open(mem, s.ID)
	must(t, err)
	if r.Freed() == 0 {
		t.Fatal("the ring has let go of nothing")
	}
	// The ring is that of a writer which came further than the journal.
	const lowAt, freedAt = 64, 80
	binary.LittleEndian.PutUint64(mem[lowAt:], 101)
	binary.LittleEndian.PutUint64(mem[freedAt:], 100)
	if _, err := Open(w.deps(), s, Options{Ring: mem}); !errors.Is(err, ErrCut) {
		t.Errorf("a writer goes on behind a gap: %v", err)
	}
	binary.LittleEndian.PutUint64(mem[freedAt:], r.Freed()) // what is above was never a write
	e, err = Open(w.deps(), s, Options{Ring: mem})
	must(t, err)
	must(t, e.Close(false))
}
