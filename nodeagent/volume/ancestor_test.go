package volume

import (
	"errors"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// TestAncestorHalfHeard: a page of an ancestor that is not where its checkpoint says may be where a later one does, as long as too few replicas
// of its journal answer to know that there is none: a read waits for them. Found by a seed (19345). Control: all answer, and the page is not there.
func TestAncestorHalfHeard(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	parent := w.open(s, Options{})
	must(t, parent.Write(ring.ID{}, make([]byte, 8*block.PageSize), 0))
	must(t, parent.Snapshot(journal.Snapshot{ID: [16]byte{7}}))
	must(t, parent.Checkpoint())
	spec := w.create(2)
	spec.Parent, spec.Snapshot = s.ID, [16]byte{7}
	clone := w.open(spec, Options{})
	for _, heard := range []bool{true, false} {
		for _, id := range w.ids[1:] {
			w.setDown(id, !heard)
		}
		clone.refreshAncestors()
		page := make([]byte, block.PageSize)
		err := reader{e: clone}.fetch(blockmap.New(1, 999, 0), 1, page)
		if !errors.Is(err, replica.ErrNotHeld) || errors.Is(err, replica.ErrUnreachable) == heard {
			t.Errorf("all replicas are heard %v: %v", heard, err)
		}
	}
	for _, id := range w.ids {
		w.setDown(id, false)
	}
	must(t, errors.Join(clone.Close(false), parent.Close(false)))
}

// TestFreedIsNotHeardOut: a store that has freed an extent had, maybe, more of it than the one that keeps it. Control: one that keeps it too.
func TestFreedIsNotHeardOut(t *testing.T) {
	w := newWorld(t, 3)
	e := w.open(w.create(1), Options{})
	must(t, e.Write(ring.ID{}, make([]byte, block.PageSize), 0))
	must(t, e.Flush())
	x := e.Status().Extent
	must(t, e.pause())
	must(t, e.openNext())
	e.resume()
	must(t, e.Checkpoint())
	for _, id := range w.ids { // the closed record is everywhere
		for st, err := e.Client.Stat(id, x); !st.Chain.Closed; st, err = e.Client.Stat(id, x) {
			must(t, err)
		}
	}
	w.setDown(w.ids[2], true)
	l, err := e.longestLog(x)
	if err != nil || !l.whole || l.freed {
		t.Errorf("two of three have it: whole %v, freed %v: %v", l.whole, l.freed, err)
	}
	must(t, e.Client.Free(w.ids[1], e.epochNow(), x))
	l, err = e.longestLog(x)
	if err != nil || l.whole || !l.freed {
		t.Errorf("one has it and one has freed it: whole %v, freed %v: %v", l.whole, l.freed, err)
	}
	w.setDown(w.ids[2], false)
	must(t, e.Close(false))
}

// TestDamagedAncestorIsWaitedFor: if the only replica that answers has an ancestor's log damaged, another one may have it right, and a read of a
// clone waits for that. Found by a seed (44039). Control: all answer, and none has it right, which no waiting ends.
func TestDamagedAncestorIsWaitedFor(t *testing.T) {
	w := newWorld(t, 3)
	e := w.open(w.create(1), Options{})
	must(t, e.Write(ring.ID{}, make([]byte, block.PageSize), 0))
	must(t, e.Flush())
	x := e.Status().Extent
	log := "ext/" + shardOf(x) + "/" + x.String() + ".log"
	for _, id := range w.ids { // all of it is everywhere
		for st, err := e.Client.Stat(id, x); st.Chain.Seq < e.Status().Appended; st, err = e.Client.Stat(id, x) {
			must(t, err)
		}
		w.inFiles(id, x)
	}
	for i, alone := range []bool{true, false} {
		must(t, w.node[w.ids[i]].fs.FlipBit(log, 20, 1))
		for _, id := range w.ids[1:] {
			w.setDown(id, alone)
		}
		if !alone {
			must(t, w.node[w.ids[2]].fs.FlipBit(log, 20, 1))
		}
		_, err := e.longestLog(x)
		if !isDamage(err) || !transient(err) || errors.Is(err, replica.ErrUnreachable) != alone {
			t.Errorf("others are away %v: %v", alone, err)
		}
	}
	must(t, e.Close(false))
}
