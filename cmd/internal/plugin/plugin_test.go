package plugin

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/export/mounter"
)

// TestReadiness: an agent that comes is told at once, also if the kubelet had asked before it came; one that goes is told of after some looks in
// a row have missed it, and one miss in between counts anew.
func TestReadiness(t *testing.T) {
	main, both := []string{"main"}, []string{"main", "other"}
	var r readiness
	for i, step := range []struct {
		told, ready []string
		times       int
		want        bool
	}{
		{nil, nil, 20, false},
		{nil, main, 1, true}, // the kubelet had asked too early
		{main, main, 20, false},
		{main, both, 1, true},
		{both, main, patience - 1, false},
		{both, both, 1, false},
		{both, main, patience - 1, false},
		{both, main, 3, true},
	} {
		for n := range step.times {
			if got := r.look(step.told, step.ready); got != step.want {
				t.Fatalf("step %d, look %d: %t", i, n, got)
			}
		}
	}
}

// node is a teller whose kubelet asks when it is told to.
type node struct {
	mu          sync.Mutex
	ready, told []string
	asked       bool
	err         error
}

func (n *node) Ready(context.Context) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.ready), n.err
}

func (n *node) Told() ([]string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.told), n.asked
}

func (n *node) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

// TestWatchReady: whatever the order in which kubelet and agent come, the kubelet ends up knowing of the agent.
func TestWatchReady(t *testing.T) {
	for name, first := range map[string]func(n *node){
		"the agent comes first":   func(n *node) { n.ready = []string{"main"} },
		"the kubelet comes first": func(n *node) { n.asked = true },
		"nobody knows networks":   func(n *node) { n.err = errors.New("no API") },
	} {
		t.Run(name, func(t *testing.T) {
			n := &node{}
			first(n)
			ctx, stop := context.WithCancel(t.Context())
			again, done := make(chan struct{}), make(chan error, 1)
			go func() { done <- watchReady(ctx, n, again, time.Millisecond, slog.New(slog.DiscardHandler)) }()
			ask := func() { n.set(func() { n.told, n.asked = slices.Clone(n.ready), true }) }
			if name != "the kubelet comes first" {
				ask()
			}
			n.set(func() { n.ready, n.err = []string{"main"}, nil })
			if told, _ := n.Told(); !slices.Equal(told, []string{"main"}) {
				<-again
				ask()
			}
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if told, _ := n.Told(); !slices.Equal(told, []string{"main"}) {
				t.Errorf("the kubelet knows of %q", told)
			}
		})
	}
}

// TestAll: when one part fails or ends, all end, and the error says which; when the context ends, there is none.
func TestAll(t *testing.T) {
	broken := errors.New("broken")
	waits := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, c := range map[string]struct {
		part func(ctx context.Context) error
		want error
	}{
		"fails":           {func(context.Context) error { return broken }, broken},
		"ends by itself":  {func(context.Context) error { return nil }, errEnded},
		"fails when told": {func(ctx context.Context) error { <-ctx.Done(); return broken }, broken},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			if name == "fails when told" {
				stop()
			}
			if err := all(ctx, waits, c.part, waits); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := all(ctx, waits, waits); err != nil {
		t.Errorf("an end that was asked for: %v", err)
	}
}

// TestServeMounter: the mounter answers on its socket until it is told to end, and the socket's directory decides who reaches it.
func TestServeMounter(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a mounter is root's")
	}
	dir, err := os.MkdirTemp("", "mn") // short: unix sockets have short paths
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.MkdirAll(filepath.Join(dir, "m"), 0o750); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "m", "s")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ServeMounter(ctx, socket, filepath.Join(dir, "devices")) }()
	c, err := mounter.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.List(t.Context())
	if err != nil || len(list) != 0 {
		t.Errorf("list %v, %v", list, err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
