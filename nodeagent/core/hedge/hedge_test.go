package hedge

import (
	"math/rand/v2"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

const ms = int64(1e6)

var a, b = block.StoreID{1}, block.StoreID{2}

// read is one read that took so long.
func read(s *State, now, took int64) {
	s.Asked(now, a, 4096)
	s.Ended(now+took, a, 4096, now, true)
}

func patience(s *State, now int64) int64 {
	d := s.Asked(now, a, 4096)
	s.Ended(now, a, 4096, now, false)
	return d
}

// TestPatience: how late is late follows the replica, within bounds; before it is known it is the upper one.
func TestPatience(t *testing.T) {
	r := Default()
	for took, want := range map[int64][2]int64{0: {r.Floor, r.Floor}, ms / 10: {r.Floor, r.Floor}, 2 * ms: {6 * ms, 9 * ms}, 20 * ms: {60 * ms, 90 * ms}, 80 * ms: {r.Ceiling, r.Ceiling}, 3600e9: {r.Ceiling, r.Ceiling}} {
		s := New(r)
		if d := patience(s, 0); d != r.Ceiling {
			t.Errorf("unknown: %d", d)
		}
		for i := range int64(100) {
			read(s, i, took)
		}
		if d := patience(s, 0); d < want[0] || d > want[1] {
			t.Errorf("reads that take %d are late after %d", took, d)
		}
		if s.Asked(0, a, 1<<20) != r.Ceiling {
			t.Error("small reads tell of large ones")
		}
	}
}

// hangs is how late is late with a replica that hangs for 50 ms in a share of its reads.
func hangs(share float64, late func(t *times) int64) (worst int64) {
	s, rng := New(Default()), rand.New(rand.NewPCG(1, 2))
	for i := range int64(20000) {
		took := ms / 10
		if rng.Float64() < share {
			took = 50 * ms
		}
		read(s, i*ms, took)
		if i > 500 {
			worst = max(worst, late(&s.known[a].small))
		}
	}
	return worst
}

// TestHangs: the rule is one of nineteen reads of twenty, so that hangs do not become what is usual. With nine hundred and ninety of a thousand they do.
func TestHangs(t *testing.T) {
	if d := hangs(0.01, func(t *times) int64 { return t.top }); d > ms {
		t.Errorf("one of a hundred hangs: nineteen of twenty take %d", d)
	}
	if d := hangs(0.01, func(t *times) int64 { return t.upTo(t.n - t.n/100) }); d < 50*ms {
		t.Errorf("the control: ninety-nine of a hundred take %d", d)
	}
}

// TestForgets: a replica that was slow is late early again after some hundred quick reads.
func TestForgets(t *testing.T) {
	s := New(Default())
	for i := range int64(5000) {
		read(s, i, 80*ms)
	}
	n := 0
	for ; patience(s, 0) > Default().Floor; n++ {
		read(s, 0, ms/10)
	}
	if n > 5*memory {
		t.Errorf("%d reads", n)
	}
}

// TestBudget: however late all reads are, a share of them is sent twice, and some a second beside that.
func TestBudget(t *testing.T) {
	r := Default()
	for _, every := range []int64{1000, ms, 100 * ms, 10000 * ms} {
		s, sent, reads, now := New(r), 0, 0, int64(5e9)
		begun := now
		for ; reads < 20000; reads++ {
			now += every
			s.Read()
			for s.Hedge(now) {
				sent++
			}
		}
		most := r.Burst + r.Share*float64(reads) + r.Rate*float64(now-begun+5e9)/1e9
		least := min(r.Share*float64(reads), most)
		if float64(sent) > most || float64(sent) < least-1 {
			t.Errorf("a read every %d ns: %d of %d were sent twice, between %.0f and %.0f may be", every, sent, reads, least, most)
		}
	}
	s := New(r)
	for s.Hedge(0) {
	}
	if s.Hedge(ms) || !s.Hedge(200*ms) {
		t.Error("who waits and reads nothing else gets none, or too many")
	}
}

// TestStandsStill: others are preferred to a replica that answers nothing, but for a probe now and then, until it answers. One that others answer
// beside a hang is not held for standing still.
func TestStandsStill(t *testing.T) {
	r := Default()
	s := New(r)
	now := int64(0)
	for range 100 {
		read(s, now, ms/10)
		now += ms
	}
	s.Asked(now, a, 4096)
	if s.Rank(now+r.Floor, a, true) != 0 || s.Rank(now+r.Floor+ms, b, true) != 0 {
		t.Error("stands still before it is late")
	}
	if s.Rank(now+r.Floor+ms, a, true) != still {
		t.Error("stands still, and is not seen to")
	}
	probes := 0
	began := now
	for ; now < began+20*r.Probe; now += ms {
		if s.Rank(now, a, true) == 0 && now > began+r.Floor {
			s.Asked(now, a, 4096)
			probes++
		}
	}
	if probes < 18 || probes > 20 {
		t.Errorf("%d probes in 20 s", probes)
	}
	s.Ended(now, a, 4096, now-ms/10, true)
	for range 50 { // the hung ones stay; others are answered
		if s.Rank(now, a, true) != 0 {
			t.Fatal("is still held for standing still when it answers")
		}
		read(s, now, ms/10)
		now += ms
	}
}

// TestRank: who is slower than others by octaves is asked after them; the own replica has a lead.
func TestRank(t *testing.T) {
	s := New(Default())
	for i := range int64(100) {
		read(s, i, 40*ms)
	}
	if other, own := s.Rank(100, a, false), s.Rank(100, a, true); other < 4 || own != other-2 || s.Rank(100, b, false) != 0 {
		t.Errorf("%d, as the own replica %d", other, own)
	}
	if s.Rank(100+Default().Probe, a, false) != 0 {
		t.Error("is never tried again")
	}
	for i := range int64(200) {
		read(s, i, ms/10)
	}
	if got := s.Rank(200, a, false); got != 0 {
		t.Errorf("after quick reads: %d", got)
	}
}

// TestBuckets: each time is at most its bucket's bound, and above the one's before.
func TestBuckets(t *testing.T) {
	for d := int64(1); d < 16e9; d = d*9/8 + 1 {
		i := bucketOf(d)
		if d > upper(i) || i > 0 && d < upper(i-1) {
			t.Errorf("%d in bucket %d, up to %d", d, i, upper(i))
		}
	}
}

// TestNothingTaken: a replica that is known takes no memory.
func TestNothingTaken(t *testing.T) {
	s := New(Default())
	read(s, 0, ms)
	if n := testing.AllocsPerRun(100, func() {
		read(s, 0, ms)
		s.Read()
		s.Hedge(0)
		s.Rank(0, a, true)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
