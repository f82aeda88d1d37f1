package device

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/mounter"
	"mynetwork.io/mynetwork/nodeagent/export/socket"
)

// open attaches b as name and opens the loop device.
func open(tb testing.TB, b export.Backend, o Options) (*Device, *exporttest.BlockDevice) {
	tb.Helper()
	if o.Mounter == nil {
		o.Mounter = mounter.New(tb.TempDir())
	}
	if o.Name == "" {
		o.Name = "vol"
	}
	if o.Fuse.Transport == "" {
		o.Fuse.Transport = fuse.Transport(os.Getenv(testTransport))
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
			_ = Cleanup(ctx, nil, o.Mounter, o.Name)
		}
	})
	disk, err := exporttest.OpenBlockDevice(d.Path())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = disk.Close() })
	return d, disk
}

// kinds runs f with each way to a mounter: in this process, and over a socket.
func kinds(t *testing.T, f func(t *testing.T, make func(tb testing.TB, dir string) Mounter)) {
	t.Run("local", func(t *testing.T) { f(t, func(_ testing.TB, dir string) Mounter { return mounter.New(dir) }) })
	t.Run("socket", func(t *testing.T) { f(t, served) })
}

// transports runs f with each way between kernel and server.
func transports(t *testing.T, f func(t *testing.T, o fuse.Options)) {
	list := []fuse.Transport{fuse.DevFuse, fuse.Uring}
	if only := os.Getenv(testTransport); only != "" {
		list = []fuse.Transport{fuse.Transport(only)}
	}
	for _, tr := range list {
		t.Run(string(tr), func(t *testing.T) {
			if tr == fuse.Uring {
				exporttest.NeedUring(t)
			}
			f(t, fuse.Options{Transport: tr})
		})
	}
}

// served serves a mounter of dir for as long as the test, and gives a client.
func served(tb testing.TB, dir string) Mounter {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "m")
	ln, err := socket.ListenFor(path, os.Getegid())
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s, err := mounter.NewServer(mounter.ServerOptions{Mounter: mounter.New(dir), Listener: ln})
	if err != nil {
		tb.Fatal(err)
	}
	go func() { done <- s.Serve(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	c, err := mounter.Dial(path)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestSuite(t *testing.T) {
	kinds(t, func(t *testing.T, make func(tb testing.TB, dir string) Mounter) {
		transports(t, func(t *testing.T, o fuse.Options) {
			exporttest.Run(t, exporttest.Front{
				Open: func(tb testing.TB, b export.Backend) (export.Device, exporttest.Disk) {
					d, disk := open(tb, b, Options{Mounter: make(tb, tb.TempDir()), Fuse: o})
					if got, why := d.Transport(); got != o.Transport {
						tb.Fatalf("the device uses %s: %s", got, why)
					}
					return d, disk
				},
				SerialFlush: true,
			})
		})
	})
}
