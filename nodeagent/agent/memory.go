package agent

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// workingSet is memory of a process beside its cache, in bytes: buffers of peers and doors, maps of volumes, and garbage.
const workingSet = 512 << 20

// SetMemory sets a soft limit to the memory of this process, above the cache of an agent with this configuration. GOMEMLIMIT, if set, wins.
// Collections are as frequent as Go has them: twice as many cost a twentieth of the CPU of large writes, and saved 55 of 395 MiB.
// A main calls it once.
func SetMemory(c Config) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(max(c.WithDefaults().CacheBytes, 0)*2 + workingSet)
	}
}

const (
	backEvery = 30 * time.Second // how often it is looked whether memory can be given back
	backQuiet = 16 << 20         // bytes allocated in that time by a process that has little to do
	backWorth = 32 << 20         // bytes beyond what was left the last time that are worth a collection
)

// giver decides when memory that a load has left behind goes back to the kernel. Times are the caller's.
type giver struct {
	allocated uint64 // bytes, ever, at the last look
	left      uint64 // bytes resident after memory was last given back
}

// due tells whether to give back now.
func (g *giver) due(allocated, resident uint64) bool {
	quiet := allocated-g.allocated < backQuiet
	g.allocated = allocated
	return quiet && resident > g.left+backWorth
}

// GiveBack returns memory to the kernel when a load is over, until the context ends: Go itself collects garbage only when more is
// allocated, or after minutes. A main starts it.
func GiveBack(ctx context.Context) {
	t := time.NewTicker(backEvery)
	defer t.Stop()
	var g giver
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if g.due(memoryNow()) {
			giveBack()
			_, g.left = memoryNow()
		}
	}
}

// giveBack collects twice, as what a pool holds lives through one collection.
func giveBack() {
	runtime.GC()
	debug.FreeOSMemory()
}

// memoryNow is how many bytes Go has allocated ever, and how many it keeps from the kernel now.
func memoryNow() (allocated, resident uint64) {
	s := [...]metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s[:])
	return s[0].Value.Uint64(), s[1].Value.Uint64() - s[2].Value.Uint64()
}
