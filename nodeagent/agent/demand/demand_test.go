package demand

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/adaptive"
	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// world is a manager and a network that are played.
type world struct {
	list    []Volume
	network Network
	fails   error
	calls   []string
	f       *Follower
	at      time.Duration
}

func newWorld(list ...Volume) *world {
	w := &world{list: list, network: Network{Room: 7, Zones: 3}}
	w.f = New(Options{Volumes: func() []Volume { return append([]Volume(nil), w.list...) }, Network: func() Network { return w.network }, Log: slog.New(slog.DiscardHandler),
		Adapt: func(v block.VolumeID, copies int, why adaptive.Reason) error {
			if w.fails != nil {
				return w.fails
			}
			for i := range w.list {
				if w.list[i].ID == v {
					w.list[i].Copies = copies
					w.calls = append(w.calls, fmt.Sprintf("%s %d %s", w.list[i].Name, copies, why))
				}
			}
			return nil
		}})
	return w
}

// run looks each minute, with so many reads a second of each volume.
func (w *world) run(minutes int, rates ...uint64) {
	for range minutes {
		w.f.Look(w.at)
		w.at += time.Minute
		for i := range w.list {
			if i < len(rates) {
				w.list[i].Reads += rates[i] * 60
			}
		}
	}
}

func vol(n byte, copies, least, most int) Volume {
	return Volume{ID: block.VolumeID{n}, Name: fmt.Sprint("v", n), Copies: copies, Bounds: adaptive.Bounds{Least: least, Most: most}}
}

func (w *world) want(t *testing.T, calls ...string) {
	t.Helper()
	if fmt.Sprint(w.calls) != fmt.Sprint(calls) {
		t.Errorf("changes %q, want %q", w.calls, calls)
	}
}

// TestFollows: what is read gains copies up to the most, one at a time, and loses them when it is not read any more.
func TestFollows(t *testing.T) {
	w := newWorld(vol(1, 3, 3, 5), vol(2, 3, 3, 5))
	w.run(120, 9000, 1000)
	w.want(t, "v1 4 ReadHot", "v1 5 ReadHot")
	if why, ok := w.f.Verdict(block.VolumeID{1}); !ok || why != adaptive.AtMost {
		t.Errorf("%v %v", why, ok)
	}
	w.run(400, 0, 1000)
	w.want(t, "v1 4 ReadHot", "v1 5 ReadHot", "v1 4 Unused")
	if n := w.f.Changes(); n[Change{"v1", adaptive.ReadHot}] != 2 || n[Change{"v1", adaptive.Unused}] != 1 || len(n) != 2 {
		t.Errorf("%v", n)
	}
}

// TestLargeReads: few large reads are demand too; as many small ones are not.
func TestLargeReads(t *testing.T) {
	w := newWorld(vol(1, 3, 3, 4), vol(2, 3, 3, 4))
	for range 30 {
		w.run(1, 200, 200)
		w.list[0].Bytes += 200 * 60 * (1 << 20)
		w.list[1].Bytes += 200 * 60 * 4096
	}
	w.want(t, "v1 4 ReadHot")
}

// TestWithoutBounds: nothing is read so much that a volume without bounds is touched, nor is space so low.
func TestWithoutBounds(t *testing.T) {
	a, b := vol(1, 3, 0, 0), vol(2, 3, 3, 3)
	a.Held, b.Held = map[block.StoreID]int{{9}: 1}, map[block.StoreID]int{{9}: 1}
	w := newWorld(a, b)
	w.run(600, 1e6, 1e6)
	w.f.GiveUp([]block.StoreID{{9}})
	w.want(t)
	if _, ok := w.f.Verdict(block.VolumeID{1}); ok {
		t.Error("there is a verdict")
	}
}

// TestTrouble: nothing changes while copies are missing or moving, space is low or there is no room; then it does.
func TestTrouble(t *testing.T) {
	for name, set := range map[string]func(w *world, on bool){
		"degraded": func(w *world, on bool) { w.list[0].Degraded = on },
		"moving":   func(w *world, on bool) { w.list[0].Moving = on },
		"low":      func(w *world, on bool) { w.network.Low = on },
		"no room": func(w *world, on bool) {
			w.network.Room = 7
			if on {
				w.network.Room = 3
			}
		},
	} {
		w := newWorld(vol(1, 3, 3, 4))
		set(w, true)
		w.run(60, 9000)
		if len(w.calls) != 0 {
			t.Errorf("%s: %q", name, w.calls)
		}
		set(w, false)
		w.run(2, 9000)
		w.want(t, "v1 4 ReadHot")
	}
}

// TestFloor: what is safe is kept whatever the bounds say.
func TestFloor(t *testing.T) {
	strong, weak := vol(1, 4, 1, 5), vol(2, 4, 1, 5)
	weak.Weak = true
	w := newWorld(strong, weak)
	w.run(3000)
	if w.list[0].Copies != 3 || w.list[1].Copies != 2 {
		t.Errorf("%d and %d copies", w.list[0].Copies, w.list[1].Copies)
	}
	w.network.Zones = 1
	w.run(1000)
	if w.list[0].Copies != 3 || w.list[1].Copies != 1 {
		t.Errorf("%d and %d copies in one zone", w.list[0].Copies, w.list[1].Copies)
	}
}

// TestFailed: a change that fails is made with the next look, and counted once.
func TestFailed(t *testing.T) {
	w := newWorld(vol(1, 3, 3, 4))
	w.fails = errors.New("busy")
	w.run(20, 9000)
	w.want(t)
	w.fails = nil
	w.run(1, 9000)
	w.want(t, "v1 4 ReadHot")
	if n := w.f.Changes()[Change{"v1", adaptive.ReadHot}]; n != 1 {
		t.Errorf("counted %d times", n)
	}
}

// TestPeopleChange: after people have set another number the count begins anew.
func TestPeopleChange(t *testing.T) {
	w := newWorld(vol(1, 5, 3, 5))
	w.run(359)
	w.list[0].Copies = 4
	w.run(350)
	w.want(t)
	w.run(20)
	w.want(t, "v1 3 Unused")
}

// TestReopened: counters that begin anew are no demand.
func TestReopened(t *testing.T) {
	w := newWorld(vol(1, 3, 3, 4))
	for range 30 {
		w.run(1, 10)
		w.list[0].Reads = 0
	}
	w.want(t)
}

// TestGiveUp: short of space, what is read least loses a copy first, and nothing below what it needs; who has no copy there, or is not well, is left.
func TestGiveUp(t *testing.T) {
	list := []Volume{vol(1, 5, 3, 5), vol(2, 4, 3, 5), vol(3, 5, 3, 5), vol(4, 3, 3, 5), vol(5, 5, 3, 5)}
	for i := range list {
		list[i].Held = map[block.StoreID]int{{9}: 1}
	}
	list[2].Held = map[block.StoreID]int{{8}: 1}
	list[4].Degraded = true
	w := newWorld(list...)
	w.run(5, 1000, 500, 0, 0, 0)
	w.network.Low = true
	var names []string
	for {
		name, ok := w.f.GiveUp([]block.StoreID{{9}})
		if !ok {
			break
		}
		names = append(names, name)
	}
	if fmt.Sprint(names) != "[v2 v1 v1]" || w.list[0].Copies != 3 || w.list[1].Copies != 3 {
		t.Errorf("%v", names)
	}
}
