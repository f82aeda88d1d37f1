package volume

import (
	"errors"
	"slices"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// TestFitting: a pass takes what there is room to copy, and nothing that gains much less than the rest.
func TestFitting(t *testing.T) {
	const mib = 1 << 20
	pages := func(percent int64, mibs int64) int64 { return percent * mibs * mib / 100 / block.PageSize }
	var extents extentTable
	for i, size := range []uint32{mib, mib, 4 * mib, mib} {
		extents.set(uint32(i)+1, blockmap.ExtentEntry{State: blockmap.ExtentClosed, DataBytes: size})
	}
	live := []int64{0, pages(50, 1), pages(60, 1), pages(60, 4), pages(85, 1)}
	for name, c := range map[string]struct {
		budget, check int64
		want          []uint32
	}{
		"room for all, and the last gains too little":                         {100 * mib, 0, []uint32{1, 2, 3}},
		"the checkpoint has eaten most of what the others gain":               {100 * mib, 2 * mib, []uint32{1, 2, 3, 4}},
		"no room for the large one":                                           {2 * mib, 0, []uint32{1, 2}},
		"no room for the large one, and a checkpoint that wants all there is": {3 * mib, 2 * mib, []uint32{1, 2, 4}},
		"no room": {copySize(live[1]) - 1, 0, nil},
	} {
		if got := fitting([]uint32{1, 2, 3, 4}, &extents, live, c.budget, c.check); !slices.Equal(got, c.want) {
			t.Errorf("%s: extents %v, want %v", name, got, c.want)
		}
	}
}

// TestInStep: while room is short, writes take the volume's share of what is left for users until a pass has ended, half of it at once and the rest as the pass gets on.
func TestInStep(t *testing.T) {
	const r = 80 << 20
	e := &Engine{}
	k := &e.tidy.tight
	room := func(users int64) { k.known, k.room, k.share = true, Room{Users: users, Cleaners: users + r}, .25 }
	if room(r); k.short() || k.due() || k.holds(false) || !k.holds(true) {
		t.Error("there is room: writes go on, but where no extent is opened for them")
	}
	k.waits = true
	if room(r / 4); !k.short() || !k.due() || !k.holds(false) {
		t.Error("room is short, and writes do not wait for a pass")
	}
	if k.waits = false; k.due() {
		t.Error("nobody has written, and a pass is due")
	}
	k.check = 20
	c := &cleaner{e: e, tight: true, live: 80}
	const share = (r/4 - 17<<16 - 1<<20) / 4 / 8 * 8 // of what is left but for an extent of 1 MiB, with its log of 17/16 MiB
	if c.enter(); k.allow != share/2 || k.holds(true) {
		t.Errorf("a pass begins: %d may be written, want %d", k.allow, share/2)
	}
	c.earn(40)
	if e.wroteIndex(10); k.allow != share*3/4-1 { // rounded
		t.Errorf("half is copied, and half of the checkpoint is written: %d may be written, want %d", k.allow, share*3/4)
	}
	if k.spend(share); k.allow != 0 || k.wrote != share+share/logShare || !k.holds(true) || !k.holds(false) {
		t.Errorf("more is written: %d may be", k.allow)
	}
	if e.wroteIndex(1 << 20); k.allow != share/4+1 {
		t.Errorf("all is written, and more: %d may be, want %d", k.allow, share/4)
	}
	if room(r/4096 - r*3/4); k.most() != 0 {
		t.Error("writes take the last quarter of the reserve")
	}
	if room(-1); k.most() != 0 {
		t.Errorf("nothing is left for users, and they may write %d", k.most())
	}
}

// TestVain: passes that gain nothing do not hold writes up, and tell that there is no hope if no extent is opened for users either.
func TestVain(t *testing.T) {
	const r = 80 << 20
	e := &Engine{}
	e.Env = task.NewReal()
	e.tend = e.Env.NewSignal()
	k := &e.tidy.tight
	k.known, k.room, k.share, k.check = true, Room{Users: -1, Cleaners: r - 1}, 1, 10
	pass := func(gone, copied int64, err error) {
		c := &cleaner{e: e, tight: true, gone: gone, copied: copied}
		c.enter()
		c.settle(err)
	}
	if pass(30, 20, nil); k.vain != 1 || k.holds(false) || !k.holds(true) {
		t.Error("a pass has gained nothing: as long as there is room, writes go on; without, they wait")
	}
	if pass(31, 20, nil); k.vain != 0 || !k.holds(false) || k.pass != nil {
		t.Error("a pass has gained something, and writes go on without waiting for the next")
	}
	for range 2 * vainPasses {
		pass(31, 20, errors.New("the checkpoint failed"))
	}
	if e.tidy.hopeless {
		t.Error("no extent is full, and nothing is hoped")
	}
	e.hope()
	e.full = true
	for range vainPasses {
		pass(30, 20, nil)
	}
	if !e.tidy.hopeless {
		t.Error("passes gain nothing, and writes hope for more")
	}
	if e.hope(); !e.tidy.hopeless {
		t.Error("nothing has changed, and there is hope")
	}
	k.room.Users, k.room.Cleaners = k.room.Users+r/4, k.room.Cleaners+r/4
	if e.hope(); e.tidy.hopeless {
		t.Error("there is room again, and no hope")
	}
}
