//go:build vm

package device

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
)

// These tests take a kernel with ublk_drv: make test-vm runs them in a virtual machine.

// A device is one of ublk where the kernel has it, without a demand; one that is made by a mounter of another process is not.
func TestUblkIsChosen(t *testing.T) {
	t.Setenv(testTransport, "")
	if d, _ := open(t, exporttest.Volume(t, mib), Options{}); d.transport != Ublk {
		t.Errorf("with a mounter here it is %s: %s", d.transport, d.reason)
	}
	if d, _ := open(t, exporttest.Volume(t, mib), Options{Mounter: served(t, t.TempDir())}); d.transport == Ublk {
		t.Error("with a mounter elsewhere it is one of ublk")
	}
}

// A device of a name is not made twice; what the holder does not know is no device, and is in nobody's way.
func TestUblkLeftovers(t *testing.T) {
	r := newRig(t)
	s := r.start("serve")
	h, err := holder.Dial(t.Context(), r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	o := Options{Mounter: r.mounter, Name: "vol", Keeper: h}
	o.Fuse.Transport = Ublk
	if _, err := Attach(t.Context(), exporttest.Volume(t, mib), o); !errors.Is(err, ErrMounted) {
		t.Errorf("a second attach of a live device: %v", err)
	}
	if err := SweepUblk(t.Context(), r.mounter, nil, false); err != nil {
		t.Fatal(err)
	}
	d := r.disk(s.path)
	if _, err := d.WriteAt(page('a'), 0); err != nil {
		t.Errorf("a sweep has ended a live device: %v", err)
	}
	s.kill()
	done := writeLater(d, 'b', 0)
	if err := SweepUblk(t.Context(), r.mounter, []string{"vol"}, false); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		t.Errorf("a sweep has ended a device that the holder keeps: %v", err)
	case <-time.After(100 * time.Millisecond): // it still waits
	}
	r.stop() // the holder is gone, too
	err = nil
	for waits := true; waits; { // the kernel takes its time to see that the server is dead
		if err := SweepUblk(t.Context(), r.mounter, nil, false); err != nil {
			t.Fatal(err)
		}
		select {
		case err = <-done:
			waits = false
		case <-time.After(10 * time.Millisecond):
		}
	}
	if !errors.Is(err, unix.EIO) && !errors.Is(err, unix.ENODEV) {
		t.Errorf("what waited for a device that nobody can go on with ended with %v", err)
	}
	_ = d.Close()
	again, _ := open(t, exporttest.Volume(t, mib), Options{Mounter: r.mounter})
	if again.transport != Ublk {
		t.Errorf("the next device is %s", again.transport)
	}
}

// With an I/O scheduler requests come again under other tags: nothing that was acknowledged is lost then, either, and nothing hangs.
func TestUblkScheduled(t *testing.T) {
	r := newRig(t)
	s := r.start("serve")
	scheduler := filepath.Join("/sys/block", filepath.Base(s.path), "queue", "scheduler")
	if err := os.WriteFile(scheduler, []byte("mq-deadline"), 0); err != nil {
		t.Fatal(err)
	}
	const writers, rounds = 8, 60
	d := r.disk(s.path)
	done := later(func() error {
		var wg sync.WaitGroup
		errs := make([]error, writers)
		for w := range writers {
			wg.Go(func() {
				for i := range rounds {
					if _, err := d.WriteAt(page(byte(i)), int64(w*rounds+i)*4096); err != nil {
						errs[w] = err
						return
					}
					if _, err := d.WriteAt(page(byte(i+1)), int64(w*rounds)*4096); err != nil { // again and again
						errs[w] = err
						return
					}
				}
			})
		}
		wg.Wait()
		return errors.Join(errs...)
	})
	s, kills := r.killOften(s, 60, done)
	if kills < 3 {
		t.Errorf("the server was killed only %d times", kills)
	}
	for w := range writers {
		for i := 1; i < rounds; i++ {
			if got := readByte(t, d, int64(w*rounds+i)*4096); got != byte(i) {
				t.Errorf("writer %d, block %d: %d", w, i, got)
			}
		}
		if got := readByte(t, d, int64(w*rounds)*4096); got != rounds {
			t.Errorf("writer %d: its first block has %d, written last was %d", w, got, rounds)
		}
	}
	if b, err := os.ReadFile(scheduler); err != nil || !strings.Contains(string(b), "[mq-deadline]") {
		t.Errorf("the scheduler is %s, %v", b, err)
	}
	_ = d.Close()
	s.end(t)
}
