package main

import (
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/disk"
)

// TestHangOften: a read that is drawn to hang is declined where it must not wait, as often as that is asked, and hangs whoever waits, once.
func TestHangOften(t *testing.T) {
	drawn, slept := []float64{0.5, 0.009, 0.5}, time.Duration(0)
	p := oftenPlan(func() float64 { d := drawn[0]; drawn = drawn[1:]; return d }, func(d time.Duration) { slept += d })
	for i, op := range []struct {
		off   int64
		name  string
		now   bool
		hangs bool
	}{
		{0, "a.dat", true, false}, {0, "a.dat", false, false}, {4096, "a.dat", true, true}, {4096, "a.dat", true, true}, {0, "a.dat", false, false}, {4096, "b.dat", false, false}, {4096, "a.dat", false, true},
		{4096, "a.dat", false, false}, {0, "a.log", true, false}, {4096, "a.dat", true, false},
	} {
		f := p(disk.Op{Kind: disk.OpRead, Name: op.name, Off: op.off, Now: op.now})
		if got := f.Wait != nil; got != op.hangs {
			t.Errorf("%d: hangs %t", i, got)
		} else if got {
			f.Wait()
		}
	}
	if p(disk.Op{Kind: disk.OpWrite, Name: "a.dat"}).Wait != nil || slept != 3*shortHang {
		t.Errorf("a write hangs, or hangs took %v", slept)
	}
}

// TestHangOnce: nothing is answered from when it begins until it ends.
func TestHangOnce(t *testing.T) {
	now, slept := time.Minute, time.Duration(0)
	p := oncePlan(func() time.Duration { return now }, func(d time.Duration) { slept = d })
	for _, x := range []struct{ after, sleeps time.Duration }{{0, 0}, {longAfter, longHang}, {longAfter + longHang - 1, 1}, {longAfter + longHang, 0}} {
		now, slept = time.Minute+x.after, 0
		if f := p(disk.Op{Kind: disk.OpSync}); f.Wait != nil {
			f.Wait()
		}
		if slept != x.sleeps {
			t.Errorf("%v after: %v", x.after, slept)
		}
	}
}
