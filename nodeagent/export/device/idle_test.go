package device

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
)

// rss is this process's resident memory in KiB, without shared memory.
func rss(tb testing.TB) (kib int) {
	tb.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if n, err := fmt.Sscanf(line, "RssAnon: %d kB", &kib); n == 1 && err == nil {
			return kib
		}
	}
	tb.Fatal("no RssAnon in /proc/self/status")
	return 0
}

// Only a failed test polls so often.
const (
	idlePolls = 200
	idlePoll  = 100 * time.Millisecond
)

// An attached volume costs the process at most 1 MiB, also after it was used.
func TestIdleMemory(t *testing.T) { transports(t, idleMemory) }

func idleMemory(t *testing.T, o fuse.Options) {
	const volumes = 8
	debug.FreeOSMemory()
	was := rss(t)
	for i := range volumes {
		_, disk := open(t, exporttest.Volume(t, mib), Options{Name: fmt.Sprint("vol", i), Fuse: o})
		p := exporttest.Aligned(mib)
		for range 16 {
			if _, err := disk.WriteAt(p, 0); err != nil {
				t.Fatal(err)
			}
			if _, err := disk.ReadAt(p, 0); err != nil {
				t.Fatal(err)
			}
		}
		_ = disk.Close()
	}
	per, tick := 0, time.NewTicker(idlePoll)
	defer tick.Stop()
	for range idlePolls { // a ring gives its pages back once it has had no work for a while
		debug.FreeOSMemory()
		if per = (rss(t) - was) / volumes; per <= 1024 {
			t.Logf("%d KiB for each volume", per)
			return
		}
		<-tick.C
	}
	t.Errorf("%d KiB for each volume", per)
}
