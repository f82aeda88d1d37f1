package stores

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/disk"
)

// TestDiskHangs: a disk that does not say how much room it has keeps no answer about its store back, and that it is silent is told.
func TestDiskHangs(t *testing.T) {
	n := newNode(t)
	var hangs atomic.Bool
	entered, release := make(chan struct{}), make(chan struct{})
	n.opts.Stores[0].Wrap = func(d disk.FS) disk.FS {
		return disk.NewFaults(d, func(op disk.Op) disk.Fault {
			if op.Kind != disk.OpUsage || !hangs.Load() {
				return disk.Fault{}
			}
			return disk.Fault{Wait: func() { entered <- struct{}{}; <-release }}
		})
	}
	s := n.open()
	must(t, s.Grant(want(t, s, New)))
	if st := s.All()[0]; st.Silence(time.Now().Add(time.Hour)) != "" {
		t.Error("a disk of which nothing is asked is silent")
	}
	hangs.Store(true)
	<-entered // by the task that measures
	hangs.Store(false)
	for range 3 {
		if a := s.Announce(); len(a) != 1 || a[0].Capacity == 0 || a[0].Used == 0 || a[0].Quarantined {
			t.Errorf("announced: %+v", a)
		}
		if st := s.Statuses(); len(st) != 1 || st[0].State == Quarantined || st[0].Capacity == 0 {
			t.Errorf("told: %+v", st)
		}
	}
	st := s.All()[0]
	if text := st.Silence(time.Now().Add(patience)); !strings.Contains(text, "the disk does not answer since 20") {
		t.Errorf("told of a disk that hangs: %q", text)
	}
	before, err := st.Usage()
	must(t, err)
	close(release)
	must(t, s.Close())
	if text := st.Silence(time.Now().Add(time.Hour)); text != "" || before.Used == 0 {
		t.Errorf("told of a disk that answers: %q", text)
	}
}
