package gate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// memory is a volume that remembers the last number written to it, and how much went through.
type memory struct {
	export.Backend
	mu     sync.Mutex
	last   uint64
	writes int
	gate   chan struct{} // not nil: writes wait for it inside
}

func (m *memory) put(n uint64) {
	if m.gate != nil {
		<-m.gate
	}
	m.mu.Lock()
	m.last, m.writes = n, m.writes+1
	m.mu.Unlock()
}

func (m *memory) Write(_ export.RequestID, _ []byte, off int64) error { m.put(uint64(off)); return nil }
func (m *memory) Discard(_ export.RequestID, off, _ int64) error      { m.put(uint64(off)); return nil }
func (m *memory) Read([]byte, int64) error                            { return nil }
func (m *memory) TryRead([]byte, int64, export.Turn) (bool, error)    { return true, nil }
func (m *memory) TryWrite(_ export.RequestID, _ []byte, off int64) (bool, error) {
	m.put(uint64(off))
	return true, nil
}

func (m *memory) snapshot() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// write writes n as a front end does: without waiting if it can.
func write(g *Gate, n uint64) error {
	if ok, err := g.TryWrite(export.RequestID{}, nil, int64(n)); ok {
		return err
	}
	return g.Write(export.RequestID{}, nil, int64(n))
}

// TestGroup: writers write the next number to one volume and then, once it is answered, to the next one; snapshots of all volumes, taken
// while all are held, never show a number in a later volume that an earlier one lacks. The control takes them without holding.
func TestGroup(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	if n := group(t, seed, true); n != 0 {
		t.Errorf("%d groups of snapshots show a write without the one before it", n)
	}
	for range 20 {
		if group(t, seed, false) > 0 {
			return
		}
	}
	t.Error("without a hold no group is torn: the test sees nothing")
}

