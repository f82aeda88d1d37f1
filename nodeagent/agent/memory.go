package agent

import (
	"os"
	"runtime/debug"
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
