// Package registrytest is the suite that every registry passes.
//
// Run takes a maker of two handles on one empty registry, as two agents would have them. It is safe for concurrent use.
package registrytest

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// Record is a valid record whose ids derive from n.
func Record(n byte) registry.Record {
	return registry.Record{ID: block.VolumeID{n}, Name: fmt.Sprintf("vol%d", n), Size: 1 << 20, Replicas: 3, Extent: 1 << 20,
		Compression: block.CompressionZstd, Created: 1000}
}

// Run runs the suite.
func Run(t *testing.T, open func(t *testing.T) (a, b registry.Store)) {
	for name, f := range map[string]func(*testing.T, registry.Store, registry.Store){
		"RoundTrip": roundTrip, "Swap": swap, "SwapRace": swapRace, "UpdateKeepsFact": updateKeepsFact, "Names": names,
		"Clones": clones, "Deleted": deleted, "Find": find,
	} {
		t.Run(name, func(t *testing.T) {
			a, b := open(t)
			f(t, a, b)
		})
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got %v, want %v", err, target)
	}
}

func roundTrip(t *testing.T, a, b registry.Store) {
	r := Record(1)
	r.Encrypted, r.KeyCheck, r.Holder, r.HolderEpoch, r.Weak = true, []byte{1, 2}, "n1", 3, true
	r.Snapshots = []registry.Snapshot{{ID: [16]byte{9}, Name: "s", Created: 4, Size: 4096, Kept: true}}
	r.Claim, r.Limits = registry.Claim{Namespace: "shop", Name: "db", Size: 4000}, registry.Limits{IOPS: 100, BytesPerSecond: 1 << 20}
	r.Used, r.Copies, r.Lost = 8192, 3, 7
	r.Adaptive = registry.Adaptive{Least: 3, Most: 5, Why: "ReadHot", Changed: 6}
	ok(t, a.Create(r))
	got, err := b.Get(r.ID)
	ok(t, err)
	r.Fact.Revision = got.Fact.Revision
	if !reflect.DeepEqual(got, r) {
		t.Fatalf("got %+v\nwant %+v", got, r)
	}
	_, err = a.Get(block.VolumeID{7})
	want(t, err, registry.ErrNotFound)
	_, err = a.Load(block.VolumeID{7})
	want(t, err, registry.ErrNotFound)
	r.Size = 5
	want(t, a.Create(r), registry.ErrInvalid)
}

func swap(t *testing.T, a, b registry.Store) {
	ok(t, a.Create(Record(1)))
	f, err := a.Load(block.VolumeID{1})
	ok(t, err)
	old := f
	f.Epoch = block.Epoch{Number: 1, Token: 77}
	f.Anchor = journal.Position{Extent: block.ExtentID{Volume: block.VolumeID{1}, Epoch: 1, N: 2}, Members: []block.StoreID{{3}, {4}}}
	f.Revision, err = a.Swap(block.VolumeID{1}, f)
	ok(t, err)
	got, err := b.Load(block.VolumeID{1})
	ok(t, err)
	if !reflect.DeepEqual(got, f) {
		t.Fatalf("got %+v, want %+v", got, f)
	}
	_, err = b.Swap(block.VolumeID{1}, old)
	want(t, err, volume.ErrConflict)
	_, err = b.Swap(block.VolumeID{2}, old)
	want(t, err, registry.ErrNotFound)
}

func swapRace(t *testing.T, a, b registry.Store) {
	ok(t, a.Create(Record(1)))
	ok(t, SwapRace(a, b))
}