// group gives how many groups were torn.
func group(t *testing.T, seed uint64, hold bool) (torn int) {
	const volumes, rounds = 3, 150
	var ms [volumes]*memory
	var gs [volumes]*Gate
	for i := range ms {
		ms[i] = &memory{}
		gs[i] = New(ms[i])
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := uint64(1); ; n++ {
			for _, g := range gs {
				select {
				case <-stop:
					return
				default:
				}
				if err := write(g, n); err != nil {
					t.Error(err)
				}
			}
		}
	})
	r := rand.New(rand.NewPCG(seed, 2))
	for i := range rounds {
		token := fmt.Sprint(i)
		if hold {
			for _, g := range gs {
				if err := g.Hold(t.Context(), token, time.Minute); err != nil {
					t.Fatal(err)
				}
			}
		}
		var got [volumes]uint64
		for _, k := range r.Perm(volumes) {
			if from := ms[0].snapshot(); !hold { // the writer gets on between snapshots, however busy the machine is
				for ms[0].snapshot() < from+2 {
					runtime.Gosched()
				}
			}
			got[k] = ms[k].snapshot()
		}
		for k := 1; k < volumes; k++ {
			if got[k] > got[k-1] {
				torn++
				break
			}
		}
		if hold {
			for _, g := range gs {
				if err := g.Release(token); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	close(stop)
	wg.Wait()
	return torn
}

// TestHold: nothing goes in while held, what was on its way is waited for, reads go on, and a second hold is refused.
func TestHold(t *testing.T) {
	m := &memory{gate: make(chan struct{})}
	g := New(m)
	first := make(chan error, 1)
	go func() { first <- g.Write(export.RequestID{}, nil, 1) }()
	for g.inside.Load() == 0 {
	}
	held := make(chan error, 1)
	go func() { held <- g.Hold(t.Context(), "t", time.Minute) }()
	for g.held.Load() == nil {
	}
	select {
	case err := <-held:
		t.Fatalf("held with a write on its way: %v", err)
	default:
	}
	close(m.gate)
	if err := errors.Join(<-held, <-first); err != nil {
		t.Fatal(err)
	}
	if ok, _ := g.TryWrite(export.RequestID{}, nil, 2); ok {
		t.Fatal("a write went through")
	}
	if ok, err := g.TryRead(nil, 0, nil); !ok || err != nil {
		t.Fatal("reads wait too")
	}
	if err := g.Hold(t.Context(), "u", time.Minute); !errors.Is(err, ErrHeld) {
		t.Fatal(err)
	}
	late := make(chan error, 2)
	go func() { late <- g.Write(export.RequestID{}, nil, 3) }()
	go func() { late <- g.Discard(export.RequestID{}, 4, 0) }()
	g.Note("t", "snap")
	if !g.Noted("t", "snap") || g.Noted("t", "other") || g.Noted("u", "snap") || g.Check("u") == nil || g.Check("t") != nil {
		t.Fatal("what was noted is wrong")
	}
	if m.snapshot() != 1 {
		t.Fatal("it changed while it was held")
	}
	if err := g.Release("t"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-late, <-late); err != nil {
		t.Fatal(err)
	}
	if err := g.Release("t"); !errors.Is(err, ErrOver) {
		t.Fatal(err)
	}
}

// TestHoldEnds: a hold ends by itself, and its token is broken; one that cannot be completed leaves the gate open.
func TestHoldEnds(t *testing.T) {
	m := &memory{}
	g := New(m)
	if err := g.Hold(t.Context(), "t", time.Millisecond); err != nil && !errors.Is(err, ErrOver) {
		t.Fatal(err)
	}
	if err := g.Write(export.RequestID{}, nil, 1); err != nil { // waits until it is over
		t.Fatal(err)
	}
	if err := errors.Join(g.Check("t")); !errors.Is(err, ErrOver) {
		t.Fatal(err)
	}
	m.gate = make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- g.Write(export.RequestID{}, nil, 2) }()
	for g.inside.Load() == 0 {
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Hold(ctx, "u", time.Minute); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	close(m.gate)
	if err := errors.Join(<-done, g.Write(export.RequestID{}, nil, 3), g.Hold(t.Context(), "v", time.Minute)); err != nil {
		t.Fatal(err)
	}
	g.Break()
	if err := g.Write(export.RequestID{}, nil, 4); err != nil {
		t.Fatal(err)
	}
}

// TestLimits: on a clock of its own, exactly what the limits allow goes through, whatever the sizes of requests, and new limits hold for who
// waits already.
func TestLimits(t *testing.T) {
	for name, c := range map[string]struct {
		iops, rate int64
		size       int
		want       int // requests in ten seconds
	}{
		"iops":    {iops: 100, size: 4096, want: 1000},
		"bytes":   {rate: 1 << 20, size: 64 << 10, want: 160},
		"both":    {iops: 10, rate: 1 << 30, size: 4096, want: 100},
		"large":   {rate: 1 << 20, size: 4 << 20, want: 2},
		"no bits": {iops: 50, size: 0, want: 500},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1000, 0)
			start := now
			l := &limiter{clock: func() time.Time { return now }}
			l.sleep = func(d time.Duration) { now = now.Add(d) }
			l.set(c.iops, c.rate)
			n := 0
			for {
				l.wait(c.size)
				if now.Sub(start) > 10*time.Second {
					break
				}
				n++
			}
			// a burst and one request, which is let through ahead of its time, may be more
			most := float64(c.want)*1.01 + float64(max(c.iops, 1))*burst.Seconds() + 2
			if float64(n) < float64(c.want)*0.99 || float64(n) > most {
				t.Errorf("%d requests in ten seconds, want %d", n, c.want)
			}
			l.set(0, 0)
			at := now
			for range 1000 {
				l.wait(c.size)
			}
			if !now.Equal(at) {
				t.Error("without limits it waits")
			}
		})
	}
}

// TestCost: a request through an open gate makes no garbage, with limits or without.
func TestCost(t *testing.T) {
	g := New(&memory{})
	p := make([]byte, 4096)
	for _, iops := range []int64{0, 1 << 40} {
		g.SetLimits(iops, iops*4096)
		if n := testing.AllocsPerRun(1000, func() {
			_, _ = g.TryWrite(export.RequestID{}, p, 0)
			_, _ = g.TryRead(p, 0, nil)
			_ = g.Read(p, 0)
			_ = g.Write(export.RequestID{}, p, 0)
		}); n != 0 {
			t.Errorf("limit %d: %v allocations", iops, n)
		}
	}
}
