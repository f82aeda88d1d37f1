package agent

import (
	"runtime"
	"sync"
	"testing"
)

func TestGiverDue(t *testing.T) {
	const mib = 1 << 20
	g := giver{left: 40 * mib}
	for _, c := range []struct {
		name                string
		allocated, resident uint64
		want                bool
	}{
		{"nothing done, nothing to give", 1 * mib, 41 * mib, false},
		{"a load", 2000 * mib, 400 * mib, false},
		{"still the load", 4000 * mib, 400 * mib, false},
		{"it is over", 4001 * mib, 400 * mib, true},
	} {
		if got := g.due(c.allocated, c.resident); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	g.left = 390 * mib
	if g.due(4002*mib, 400*mib) {
		t.Error("it collects again though what is left is in use")
	}
}

const spilled = 64 << 20

// spill gives memory that was used to a pool, and nil, or to its caller.
//
//go:noinline
func spill(pool *sync.Pool, caller bool) *[]byte {
	b := make([]byte, spilled)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	if caller {
		return &b
	}
	pool.Put(&b)
	return nil
}

// TestGiveBack: memory that nothing uses any more goes back to the kernel, also if a pool holds it; the control, which is in use, does not.
func TestGiveBack(t *testing.T) {
	for _, used := range []bool{false, true} {
		var pool sync.Pool
		giveBack()
		_, start := memoryNow()
		keep := spill(&pool, used)
		giveBack()
		_, after := memoryNow()
		if kept := int64(after) - int64(start); (kept > spilled/2) != used {
			t.Errorf("in use %v: %d MiB more than before", used, kept>>20)
		}
		runtime.KeepAlive(keep)
	}
}
