package space

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent/events"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/clearing"
)

// world is a node with one store, and the network around it, that are played.
type world struct {
	mu      sync.Mutex
	used    int64
	freed   uint64
	stage   clearing.Stage
	waits   bool // deletions are not through
	pending bool
	others  map[block.StoreID]clearing.Stage
	gains   []int64 // of passes that follow
	spare   int     // copies that can be given up
	calls   []string
	log     *events.Log
	changed int
	looked  chan struct{} // at stages
	k       *Keeper
}

func newWorld() *world {
	w := &world{log: events.New(100, slog.New(slog.DiscardHandler)), others: map[block.StoreID]clearing.Stage{}, looked: make(chan struct{}, 1)}
	w.k = New(Options{Every: time.Millisecond, Pause: time.Nanosecond, Vain: time.Hour, Own: w.own, Stages: w.stages,
		Deletions: func(context.Context) bool { w.call("deletions"); return w.waits },
		Pending:   func() bool { return w.pending },
		Compact: func(_ context.Context, on []block.StoreID) (gained int64) {
			w.call(fmt.Sprint("compact ", len(on)))
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.gains) > 0 {
				gained, w.gains = w.gains[0], w.gains[1:]
			}
			return gained
		},
		GiveUp: func(on []block.StoreID) (string, bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.spare == 0 {
				return "", false
			}
			w.spare--
			w.calls = append(w.calls, fmt.Sprint("give up ", len(on)))
			return "v", true
		},
		Changed: func() { w.changed++ }, Events: w.log, Log: slog.New(slog.DiscardHandler)})
	return w
}

func (w *world) call(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, s)
}

func (w *world) own() []Store {
	return []Store{{ID: block.StoreID{1}, Path: "/data", Total: 1000, Used: w.used, Freed: w.freed, Clear: func(s clearing.Stage) { w.stage = s }}}
}

func (w *world) stages() map[block.StoreID]clearing.Stage {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.looked <- struct{}{}:
	default:
	}
	out := map[block.StoreID]clearing.Stage{}
	for id, s := range w.others {
		out[id] = s
	}
	return out
}

// TestSaid: each stage of a store that stays full is told once, announced, and counted; that there is room again is told too.
func TestSaid(t *testing.T) {
	w := newWorld()
	at := time.Duration(0)
	step := func(seconds int) {
		at += time.Duration(seconds) * time.Second
		w.k.Step(t.Context(), at)
	}
	w.used = 800
	step(5)
	if w.stage != clearing.Idle || w.changed != 0 || len(w.calls) != 0 {
		t.Fatalf("%v %d %q", w.stage, w.changed, w.calls)
	}
	w.used, w.waits = 950, true
	for range 3 { // a deletion that is not through is waited for
		step(5)
	}
	if w.stage != clearing.Deleted || fmt.Sprint(w.calls) != "[deletions deletions deletions]" {
		t.Fatalf("%v %q", w.stage, w.calls)
	}
	w.waits = false
	step(5)
	step(5)
	if w.stage != clearing.Unreferenced {
		t.Fatal(w.stage)
	}
	step(200)
	step(200)
	if w.stage != clearing.Exhausted {
		t.Fatal(w.stage)
	}
	w.pending = true // a node is back that keeps a deletion from being through
	step(5)
	if w.stage != clearing.Deleted {
		t.Fatal(w.stage)
	}
	w.used = 100
	step(5)
	list, _ := w.log.Since(0)
	var told []string
	for _, e := range list {
		told = append(told, e.Reason)
	}
	want := "[ClearingSpace ClearingSpace ClearingSpace SpaceExhausted ClearingSpace SpaceCleared]"
	if fmt.Sprint(told) != want || w.stage != clearing.Idle || w.changed != 6 {
		t.Errorf("%v after %q, %d changes", w.stage, told, w.changed)
	}
	if n := w.k.Begun()[Begin{block.StoreID{1}, "/data", clearing.Deleted}]; n != 2 {
		t.Errorf("deletions were begun %d times", n)
	}
}

// TestHelp: who has volumes attached cleans them for stores that say so, pass after pass while it helps, and gives copies up only for those that
// have come so far; for nobody else.
func TestHelp(t *testing.T) {
	play := func(stages map[block.StoreID]clearing.Stage, gains []int64, spare, calls int) []string {
		w := newWorld()
		w.others, w.gains, w.spare = stages, gains, spare
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { w.k.help(ctx) })
		for done, round := false, 0; !done; round++ {
			<-w.looked
			w.mu.Lock()
			done = len(w.calls) >= calls && round >= 5
			w.mu.Unlock()
		}
		cancel()
		wg.Wait()
		return w.calls
	}
	a, b := block.StoreID{1}, block.StoreID{2}
	got := play(map[block.StoreID]clearing.Stage{a: clearing.Unreferenced, b: clearing.Unreferenced}, []int64{5, 5, 0}, 3, 3)
	if fmt.Sprint(got) != "[compact 2 compact 2 compact 2]" { // and not again at once, nor is a copy given up for a store that may have garbage
		t.Errorf("%q", got)
	}
	if got := play(map[block.StoreID]clearing.Stage{a: clearing.Surplus, b: clearing.Deleted}, nil, 2, 2); fmt.Sprint(got) != "[give up 1 give up 1]" {
		t.Errorf("%q", got)
	}
	if got := play(map[block.StoreID]clearing.Stage{a: clearing.Deleted, b: clearing.Exhausted}, []int64{5}, 2, 0); len(got) != 0 {
		t.Errorf("%q", got)
	}
}
