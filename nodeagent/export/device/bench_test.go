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

// roundTrips does one request of 4 KiB after the other on the loop device of a volume in memory: what a way through kernel, FUSE and server costs.
// Both ends are in this process.
func roundTrips(b *testing.B, do func(disk *exporttest.BlockDevice, page []byte, off int64) error) {
	const size = 64 << 20
	m, err := exporttest.NewMemory(size, size)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(m.Close) // after the device, which open closes
	_, disk := open(b, m, Options{})
	page := exporttest.Aligned(4096)
	b.ResetTimer()
	for i := range b.N {
		if err := do(disk, page, int64(i*7919)%(size/4096)*4096); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
}

func BenchmarkRead4K(b *testing.B) {
	roundTrips(b, func(d *exporttest.BlockDevice, page []byte, off int64) error {
		_, err := d.ReadAt(page, off)
		return err
	})
}

func BenchmarkWrite4K(b *testing.B) {
	roundTrips(b, func(d *exporttest.BlockDevice, page []byte, off int64) error {
		_, err := d.WriteAt(page, off)
		return err
	})
}

func BenchmarkFlush(b *testing.B) {
	roundTrips(b, func(d *exporttest.BlockDevice, page []byte, off int64) error {
		if _, err := d.WriteAt(page, off); err != nil {
			return err
		}
		return d.Flush()
	})
}