// SwapRace lets many writers take epochs of the volume of Record(1) through two handles. It fails unless each success had
// a number of its own.
func SwapRace(a, b registry.Store) error {
	const writers, rounds = 4, 20
	var mu sync.Mutex
	var fail error
	owner := map[uint64]uint64{}
	var wg sync.WaitGroup
	for w := range uint64(writers) {
		wg.Go(func() {
			s := a
			if w%2 == 1 {
				s = b
			}
			for won := 0; won < rounds; {
				f, err := s.Load(block.VolumeID{1})
				if err == nil {
					f.Epoch = block.Epoch{Number: f.Epoch.Number + 1, Token: w + 1}
					_, err = s.Swap(block.VolumeID{1}, f)
				}
				if errors.Is(err, volume.ErrConflict) {
					continue
				}
				won++
				mu.Lock()
				if was, twice := owner[f.Epoch.Number]; twice {
					err = errors.Join(err, fmt.Errorf("epoch %d given to writers %d and %d", f.Epoch.Number, was, w+1))
				}
				owner[f.Epoch.Number] = w + 1
				fail = errors.Join(fail, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	f, err := a.Load(block.VolumeID{1})
	if err == nil && f.Epoch.Number != writers*rounds {
		err = fmt.Errorf("epoch %d after %d swaps", f.Epoch.Number, writers*rounds)
	}
	return errors.Join(fail, err)
}

func updateKeepsFact(t *testing.T, a, b registry.Store) {
	ok(t, a.Create(Record(1)))
	f, err := a.Load(block.VolumeID{1})
	ok(t, err)
	_, err = b.Update(block.VolumeID{1}, func(r *registry.Record) error { r.Holder = "n2"; return nil })
	ok(t, err)
	f.Epoch = block.Epoch{Number: 1, Token: 1}
	_, err = a.Swap(block.VolumeID{1}, f)
	ok(t, err) // the update did not disturb it
	_, err = b.Update(block.VolumeID{1}, func(r *registry.Record) error { r.Fact.Epoch.Number = 9; return nil })
	want(t, err, registry.ErrInvalid)
	stop := errors.New("stop")
	_, err = b.Update(block.VolumeID{1}, func(r *registry.Record) error { r.Holder = "n3"; return stop })
	want(t, err, stop)
	r, err := a.Get(block.VolumeID{1})
	ok(t, err)
	if r.Holder != "n2" || r.Fact.Epoch.Number != 1 {
		t.Fatalf("holder %q, epoch %s", r.Holder, r.Fact.Epoch)
	}
}

func names(t *testing.T, a, b registry.Store) {
	ok(t, a.Create(Record(1)))
	r := Record(2)
	r.Name = "vol1"
	want(t, b.Create(r), registry.ErrExists)
	r = Record(1)
	r.Name = "other"
	want(t, b.Create(r), registry.ErrExists)
	r = Record(3)
	r.Name = "../evil"
	want(t, b.Create(r), registry.ErrInvalid)
}

func clones(t *testing.T, a, b registry.Store) {
	parent := Record(1)
	parent.Snapshots = []registry.Snapshot{{ID: [16]byte{9}, Name: "s"}, {ID: [16]byte{8}, Name: "dying", Dying: true}, {ID: [16]byte{6}, Name: "kept", Kept: true}}
	ok(t, a.Create(parent))
	c := Record(2)
	c.Parent, c.Snapshot = parent.ID, [16]byte{9}
	ok(t, b.Create(c))
	c = Record(3)
	c.Parent, c.Snapshot = parent.ID, [16]byte{8}
	want(t, b.Create(c), registry.ErrDeleted)
	c.Snapshot = [16]byte{6}
	want(t, b.Create(c), registry.ErrDeleted)
	c.Snapshot = [16]byte{7}
	want(t, b.Create(c), registry.ErrNotFound)
	c.Parent = block.VolumeID{99}
	want(t, b.Create(c), registry.ErrNotFound)
	_, err := a.Update(parent.ID, remove)
	want(t, err, registry.ErrClones)
	_, err = b.Update(parent.ID, dying)
	want(t, err, registry.ErrClones)
	_, err = a.Update(block.VolumeID{2}, remove)
	ok(t, err)
	_, err = a.Update(parent.ID, remove)
	ok(t, err)
	c = Record(4)
	c.Parent, c.Snapshot = parent.ID, [16]byte{9}
	want(t, b.Create(c), registry.ErrDeleted)
}

// dying marks all snapshots.
func dying(r *registry.Record) error {
	for i := range r.Snapshots {
		r.Snapshots[i].Dying = true
	}
	return nil
}

func remove(r *registry.Record) error {
	r.Deletion = &registry.Deletion{At: 5, Signed: []byte("signed")}
	return nil
}

func deleted(t *testing.T, a, b registry.Store) {
	ok(t, a.Create(Record(1)))
	f, err := a.Load(block.VolumeID{1})
	ok(t, err)
	_, err = a.Update(block.VolumeID{1}, remove)
	ok(t, err)
	_, err = b.Load(block.VolumeID{1})
	want(t, err, registry.ErrDeleted)
	_, err = b.Swap(block.VolumeID{1}, f)
	want(t, err, registry.ErrDeleted)
	_, err = b.Update(block.VolumeID{1}, func(r *registry.Record) error { r.Deletion = nil; return nil })
	want(t, err, registry.ErrDeleted)
	want(t, b.Create(Record(1)), registry.ErrExists)
	again := Record(2)
	again.Name = "vol1"
	ok(t, b.Create(again)) // the name is free, the id is not
	r, err := b.Get(block.VolumeID{1})
	ok(t, err)
	if r.Live() || string(r.Deletion.Signed) != "signed" {
		t.Fatalf("deletion %+v", r.Deletion)
	}
}

func find(t *testing.T, a, _ registry.Store) {
	ok(t, a.Create(Record(1)))
	r, err := registry.Find(a, "vol1")
	ok(t, err)
	if r.ID != (block.VolumeID{1}) {
		t.Fatal(r.ID)
	}
	_, err = registry.Find(a, r.ID.String())
	ok(t, err)
	_, err = registry.Find(a, "no")
	want(t, err, registry.ErrNotFound)
}
