package holding

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ volumes.Keeper = (*Holding)(nil)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for what must become true, as long as the test may last.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(what)
		}
	}
}

// serve runs a holder at a path until stop.
func serve(t *testing.T, path string) (stop func()) {
	t.Helper()
	s, err := holder.NewServer(holder.Options{Socket: path, Patience: time.Hour})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// run runs a holding, until the test ends.
func run(t *testing.T, path string, connected func(context.Context)) *Holding {
	h := New(path, slog.New(slog.DiscardHandler))
	if connected == nil {
		must(t, h.Connect(t.Context()))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.Run(ctx, connected)
	}()
	t.Cleanup(func() { cancel(); <-done; must(t, h.Close()) })
	return h
}

// pipe gives the end that is read, and one to give away, as a device whose last close is seen.
func pipe(t *testing.T) (r, w int) {
	t.Helper()
	var p [2]int
	must(t, unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	t.Cleanup(func() { _ = unix.Close(p[0]) })
	return p[0], p[1]
}

// closed tells whether the last copy of a pipe's other end is closed.
func closed(r int) bool {
	n, err := unix.Read(r, make([]byte, 1))
	return n == 0 && err == nil
}

func names(t *testing.T, h *Holding) (out []string) {
	t.Helper()
	list, err := h.List(t.Context())
	if err != nil {
		return []string{err.Error()}
	}
	for _, l := range list {
		if l.State == holder.Owned {
			out = append(out, l.Name)
		}
	}
	slices.Sort(out)
	return out
}

// TestRefill: each new holder has what was put and not dropped, with its descriptors; a device ends when its entry is dropped.
func TestRefill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h", "s")
	stop := serve(t, path)
	h := run(t, path, nil)
	ends := map[string]int{}
	for _, name := range []string{"a", "b", "c"} {
		r, w := pipe(t)
		ends[name] = r
		must(t, h.Put(t.Context(), &holder.Entry{Name: name, Meta: []byte("meta of " + name), Device: []int{w}}))
		must(t, unix.Close(w))
	}
	must(t, h.Drop(t.Context(), "b"))
	if !closed(ends["b"]) {
		t.Error("a dropped entry's descriptor is open")
	}
	for range 3 {
		stop()
		stop = serve(t, path)
		until(t, "the new holder is filled", func() bool { return slices.Equal(names(t, h), []string{"a", "c"}) })
		if closed(ends["a"]) || closed(ends["c"]) {
			t.Fatal("a device ended with the holder")
		}
	}
	e, err := h.Get(t.Context(), "a")
	must(t, err)
	if string(e.Meta) != "meta of a" || len(e.Device) != 1 {
		t.Errorf("%+v", e)
	}
	e.Close()
	must(t, h.Drop(t.Context(), "a"))
	if !closed(ends["a"]) {
		t.Error("a device that was dropped goes on")
	}
	stop()
	must(t, h.Drop(t.Context(), "c")) // while there is no holder
	if !closed(ends["c"]) {
		t.Error("a device that was dropped without a holder goes on")
	}
	stop = serve(t, path)
	defer stop()
	until(t, "the new holder is empty", func() bool { return len(names(t, h)) == 0 })
	if err := h.Drop(t.Context(), "c"); !errors.Is(err, holder.ErrNotFound) {
		t.Error(err)
	}
}

// TestLater: without a holder nothing can be put; the first one that comes is told.
func TestLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h", "s")
	told := make(chan struct{}, 1)
	h := run(t, path, func(context.Context) { told <- struct{}{} })
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Put(gone, &holder.Entry{Name: "x"}); !errors.Is(err, ErrAway) || h.Up() {
		t.Errorf("without a holder: %v", err)
	}
	done := make(chan error)
	go func() { done <- h.Put(t.Context(), &holder.Entry{Name: "y"}) }() // waits for it
	defer serve(t, path)()
	must(t, <-done)
	<-told
	until(t, "y is there", func() bool { return slices.Equal(names(t, h), []string{"y"}) })
}

// TestSteady: a caller whose context has ended does not break the connection, and the entries stay owned.
func TestSteady(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h", "s")
	defer serve(t, path)()
	h := run(t, path, nil)
	must(t, h.Put(t.Context(), &holder.Entry{Name: "a"}))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Get(gone, "none"); !errors.Is(err, holder.ErrNotFound) {
		t.Error(err)
	}
	if got := names(t, h); !slices.Equal(got, []string{"a"}) {
		t.Errorf("owned are %v", got)
	}
	if err := h.Put(t.Context(), &holder.Entry{Name: "a"}); !errors.Is(err, holder.ErrExists) {
		t.Error(err)
	}
}
