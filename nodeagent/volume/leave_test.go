package volume

import (
	"slices"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/upkeep"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// TestNoCopyBeforeTheEndIsDurable: a store that is no member of an extent gets no copy of it before the closed record is durable at a quorum of the
// members: recoveries take such a copy for the proof of that (invariant K8). Control: once it is.
func TestNoCopyBeforeTheEndIsDurable(t *testing.T) {
	w := newWorld(t, 4)
	e := w.open(w.create(1), Options{})
	must(t, e.Write(ring.ID{}, make([]byte, block.PageSize), 0))
	must(t, e.Flush())
	x := e.Status().Extent
	members := e.holdersOf(x)
	i := slices.IndexFunc(w.ids, func(s block.StoreID) bool { return !slices.Contains(members, s) })
	e.mu.Lock()
	c := e.log.chain // the record that closes it is sent, and nobody has answered
	c.Seq++
	e.closeEntry(e.cat.byID[x], &c)
	e.mu.Unlock()
	a := &upkeep.Action{Kind: upkeep.Fetch, Extent: x, Store: w.ids[i], Sources: members[:1], Members: append(slices.Clone(members[1:]), w.ids[i])}
	if ent, ok := e.closedEntry(x); !ok || e.mayLeave(a, &ent) || e.fetchCopy(a) {
		t.Error("a copy is made of what is not durable at a quorum")
	}
	if st, err := e.Client.Stat(w.ids[i], x); err != nil || st.Held {
		t.Errorf("%+v: %v", st, err)
	}
	e.mu.Lock()
	c.Seq--
	e.closeEntry(e.cat.byID[x], &c)
	e.mu.Unlock()
	if ent, ok := e.closedEntry(x); !ok || !e.mayLeave(a, &ent) || !e.fetchCopy(a) {
		t.Error("no copy is made of what is durable at a quorum")
	}
	must(t, e.Close(false))
}
