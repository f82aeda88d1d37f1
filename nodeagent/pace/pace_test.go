package pace

import (
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/task"
)

// clock is an environment whose time the test says.
type clock struct {
	*task.Real
	now time.Duration
}

func (c *clock) Now() time.Duration { return c.now }

func TestReserve(t *testing.T) {
	c := &clock{task.NewReal(), time.Minute}
	b := New(c, 100)
	for i, want := range []time.Duration{0, 0, time.Second, 2 * time.Second} { // a second's worth was saved up, no more
		if got := b.Reserve(100); got != want {
			t.Errorf("turn %d waits %v, want %v", i, got, want)
		}
	}
	b.SetRate(200)
	if got := b.Reserve(100); got != 3*time.Second {
		t.Errorf("turns that were given are kept: %v", got)
	}
	if got := b.Reserve(100); got != 3500*time.Millisecond {
		t.Errorf("at twice the rate: %v", got)
	}
	c.now += 3 * time.Second
	if got := b.Reserve(1); got != time.Second {
		t.Errorf("after three seconds: %v", got)
	}
}

func TestNoLimit(t *testing.T) {
	var none *Budget
	for _, b := range []*Budget{none, New(task.NewReal(), 0)} {
		if b.Reserve(1<<40) != 0 || b.Reserve(1) != 0 || b.Rate() != 0 {
			t.Error("a budget without a limit waits")
		}
	}
}

// TestMakingWay: a budget that makes way holds to its rate beside writes and for a while after them, and else not. Control: one that does not make way.
func TestMakingWay(t *testing.T) {
	c := &clock{task.NewReal(), time.Minute}
	shy, plain := MakingWay(c, 100), New(c, 100)
	turns := func(b *Budget) (last time.Duration) {
		for range 5 {
			last = b.Reserve(100)
		}
		return last
	}
	if got := turns(shy); got != 0 {
		t.Errorf("nobody writes, and a turn waits %v", got)
	}
	if got := turns(plain); got != 3*time.Second {
		t.Errorf("control: %v", got)
	}
	shy.Wrote()
	if got := turns(shy); got != 4*time.Second {
		t.Errorf("beside writes a turn waits %v", got)
	}
	c.now += Rest - 1
	if got := turns(shy); got <= 4*time.Second {
		t.Errorf("just after a write a turn waits %v", got)
	}
	c.now++
	if got := turns(shy); got != 0 {
		t.Errorf("a while after a write a turn waits %v", got)
	}
	var none *Budget
	none.Wrote()
}
