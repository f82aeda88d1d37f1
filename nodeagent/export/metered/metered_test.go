package metered

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// fixed answers as it is told.
type fixed struct {
	export.Backend
	ok   bool
	err  error
	gate chan struct{} // not nil: requests wait for it
}

func (f *fixed) wait() error {
	if f.gate != nil {
		<-f.gate
	}
	return f.err
}

func (f *fixed) TryRead([]byte, int64, export.Turn) (bool, error)       { return f.ok, f.err }
func (f *fixed) Read([]byte, int64) error                               { return f.wait() }
func (f *fixed) TryWrite(export.RequestID, []byte, int64) (bool, error) { return f.ok, f.err }
func (f *fixed) Write(export.RequestID, []byte, int64) error            { return f.wait() }
func (f *fixed) Discard(_ export.RequestID, _, _ int64) error           { return f.wait() }
func (f *fixed) WriteZeroes(_ export.RequestID, _, _ int64) error       { return f.wait() }
func (f *fixed) Flush() error                                           { return f.wait() }

// TestAnswers: each answer passes unchanged and is counted once: not a try that was not taken.
func TestAnswers(t *testing.T) {
	bad := errors.New("disk")
	p := make([]byte, 4096)
	for _, c := range []struct {
		ok     bool
		err    error
		want   uint64 // of two reads, and of two writes
		errors uint64
	}{{true, nil, 2, 0}, {false, nil, 1, 0}, {true, bad, 2, 2}} {
		var m Meter
		b := New(&fixed{ok: c.ok, err: c.err}, &m)
		ok, err := b.TryRead(p, 0, nil)
		ok2, err2 := b.TryWrite(export.RequestID{}, p, 0)
		if ok != c.ok || ok2 != c.ok || err != c.err || err2 != c.err {
			t.Errorf("%+v: %v %v %v %v", c, ok, err, ok2, err2)
		}
		for _, got := range []error{b.Read(p, 0), b.Write(export.RequestID{}, p, 0), b.Discard(export.RequestID{}, 0, 8192),
			b.WriteZeroes(export.RequestID{}, 0, 8192), b.Flush()} {
			if got != c.err {
				t.Errorf("%+v: %v", c, got)
			}
		}
		if r, w := m.Reads.Took.Read().Count, m.Writes.Took.Read().Count; r != c.want || w != c.want || m.Reads.Errors.Load() != c.errors || m.Writes.Errors.Load() != c.errors {
			t.Errorf("%+v: %d reads, %d writes, %d and %d errors", c, r, w, m.Reads.Errors.Load(), m.Writes.Errors.Load())
		}
		if c.err == nil && (m.Reads.Bytes.Load() != c.want*4096 || m.Writes.Bytes.Load() != c.want*4096 || m.Discards.Bytes.Load() != 2*8192) {
			t.Errorf("%+v: bytes", c)
		}
		if m.Flushes.Took.Read().Count != 1 || m.Discards.Took.Read().Count != 2 {
			t.Errorf("%+v: flushes or discards", c)
		}
	}
}

// TestStalled: a device whose requests wait for long is stalled.
func TestStalled(t *testing.T) {
	var m Meter
	f := &fixed{gate: make(chan struct{})}
	b := New(f, &m)
	done := make(chan error, 1)
	go func() { done <- b.Flush() }()
	for m.Flushes.Inside() == 0 {
		runtime.Gosched()
	}
	if late := time.Now().Add(time.Minute); !m.Stalled(late) {
		t.Error("not stalled")
	}
	close(f.gate)
	if err := <-done; err != nil || m.Stalled(time.Now().Add(time.Minute)) {
		t.Error("still stalled", err)
	}
}

// TestCost: counting makes no garbage.
func TestCost(t *testing.T) {
	var m Meter
	b := New(&fixed{ok: true}, &m)
	p := make([]byte, 4096)
	if n := testing.AllocsPerRun(1000, func() {
		_, _ = b.TryRead(p, 0, nil)
		_, _ = b.TryWrite(export.RequestID{}, p, 0)
		_ = b.Read(p, 0)
		_ = b.Write(export.RequestID{}, p, 0)
		_ = b.Flush()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTryWrite(b *testing.B) {
	var m Meter
	w := New(&fixed{ok: true}, &m)
	p := make([]byte, 4096)
	for b.Loop() {
		_, _ = w.TryWrite(export.RequestID{}, p, 0)
	}
}
