package siblings

import (
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
)

const ms = time.Millisecond

// play is a writer of three replicas, of which the third is late by what late says, and which is looked at twice a second.
type play struct {
	w      *Watch
	x      *replication.Extent
	now    time.Duration
	seq    uint64
	looked time.Duration
	slow   []time.Duration // when the third was found to be slow
}

func start() *play {
	p := &play{w: New(Default()), x: &replication.Extent{ID: block.ExtentID{N: 1}, First: 1, Quorum: 2}}
	for i := range byte(3) {
		p.x.Members = append(p.x.Members, replication.Member{Store: block.StoreID{i + 1}})
	}
	return p
}

// record writes one record, which the quorum has after 2 ms and the third replica late after that; negative: never.
func (p *play) record(late time.Duration) {
	p.seq++
	p.wait(2 * ms)
	p.x.Members[0].Durable, p.x.Members[1].Durable = p.seq, p.seq
	p.w.Saw(p.now, p.seq, p.x)
	if late < 0 {
		return
	}
	p.wait(late)
	p.x.Members[2].Durable = p.seq
	p.w.Saw(p.now, p.seq, p.x)
}

func (p *play) wait(d time.Duration) {
	for end := p.now + d; p.now < end; {
		p.now = min(end, p.looked+500*ms)
		if p.now == p.looked+500*ms {
			p.looked = p.now
			if p.w.Look(p.now, p.x) {
				p.slow = append(p.slow, p.now)
			}
		}
	}
}

// calm is a second in which nobody is late.
func (p *play) calm() {
	p.record(2 * ms)
	p.wait(time.Second)
}

func (p *play) third() bool {
	_, slow := p.w.Slow(p.now, p.x.Members[2].Store)
	return slow
}

func (p *play) last(d time.Duration, late time.Duration) {
	for end := p.now + d; p.now < end; {
		p.record(late)
	}
}

// TestEven: replicas that differ by less than the rule are left in peace; the control is later than that.
func TestEven(t *testing.T) {
	p := start()
	p.last(time.Minute, 40*ms)
	if p.slow != nil {
		t.Errorf("slow at %v", p.slow)
	}
	p.last(10*time.Second, 80*ms)
	if len(p.slow) != 1 || !p.third() || !p.w.Any(p.now) {
		t.Errorf("slow at %v", p.slow)
	}
	if _, slow := p.w.Slow(p.now, p.x.Members[0].Store); slow {
		t.Error("the others are slow")
	}
}

// TestSpike: a late answer now and then makes nobody slow.
func TestSpike(t *testing.T) {
	p := start()
	for range 60 {
		p.record(900 * ms)
		p.last(2*time.Second, 2*ms)
	}
	if p.slow != nil {
		t.Errorf("slow at %v", p.slow)
	}
}

// TestIdle: what was seen before a pause says nothing after it.
func TestIdle(t *testing.T) {
	p := start()
	for range 20 {
		p.record(100 * ms)
		p.record(100 * ms)
		p.wait(time.Minute)
	}
	if p.slow != nil {
		t.Errorf("slow at %v", p.slow)
	}
}

// TestSilent: one that answers nothing is slow, too, though it is never timed.
func TestSilent(t *testing.T) {
	p := start()
	p.last(10*time.Second, -1)
	if len(p.slow) != 1 {
		t.Errorf("slow at %v", p.slow)
	}
	p = start() // the control: it has failed, and is nobody's concern any more
	p.x.Members[2].Failed = true
	p.last(10*time.Second, -1)
	if p.slow != nil {
		t.Errorf("slow at %v", p.slow)
	}
}

// TestRest: a verdict ends, the next one soon after lasts twice as long, and one after a long good time as long as the first.
func TestRest(t *testing.T) {
	p := start()
	r := Default()
	var lengths []time.Duration
	for range 7 {
		for !p.third() {
			p.record(100 * ms)
		}
		begin := p.now
		for p.third() {
			p.calm()
		}
		lengths = append(lengths, (p.now - begin).Round(5*time.Second))
	}
	for end := p.now + 2*r.Longest; p.now < end; {
		p.calm()
	}
	for !p.third() {
		p.record(100 * ms)
	}
	begin := p.now
	for p.third() {
		p.calm()
	}
	lengths = append(lengths, (p.now - begin).Round(5*time.Second))
	want := []time.Duration{r.Rest, 2 * r.Rest, 4 * r.Rest, 8 * r.Rest, r.Longest, r.Longest, r.Longest, r.Rest}
	for i := range want {
		if lengths[i] != want[i] {
			t.Fatalf("%v, want %v", lengths, want)
		}
	}
}

// TestNoMemory: what is told on every answer takes no memory.
func TestNoMemory(t *testing.T) {
	p := start()
	p.record(2 * ms)
	if n := testing.AllocsPerRun(1000, func() { p.record(2 * ms) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestRolls: an extent that was left in the middle of a probe does not hold up the next one.
func TestRolls(t *testing.T) {
	p := start()
	p.record(-1)
	p.x.ID.N, p.x.First = 2, p.seq+1
	p.x.Members[2].Store = block.StoreID{9}
	p.last(10*time.Second, 100*ms)
	if _, slow := p.w.Slow(p.now, block.StoreID{3}); slow || !p.third() {
		t.Errorf("the former member is slow: %v; the present one: %v", slow, p.third())
	}
}
