package main

import (
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/disk"
)

// TestHangOften: what is drawn are reads of pages that reach the disk.
func TestHangOften(t *testing.T) {
	drawn, slept := []float64{0.5, 0.009}, time.Duration(0)
	p := oftenPlan(func() float64 { d := drawn[0]; drawn = drawn[1:]; return d }, func(d time.Duration) { slept += d })
	for i, op := range []disk.Op{{Kind: disk.OpRead, Name: "a.dat", Now: true}, {Kind: disk.OpRead, Name: "a.log"}, {Kind: disk.OpWrite, Name: "a.dat"}, {Kind: disk.OpRead, Name: "a.dat"}, {Kind: disk.OpRead, Name: "a.dat"}} {
		if f := p(op); (f.Wait != nil) != (i == 4) {
			t.Errorf("%d: hangs %t", i, f.Wait != nil)
		} else if f.Wait != nil {
			f.Wait()
		}
	}
	if slept != shortHang || len(drawn) != 0 {
		t.Errorf("hangs took %v, %d were not drawn", slept, len(drawn))
	}
}

// TestHangOnce: nothing is answered from when it begins until it ends, but for what is in memory.
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
	if now = time.Minute + longAfter; p(disk.Op{Kind: disk.OpRead, Now: true}).Wait != nil {
		t.Error("what is in memory waits for the disk")
	}
}
