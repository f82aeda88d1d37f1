package device

import (
	"context"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
)

// open attaches b as name and opens the loop device.
func open(tb testing.TB, b export.Backend, o Options) (*Device, *exporttest.BlockDevice) {
	tb.Helper()
	if o.Dir == "" {
		o.Dir = tb.TempDir()
	}
	if o.Name == "" {
		o.Name = "vol"
	}
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	tb.Cleanup(cancel)
	d, err := Attach(ctx, b, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := d.Close(ctx); err != nil {
			tb.Errorf("close: %v", err)
			_ = Cleanup(ctx, nil, o.Dir, o.Name)
		}
	})
	disk, err := exporttest.OpenBlockDevice(d.Path())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = disk.Close() })
	return d, disk
}

func TestSuite(t *testing.T) {
	exporttest.Run(t, exporttest.Front{
		Open: func(tb testing.TB, b export.Backend) (export.Device, exporttest.Disk) {
			return open(tb, b, Options{})
		},
		SerialFlush: true,
	})
}
