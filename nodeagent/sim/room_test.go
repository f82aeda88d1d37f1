package sim

import (
	"fmt"
	"strings"
	"testing"
)

// TestLittleRoom: where others leave users little or nothing of each disk, requests are answered, volumes open, and all converges once there is room. Seed 25 with 8 MiB had
// volumes that did not open, as what a recovery had chosen found no room; seed 53 with 10 MiB a task that woke itself.
func TestLittleRoom(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	formats := &Formats{}
	coverage := make(map[[2]string]int)
	for _, c := range [][2]uint64{{25, 8}, {53, 10}, {1, 8}, {2, 10}, {3, 12}, {4, 16}, {5, 8}, {6, 10}, {7, 12}, {8, 16}, {9, 8}, {10, 10}} {
		cfg := Shape(c[0])
		cfg.Formats, cfg.Left = formats, int64(c[1])<<20
		r := Run(c[0], cfg)
		if r.Failure != nil {
			t.Errorf("seed %d, with %d MiB left for users: %+v", c[0], c[1], r.Failure)
		}
		for k, n := range r.Coverage {
			coverage[k] += n
		}
	}
	for _, k := range [][2]string{{"little room", "left for users"}, {"little room", "none left for users"}, {"ENOSPC", "write"}} {
		if coverage[k] == 0 {
			t.Errorf("never seen: %s, %s", k[0], k[1])
		}
	}
}

// TestNoRest: a run with a task that waits for nothing ends, and says so. The control: one that waits for time to pass does not.
func TestNoRest(t *testing.T) {
	for pause, fails := range map[string]bool{"none": true, "now and then": false} {
		s := newSched(1)
		p := &proc{s: s}
		turns := 0
		s.spawn(p, "loop", func() {
			for g := p.NewSignal(); turns < 3*busySteps; turns++ {
				g.Notify()
				g.Wait()
				if !fails && turns%1000 == 0 {
					p.Sleep(busyTime)
				}
			}
		})
		s.run(func() bool { return false })
		if found := fmt.Sprint(s.panics); strings.Contains(found, "does not come to rest") != fails {
			t.Errorf("pause %s: %d turns, %.200s", pause, turns, found)
		}
	}
}
