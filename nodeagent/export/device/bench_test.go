package device

import (
	"os"
	"strconv"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
)

// BenchmarkFio measures the loop device; EXPORT_READERS sets the number of reader threads. See exporttest.Bench.
func BenchmarkFio(b *testing.B) {
	readers, _ := strconv.Atoi(os.Getenv("EXPORT_READERS"))
	entries, _ := strconv.Atoi(os.Getenv("EXPORT_ENTRIES"))
	exporttest.Bench(b, func(b *testing.B, m *exporttest.Memory) []string {
		d, disk := open(b, m, Options{Fuse: fuse.Options{Readers: readers, Entries: entries, Transport: fuse.Transport(os.Getenv("EXPORT_TRANSPORT"))}})
		_ = disk.Close()
		return []string{"--ioengine=libaio", "--direct=1", "--filename=" + d.Path()}
	})
}
