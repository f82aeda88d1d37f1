//go:build vm

package ublk

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
)

// These tests take a kernel with ublk_drv: make test-vm runs them in a virtual machine.

// open attaches b and opens the block device.
func open(tb testing.TB, b export.Backend) (*Device, *exporttest.BlockDevice) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 60*time.Second)
	tb.Cleanup(cancel)
	d, err := Attach(ctx, b, Options{Name: tb.Name(), Keep: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := d.Close(ctx); err != nil {
			tb.Errorf("close: %v", err)
			_ = Remove(ctx, tb.Name())
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
		Open:   func(tb testing.TB, b export.Backend) (export.Device, exporttest.Disk) { return open(tb, b) },
		Errnos: true,
	})
}

func TestAvailable(t *testing.T) {
	if err := Available(); err != nil {
		t.Fatal(err)
	}
}

// A FUA write is durable before its answer, and fails if it cannot be made so.
func TestFUA(t *testing.T) {
	m := exporttest.Volume(t, 32*mib)
	d, _ := open(t, m)
	f, err := os.OpenFile(d.Path(), os.O_WRONLY|unix.O_DIRECT|unix.O_DSYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := exporttest.Aligned(export.BlockSize)
	was := m.Count(exporttest.OpFlush)
	if _, err := f.WriteAt(p, 0); err != nil {
		t.Fatal(err)
	}
	if m.Count(exporttest.OpFlush) == was {
		t.Error("a FUA write did not reach the backend")
	}
	m.SetHook(func(op exporttest.Op, _, _ int64) error {
		if op == exporttest.OpFlush {
			return errors.New("no quorum")
		}
		return nil
	})
	if _, err := f.WriteAt(p, 0); !errors.Is(err, unix.EIO) {
		t.Errorf("a FUA write whose flush fails: %v", err)
	}
	m.SetHook(nil)
}
