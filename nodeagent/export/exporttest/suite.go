package exporttest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// Disk is a front end's device as its user sees it. Buffers are aligned to export.BlockSize.
type Disk interface {
	Size() (int64, error)
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Flush() error
	Discard(off, n int64) error
	Zero(off, n int64) error
	Close() error
}

// Front is one kind of front end under test.
type Front struct {
	// Open exports b and opens the device. Cleaning up is its own, through tb.
	Open func(tb testing.TB, b export.Backend) (export.Device, Disk)
	// Errnos tells that backend errors reach the user as they are, not as EIO.
	Errnos bool
	// SerialFlush tells that the kernel's side of the front end does nothing else while a flush runs: the loop driver has
	// one worker per cgroup, which waits for the fsync.
	SerialFlush bool
}

const (
	mib      = 1 << 20
	suiteVol = 32 * mib
	patience = 20 * time.Second // only a failed test waits so long
)

// Run checks a front end's promises.
func Run(t *testing.T, f Front) {
	cases := map[string]func(t *testing.T, f Front){
		"read what was written":              readWritten,
		"slow backend":                       slowBackend,
		"flush reaches the backend":          flushReaches,
		"failures are told":                  failures,
		"discard and zero":                   discardZero,
		"every write is answered once":       answered,
		"blocked reads hold nothing back":    blockedRead,
		"blocked writes hold no read back":   blockedWrite,
		"resize":                             resize,
		"ends of the volume":                 ends,
		"sizes that are refused to a resize": resizeRefused,
	}
	if !f.SerialFlush {
		cases["blocked flush holds no read back"] = blockedFlush
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { c(t, f) })
	}
}

func open(t *testing.T, f Front, m *Memory) (export.Device, Disk) {
	t.Helper()
	return f.Open(t, m)
}

// Volume makes a memory volume that lives as long as the test.
func Volume(tb testing.TB, size int64) *Memory {
	tb.Helper()
	m, err := NewMemory(size, 2*size)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(m.Close)
	return m
}

// randomWork writes and reads random ranges and compares with a model.
func randomWork(t *testing.T, d Disk, size int64, ops int) {
	t.Helper()
	const seed = 1
	rnd := rand.New(rand.NewPCG(seed, 0))
	model := make([]byte, size)
	buf := Aligned(3 * mib)
	for i := range ops {
		n := int64(1+rnd.IntN(16)) * export.BlockSize
		if i%8 == 0 || i%8 == 3 { // a long write, a long read
			n = int64(1+rnd.IntN(3*mib/export.BlockSize)) * export.BlockSize
		}
		off := rnd.Int64N((size-n)/export.BlockSize+1) * export.BlockSize
		p := buf[:n]
		if i%2 == 0 {
			for j := 0; j < len(p); j += 8 {
				binary.LittleEndian.PutUint64(p[j:], rnd.Uint64())
			}
			copy(model[off:], p)
			if _, err := d.WriteAt(p, off); err != nil {
				t.Fatalf("seed %d: write %d at %d: %v", seed, n, off, err)
			}
			continue
		}
		if _, err := d.ReadAt(p, off); err != nil {
			t.Fatalf("seed %d: read %d at %d: %v", seed, n, off, err)
		}
		if !bytes.Equal(p, model[off:off+n]) {
			t.Fatalf("seed %d: wrong bytes in %d at %d", seed, n, off)
		}
	}
}

func readWritten(t *testing.T, f Front) {
	_, d := open(t, f, Volume(t, suiteVol))
	randomWork(t, d, suiteVol, 200)
}

func slowBackend(t *testing.T, f Front) {
	m := Volume(t, suiteVol)
	_, d := open(t, f, m)
	m.SetSlow(true)
	randomWork(t, d, suiteVol, 200)
}

func flushReaches(t *testing.T, f Front) {
	m := Volume(t, suiteVol)
	_, d := open(t, f, m)
	for i := range int64(3) {
		was := m.Count(OpFlush)
		must(t, write(d, 'f', i*export.BlockSize))
		must(t, d.Flush())
		if m.Count(OpFlush) == was {
			t.Fatal("a completed flush did not reach the backend")
		}
	}
}

func failures(t *testing.T, f Front) {
	m := Volume(t, suiteVol)
	_, d := open(t, f, m)
	for _, c := range []struct {
		op   Op
		err  error
		want syscall.Errno
		do   func() error
	}{
		{OpRead, errors.New("no quorum"), syscall.EIO, func() error { return read(d, 0) }},
		{OpWrite, errors.New("no quorum"), syscall.EIO, func() error { return write(d, 'x', 0) }},
		{OpWrite, syscall.ENOSPC, syscall.ENOSPC, func() error { return write(d, 'x', 0) }},
		{OpFlush, errors.New("no quorum"), syscall.EIO, d.Flush},
		{OpFlush, syscall.ENOSYS, syscall.EIO, d.Flush}, // not: "there is nothing to flush, ever"
	} {
		m.SetHook(func(op Op, _, _ int64) error {
			if op == c.op {
				return c.err
			}
			return nil
		})
		err := c.do()
		if err == nil || f.Errnos && !errors.Is(err, c.want) {
			t.Errorf("op %d failing with %v: the user got %v, want %v", c.op, c.err, err, c.want)
		}
		m.SetHook(nil)
		if err := c.do(); err != nil {
			t.Errorf("op %d after a failure: %v", c.op, err)
		}
	}
	was := m.Count(OpFlush)
	if err := d.Flush(); err != nil || m.Count(OpFlush) == was {
		t.Errorf("flushes no longer reach the backend after a failed one: %v", err)
	}
}

