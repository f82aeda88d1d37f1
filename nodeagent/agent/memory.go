package agent

import (
	"os"
	"runtime/debug"
)

// Memory of a process, beside its cache, in bytes: buffers of peers and doors, maps of volumes, and garbage.
const (
	workingSet = 512 << 20
	gcPercent  = 50 // pages die young and are large: collect before the heap doubles
)

// SetMemory tunes the garbage collector of this process for an agent with this configuration: a soft limit above the
// cache, and earlier collections below it. GOMEMLIMIT and GOGC, if set, win. A main calls it once.
func SetMemory(c Config) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(max(c.WithDefaults().CacheBytes, 0)*2 + workingSet)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
