package volume

import (
	"bytes"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// rotten is a store at hand whose pages come with a wrong byte as long as bad is set.
type rotten struct {
	Local
	bad *bool
}

func (r rotten) ReadData(x block.ExtentID, off uint32, p []byte) error {
	err := r.Local.ReadData(x, off, p)
	if *r.bad {
		p[len(p)/2] ^= 1
	}
	return err
}

func (r rotten) ReadDataNow(x block.ExtentID, off uint32, p []byte) error {
	err := r.Local.ReadDataNow(x, off, p)
	if *r.bad {
		p[len(p)/2] ^= 1
	}
	return err
}

// TestChecksTogether: pages that lie alone are checked after the last of them was read, and before any is returned: a wrong one is read
// from another replica, and not returned where there is none at hand.
func TestChecksTogether(t *testing.T) {
	const pages = 11
	w, bad := newWorld(t, 3), false
	d := w.deps()
	d.Cache = &mapCache{}
	d.Local = func(s block.StoreID) Local {
		if l := w.local(s); l != nil {
			return rotten{l, &bad}
		}
		return nil
	}
	e, err := Open(d, w.create(1), Options{Ring: make([]byte, 4<<20)})
	must(t, err)
	want := fill(make([]byte, pages*block.PageSize), 1)
	for i := pages - 1; i >= 0; i-- { // backwards: no two of them lie together
		must(t, e.Write(ring.ID{}, want[i*block.PageSize:(i+1)*block.PageSize], int64(i)*block.PageSize))
	}
	must(t, e.Flush())
	for inRing := true; inRing; { // until every replica has all of it; then the checkpoint seals the block
		e.mu.RLock()
		inRing = len(e.pending) > 0
		e.mu.RUnlock()
		w.env.Sleep(time.Millisecond)
	}
	must(t, e.Checkpoint())
	got := make([]byte, len(want))
	for _, bad = range []bool{false, true, false} {
		clear(got)
		ok, err := e.TryRead(got, 0, nil)
		for range 5000 {
			if ok || bad || err != nil {
				break
			}
			w.env.Sleep(time.Millisecond) // a store at hand may be the one that has yet to get the checkpoint's map nodes
			ok, err = e.TryRead(got, 0, nil)
		}
		if ok == bad || err != nil {
			t.Errorf("with a bad store %v: from what is at hand: %v %v", bad, ok, err)
		}
		clear(got)
		if err := e.Read(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("with a bad store %v: %v, right %v", bad, err, bytes.Equal(got, want))
		}
	}
	d.Cache.(*mapCache).m.Clear() // of the pages that came from other nodes
	must(t, e.Read(got, 0))
	bad = true
	c := new(checks) // the control: the checks are all that keeps what gather reads from being returned
	if err := (reader{e: e, local: true, later: c}).gather(0, got); err != nil || c.n != pages || bytes.Equal(got, want) {
		t.Errorf("%v, %d pages left to check, right %v", err, c.n, bytes.Equal(got, want))
	}
	bad = false
	_ = e.Close(false)
}

// TestWithout: what a checkpoint leaves out is still the engine's if the checkpoint fails.
func TestWithout(t *testing.T) {
	var list []journal.SnapshotRoot
	for i := range 3 {
		list = append(list, journal.SnapshotRoot{Snapshot: journal.Snapshot{ID: [16]byte{byte(i)}}})
	}
	for i := range 4 {
		rest := without(list, [16]byte{byte(i)})
		if want := min(2+i/3, 3); len(rest) != want {
			t.Errorf("without %d: %d are left, want %d", i, len(rest), want)
		}
		for j := range list {
			if list[j].ID != [16]byte{byte(j)} {
				t.Fatalf("without %d: the list itself has changed", i)
			}
		}
	}
}
