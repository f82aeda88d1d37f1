package volume

import (
	"errors"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// deafRegistry takes one change and loses the answer.
type deafRegistry struct {
	*world
	lose bool
}

func (r *deafRegistry) Swap(v block.VolumeID, f Fact) (string, error) {
	rev, err := r.world.Swap(v, f)
	if err == nil && r.lose {
		r.lose = false
		return "", errors.New("connection lost")
	}
	return rev, err
}

// TestAnchorGoesOnMoving: after an answer of the registry was lost, or it was restored from an old copy, the anchor still
// follows the journal: what lies before it could not be freed otherwise. A later writer's fact is left alone.
func TestAnchorGoesOnMoving(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(1)
	s.Extent = MinExtent
	reg := &deafRegistry{world: w}
	d := w.deps()
	d.Registry = reg
	e, err := Open(d, s, Options{Ring: make([]byte, 4<<20)})
	must(t, err)
	roll := func() {
		t.Helper()
		p := fill(make([]byte, 64*block.PageSize), 1)
		for was := e.Status().Extent; e.Status().Extent == was; {
			must(t, e.Write(ring.ID{}, p, 0))
			must(t, e.Flush())
		}
		must(t, e.Checkpoint())
	}
	moved := func() bool { f, _ := w.Load(s.ID); return f.Anchor.Extent == e.Status().Extent }
	put := func(f Fact) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.fact[s.ID] = f
	}
	first, _ := w.Load(s.ID)
	reg.lose = true
	roll()
	roll()
	if !moved() {
		t.Error("the anchor stays behind after an answer was lost")
	}
	first.Revision, first.Epoch.Number = "restored", 0
	put(first)
	roll()
	if f, _ := w.Load(s.ID); !moved() || f.Epoch != e.Status().Epoch {
		t.Error("the anchor stays behind after the registry was restored")
	}
	later, _ := w.Load(s.ID)
	later.Epoch.Number, later.Revision = 99, "taken"
	put(later)
	roll()
	if f, _ := w.Load(s.ID); f.Epoch.Number != 99 || f.Revision != "taken" {
		t.Errorf("the fact of a later writer was changed: %+v", f)
	}
}