func discardZero(t *testing.T, f Front) {
	m := Volume(t, suiteVol)
	_, d := open(t, f, m)
	for i, do := range []func(off, n int64) error{d.Discard, d.Zero} {
		for off := int64(0); off < 8*mib; off += mib {
			must(t, writeN(d, 'd', off, mib))
		}
		must(t, do(mib, 4*mib))
		p := m.Bytes()
		if p[mib-1] != 'd' || p[5*mib] != 'd' || !bytes.Equal(p[mib:5*mib], make([]byte, 4*mib)) {
			t.Errorf("call %d cleared something else", i)
		}
	}
	if m.Count(OpDiscard) == 0 || m.Count(OpDiscard)+m.Count(OpZero) < 2 {
		t.Errorf("%d discards and %d write-zeroes reached the backend", m.Count(OpDiscard), m.Count(OpZero))
	}
}

func answered(t *testing.T, f Front) {
	m := Volume(t, suiteVol)
	dev, d := open(t, f, m)
	for i := range int64(100) {
		m.SetSlow(i%3 == 0)
		must(t, write(d, 'a', i*export.BlockSize))
	}
	must(t, d.Discard(0, mib))
	must(t, d.Close())
	must(t, dev.Close(t.Context()))
	if n := m.Pending(); n != 0 {
		t.Errorf("%d accepted requests without an answer", n)
	}
	if a, w := m.Count(OpAnswered), m.Count(OpWrite)+m.Count(OpDiscard)+m.Count(OpZero); a != w {
		t.Errorf("%d answers for %d requests", a, w)
	}
	if m.Count(OpResent) != 1 {
		t.Errorf("Resent was called %d times", m.Count(OpResent))
	}
}

// hold runs do while the backend's calls of kind op wait, and requires that do ends.
func hold(t *testing.T, m *Memory, op Op, held func() error, heldCalls int, do func() error) {
	t.Helper()
	release, arrived := make(chan struct{}), make(chan struct{}, 1024)
	m.SetHook(func(o Op, off, _ int64) error {
		if o == op && off < mib {
			arrived <- struct{}{}
			<-release
		}
		return nil
	})
	var wg sync.WaitGroup
	for range heldCalls {
		wg.Go(func() {
			if err := held(); err != nil {
				t.Error(err)
			}
		})
	}
	defer wg.Wait()
	defer close(release)
	for range heldCalls {
		within(t, "the held call to reach the backend", arrived)
	}
	done := make(chan struct{}, 1)
	wg.Go(func() {
		if err := do(); err != nil {
			t.Error(err)
		}
		done <- struct{}{}
	})
	within(t, "a call beside held ones", done)
}

func within(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
}

func blockedRead(t *testing.T, f Front) {
	m := Volume(t, suiteVol)
	_, d := open(t, f, m)
	hold(t, m, OpRead, func() error { return read(d, 0) }, 8, func() error {
		return errors.Join(write(d, 'w', 2*mib), read(d, 2*mib), d.Flush())
	})
}

func blockedWrite(t *testing.T, f Front) {
	m := Volume(t, suiteVol)
	_, d := open(t, f, m)
	hold(t, m, OpWrite, func() error { return write(d, 'h', 0) }, 8, func() error { return read(d, 2*mib) })
}

func blockedFlush(t *testing.T, f Front) {
	m := Volume(t, suiteVol)
	_, d := open(t, f, m)
	must(t, write(d, 'h', 0))
	hold(t, m, OpFlush, d.Flush, 1, func() error { return read(d, 2*mib) })
}

func resize(t *testing.T, f Front) {
	m := Volume(t, suiteVol)
	dev, d := open(t, f, m)
	const bigger = suiteVol + 8*mib
	m.Grow(bigger)
	for range 2 { // the second time changes nothing
		must(t, dev.Resize(t.Context(), bigger))
	}
	if n, err := d.Size(); err != nil || n != bigger {
		t.Fatalf("size after a resize to %d: %d, %v", bigger, n, err)
	}
	must(t, write(d, 'n', bigger-export.BlockSize))
	if m.Bytes()[bigger-1] != 'n' {
		t.Error("a write to the new end went elsewhere")
	}
}

func resizeRefused(t *testing.T, f Front) {
	dev, _ := open(t, f, Volume(t, suiteVol))
	if err := dev.Resize(t.Context(), suiteVol/2); !errors.Is(err, export.ErrShrink) {
		t.Errorf("shrinking: %v", err)
	}
	for _, n := range []int64{0, -4096, suiteVol + 1, suiteVol + 4096} {
		if err := dev.Resize(t.Context(), n); !errors.Is(err, export.ErrSize) {
			t.Errorf("resize to %d, which the volume has not: %v", n, err)
		}
	}
}

func ends(t *testing.T, f Front) {
	m := Volume(t, suiteVol)
	_, d := open(t, f, m)
	must(t, write(d, 'l', suiteVol-export.BlockSize))
	if err := writeN(d, 'x', suiteVol, export.BlockSize); err == nil {
		t.Error("a write behind the end succeeded")
	}
	must(t, read(d, suiteVol-export.BlockSize))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(d Disk, c byte, off int64) error { return writeN(d, c, off, export.BlockSize) }

func writeN(d Disk, c byte, off int64, n int) error {
	p := Aligned(n)
	copy(p, bytes.Repeat([]byte{c}, n))
	_, err := d.WriteAt(p, off)
	return err
}

func read(d Disk, off int64) error {
	_, err := d.ReadAt(Aligned(export.BlockSize), off)
	return err
}
