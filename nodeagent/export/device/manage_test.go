package device

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
	"mynetwork.io/mynetwork/nodeagent/export/loop"
	"mynetwork.io/mynetwork/nodeagent/export/mounter"
)

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// noTrace requires that nothing of a device is left.
func noTrace(t *testing.T, dir, name, path string) {
	t.Helper()
	if left, err := mounter.New(dir).List(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	if exists(filepath.Join(dir, name)) {
		t.Error("the mount's directory is left")
	}
	if path != "" {
		if f, err := loop.File(path); err != nil || filepath.Dir(filepath.Dir(f)) == dir {
			t.Errorf("%s is still bound to %q, %v", path, f, err)
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) { transports(t, closeLeavesNothing) }

func closeLeavesNothing(t *testing.T, o fuse.Options) {
	dir := t.TempDir()
	d, disk := open(t, exporttest.Volume(t, mib), Options{Mounter: mounter.New(dir), Fuse: o})
	_ = disk.Close()
	if _, err := Attach(t.Context(), exporttest.Volume(t, mib), Options{Mounter: mounter.New(dir), Name: "vol"}); !errors.Is(err, ErrMounted) {
		t.Errorf("a second attach at the same place: %v", err)
	}
	for range 2 {
		if err := d.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	<-d.Done()
	if err := d.Err(); err != nil {
		t.Errorf("after Close: %v", err)
	}
	noTrace(t, dir, "vol", d.Path())
}

// A mounted device is not closed, and works on.
func TestCloseOfMounted(t *testing.T) {
	d, disk := open(t, exporttest.Volume(t, 16*mib), Options{})
	_ = disk.Close()
	if err := run("mkfs.ext4", "-q", d.Path()); err != nil {
		t.Fatal(err)
	}
	mnt := t.TempDir()
	if err := unix.Mount(d.Path(), mnt, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	err := d.Close(t.Context())
	werr := os.WriteFile(filepath.Join(mnt, "f"), []byte("x"), 0o600)
	if uerr := unix.Unmount(mnt, 0); uerr != nil {
		t.Fatal(uerr)
	}
	if !errors.Is(err, export.ErrBusy) {
		t.Errorf("close while mounted: %v", err)
	}
	if werr != nil {
		t.Errorf("write after a refused close: %v", werr)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Who merely has the device open is waited for, as long as the context lasts.
func TestCloseOfOpen(t *testing.T) {
	d, disk := open(t, exporttest.Volume(t, mib), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Close(ctx); !errors.Is(err, export.ErrBusy) {
		t.Errorf("close while open: %v", err)
	}
	_ = disk.Close()
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAttachRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Attach(t.Context(), odd{}, Options{Mounter: mounter.New(dir), Name: "vol"}); !errors.Is(err, export.ErrSize) {
		t.Errorf("an odd size: %v", err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "/", ".hidden"} {
		if _, err := Attach(t.Context(), exporttest.Volume(t, mib), Options{Mounter: mounter.New(dir), Name: name}); !errors.Is(err, ErrName) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	noTrace(t, dir, "vol", "")
}

// odd is a volume of a size that no device can have.
type odd struct{ export.Backend }

func (odd) Size() int64 { return mib + 512 }

// A holder that refuses leaves no device behind.
func TestAttachUndone(t *testing.T) {
	dir := t.TempDir()
	_, err := Attach(t.Context(), exporttest.Volume(t, mib), Options{Mounter: mounter.New(dir), Name: "vol", Keeper: refuser{}})
	if !errors.Is(err, holder.ErrLimit) {
		t.Errorf("got %v", err)
	}
	noTrace(t, dir, "vol", "")
}

type refuser struct{ Keeper }

func (refuser) Put(context.Context, *holder.Entry) error { return holder.ErrLimit }

// A mount that was left by a process that died before its device was made is in nobody's way, if there is a holder to tell.
func TestAttachOverLeftover(t *testing.T) {
	r := newRig(t)
	h, err := holder.Dial(t.Context(), r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	left, err := r.mounter.Mount(t.Context(), "vol")
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(left.FD)
	if _, err := Attach(t.Context(), exporttest.Volume(t, mib), Options{Mounter: r.mounter, Name: "vol"}); !errors.Is(err, ErrMounted) {
		t.Errorf("without a holder: %v", err)
	}
	m := exporttest.Volume(t, mib)
	o := Options{Mounter: r.mounter, Name: "vol", Keeper: h, Memory: []int{m.FD()}}
	d, disk := open(t, m, o)
	if _, err := Attach(t.Context(), m, o); !errors.Is(err, ErrMounted) { // the control: this one is kept
		t.Errorf("over a device that is kept: %v", err)
	}
	if _, err := disk.WriteAt(page('x'), 0); err != nil {
		t.Error(err)
	}
	_ = disk.Close()
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// An abort frees everyone who waits for a volume that does not answer.
func TestAbort(t *testing.T) { transports(t, abort) }

func abort(t *testing.T, o fuse.Options) {
	m := exporttest.Volume(t, mib)
	dir := t.TempDir()
	d, disk := open(t, m, Options{Mounter: mounter.New(dir), Fuse: o})
	release, held := make(chan struct{}), make(chan struct{}, 8)
	m.SetHook(func(op exporttest.Op, _, _ int64) error {
		held <- struct{}{}
		<-release
		return nil
	})
	write := writeLater(disk, 'x', 0)
	<-held
	if err := d.Abort(); err != nil {
		t.Fatal(err)
	}
	if err := <-write; !errors.Is(err, unix.EIO) {
		t.Errorf("the write ended with %v", err)
	}
	after := unix.EIO
	if o.Transport == Ublk {
		after = unix.ENOSPC // the kernel has taken the disk away: it has no bytes
	}
	if _, err := disk.WriteAt(page('x'), 0); !errors.Is(err, after) {
		t.Errorf("a write after the abort ended with %v", err)
	}
	_ = disk.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := d.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close while the volume has a request: %v", err)
	}
	close(release)
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
	noTrace(t, dir, "vol", d.Path())
}

// A device that somebody else ends tells so.
func TestGone(t *testing.T) { transports(t, gone) }

func gone(t *testing.T, o fuse.Options) {
	d, disk := open(t, exporttest.Volume(t, mib), Options{Fuse: o})
	_ = disk.Close()
	if err := d.Err(); err != nil {
		t.Errorf("before the end: %v", err)
	}
	if err := d.Abort(); err != nil {
		t.Fatal(err)
	}
	<-d.Done()
	if err := d.Err(); !errors.Is(err, export.ErrGone) {
		t.Errorf("after the end: %v", err)
	}
}

// A write with FUA is a flush of the backend before it is answered, and a plain one is not.
func TestFUA(t *testing.T) { transports(t, fua) }

func fua(t *testing.T, o fuse.Options) {
	m := exporttest.Volume(t, mib)
	d, disk := open(t, m, Options{Fuse: o})
	was := m.Count(exporttest.OpFlush) // binding the loop device syncs its file
	if _, err := disk.WriteAt(page('x'), 0); err != nil || m.Count(exporttest.OpFlush) != was {
		t.Fatalf("a plain write: %v, %d flushes", err, m.Count(exporttest.OpFlush))
	}
	f, err := os.OpenFile(d.Path(), os.O_WRONLY|unix.O_DIRECT|unix.O_DSYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(page('y'), 0); err != nil || m.Count(exporttest.OpFlush) == was {
		t.Errorf("a write with O_DSYNC: %v, %d flushes", err, m.Count(exporttest.OpFlush))
	}
}

func mountedFile(t *testing.T, path string) string {
	t.Helper()
	f, err := loop.File(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func leftovers(r *rig) (names []string, err error) {
	left, err := r.mounter.List(r.tb.Context())
	for _, f := range left {
		names = append(names, f.Name)
	}
	return names, err
}

// Cleanup removes what a killed server left, and nothing of anybody else.
func TestCleanup(t *testing.T) {
	for _, mode := range []string{"serve", "no-holder"} {
		t.Run(mode, func(t *testing.T) {
			r := newRig(t)
			_, other := open(t, exporttest.Volume(t, mib), Options{Mounter: r.mounter, Name: "other"})
			_, foreign := open(t, exporttest.Volume(t, mib), Options{})
			s := r.start(mode)
			ctx := t.Context()
			h, err := holder.Dial(ctx, r.socket)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			if mode == "serve" {
				if err := Cleanup(ctx, h, r.mounter, "vol"); !errors.Is(err, holder.ErrOwned) {
					t.Errorf("cleanup of a live device: %v", err)
				}
			}
			s.kill()
			if names, err := leftovers(r); err != nil || !slices.Equal(names, []string{"other", "vol"}) {
				t.Errorf("left over: %v, %v", names, err)
			}
			for errors.Is(Cleanup(ctx, h, r.mounter, "vol"), holder.ErrOwned) { // until the holder has noticed the kill
			}
			if err := Cleanup(ctx, h, r.mounter, "vol"); err != nil {
				t.Errorf("again: %v", err)
			}
			if names, err := leftovers(r); err != nil || !slices.Equal(names, []string{"other"}) {
				t.Errorf("left over: %v, %v", names, err)
			}
			if f := mountedFile(t, s.path); filepath.Dir(f) == filepath.Join(r.dir, "vol") {
				t.Error("the loop device is still bound")
			}
			for _, d := range []*exporttest.BlockDevice{other, foreign} {
				if _, err := d.WriteAt(page('o'), 0); err != nil {
					t.Errorf("another device suffered: %v", err)
				}
			}
			s = r.start("serve") // the place is free
			s.end(t)
		})
	}
}

// Sweep ends what was left by a server that died with its holder, and nothing that is kept, or was made since it was listed.
func TestSweep(t *testing.T) {
	r := newRig(t)
	_, kept := open(t, exporttest.Volume(t, mib), Options{Mounter: r.mounter, Name: "kept"})
	s := r.start("no-holder")
	ctx := t.Context()
	found, err := r.mounter.List(ctx)
	if err != nil || len(found) != 2 {
		t.Fatalf("found %v, %v", found, err)
	}
	s.kill()
	_, made := open(t, exporttest.Volume(t, mib), Options{Mounter: r.mounter, Name: "made"})
	stale := slices.Clone(found)
	stale = append(stale, mounter.Found{Name: "made", Conn: found[0].Conn}) // as if it had been there before under the same name
	ended, err := Sweep(ctx, r.mounter, stale, []string{"kept"})
	if err != nil || !slices.Equal(ended, []string{"vol"}) {
		t.Errorf("ended %v, %v", ended, err)
	}
	if names, err := leftovers(r); err != nil || !slices.Equal(names, []string{"kept", "made"}) {
		t.Errorf("left over: %v, %v", names, err)
	}
	for _, d := range []*exporttest.BlockDevice{kept, made} {
		if _, err := d.WriteAt(page('o'), 0); err != nil {
			t.Errorf("another device suffered: %v", err)
		}
	}
	_ = kept.Close()
	if ended, err := Sweep(ctx, r.mounter, found, nil); err != nil || !slices.Equal(ended, []string{"kept"}) { // the control: what nobody keeps goes
		t.Errorf("ended %v, %v", ended, err)
	}
}

// A device whose holder ended goes on, and is given to the next holder, which keeps it as the first did.
func TestHolderReplaced(t *testing.T) {
	first, second := newRig(t), newRig(t)
	ctx := t.Context()
	dial := func(r *rig) *holder.Client {
		h, err := holder.Dial(ctx, r.socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.Close() })
		return h
	}
	h1, lost, h2 := dial(first), dial(second), dial(second)
	m := exporttest.Volume(t, mib)
	d, disk := open(t, m, Options{Keeper: h1, Memory: []int{m.FD()}, Meta: []byte("mine")})
	first.stop()
	if _, err := disk.WriteAt(page('x'), 0); err != nil {
		t.Errorf("without a holder: %v", err)
	}
	if err := d.Keep(ctx, lost); err != nil {
		t.Fatal(err)
	}
	_ = lost.Close() // the connection only
	if err := d.Keep(ctx, h2); err != nil {
		t.Fatal(err)
	}
	devices, memories := 1, 1
	if os.Getenv(testTransport) == string(Ublk) {
		devices, memories = 0, 2 // the kernel keeps it, and the table is to be kept
	}
	if e, err := h2.Get(ctx, "vol"); err != nil || len(e.Device) != devices || len(e.Memory) != memories {
		t.Errorf("the second holder has %+v, %v", e, err)
	} else {
		e.Close()
	}
}

// The serving threads are marked for memory reclaim where that is allowed, and the device tells where it is not.
func TestIOFlusher(t *testing.T) {
	d, _ := open(t, exporttest.Volume(t, mib), Options{})
	flag, _, errno := unix.Syscall6(unix.SYS_PRCTL, unix.PR_GET_IO_FLUSHER, 0, 0, 0, 0, 0)
	if allowed := errno == 0; allowed != (d.IOFlusher() == nil) {
		t.Errorf("this process may mark threads: %v (%d); the device says %v", allowed, flag, d.IOFlusher())
	}
	t.Log("PR_SET_IO_FLUSHER: ", d.IOFlusher())
}

// The transport is chosen by what must survive first, and by speed then.
func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name    string
		kept    bool
		offered error
		want    fuse.Transport
	}{
		{"kept", true, nil, fuse.DevFuse}, // whatever the kernel offers
		{"kept, not offered", true, fuse.ErrNoUring, fuse.DevFuse},
		{"not kept", false, nil, fuse.Uring},
		{"not kept, not offered", false, fuse.ErrNoUring, fuse.DevFuse},
	} {
		if got, why := choose(c.kept, c.offered); got != c.want || why == "" {
			t.Errorf("%s: %s, %q", c.name, got, why)
		}
	}
}

// Without a demand a device takes what the kernel offers; with one it takes that or fails, and leaves nothing.
func TestTransport(t *testing.T) {
	t.Run("as it is", func(t *testing.T) {
		exporttest.LockUring(t)
		offered := fuse.OffersUring()
		d, _ := open(t, exporttest.Volume(t, mib), Options{})
		if got, why := d.Transport(); (got == fuse.Uring) != (offered == nil) {
			t.Errorf("a device uses %s (%s), the kernel says %v", got, why, offered)
		}
		if offered == nil {
			return
		}
		dir := t.TempDir()
		_, err := Attach(t.Context(), exporttest.Volume(t, mib), Options{Mounter: mounter.New(dir), Name: "vol", Fuse: fuse.Options{Transport: fuse.Uring}})
		if !errors.Is(err, fuse.ErrNoUring) {
			t.Errorf("a demand that cannot be met: %v", err)
		}
		noTrace(t, dir, "vol", "")
	})
	t.Run("on", func(t *testing.T) {
		exporttest.NeedUring(t)
		if d, _ := open(t, exporttest.Volume(t, mib), Options{}); d.transport != fuse.Uring {
			t.Errorf("with io_uring on a device uses %s: %s", d.transport, d.reason)
		}
	})
}
