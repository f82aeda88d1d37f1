package members

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

func names(tab *Table) (out []string) {
	for _, n := range tab.Nodes() {
		out = append(out, n.Name)
	}
	return out
}

func owner(tab *Table, id byte) string {
	n, _ := tab.Owner(block.StoreID{id})
	return n
}

// TestWithoutLayout: nodes are known by address, nothing is placed, and Ready says why.
func TestWithoutLayout(t *testing.T) {
	tab := New("a")
	tab.Update([]Node{{Name: "a", Address: "x:1"}, {Name: "b", Address: "x:2"}}, nil)
	tab.Heard("a", stores(1))
	tab.Heard("b", stores(2))
	if err := tab.Ready(t.Context()); !errors.Is(err, ErrNoLayout) {
		t.Errorf("ready: %v", err)
	}
	if c := tab.Candidates(block.Hash{1}); len(c) != 0 || tab.Version() != 0 {
		t.Errorf("candidates %v of layout %d", c, tab.Version())
	}
	if owner(tab, 2) != "b" || !tab.Alive(block.StoreID{2}) {
		t.Error("a node without a layout is not known")
	}
	tab.Update([]Node{{Name: "a", Address: "x:1"}, {Name: "b", Address: "x:2"}}, layout(t, nil, "a", "b")) // control
	if err := tab.Ready(t.Context()); err != nil || len(tab.Candidates(block.Hash{1})) != 2 || tab.Version() == 0 {
		t.Errorf("with a layout: %v", err)
	}
}

// TestUpdate: who is a member, who is known by address, and who is forgotten.
func TestUpdate(t *testing.T) {
	first := layout(t, nil, "a", "b", "c")
	tab := New("a")
	tab.Update([]Node{{Name: "a", Address: "x:1"}, {Name: "b", Address: "x:2"}, {Name: "d", Address: "x:4"}}, first)
	for i, n := range []string{"a", "b", "c", "d"} {
		tab.Heard(n, stores(byte(i+1)))
	}
	if got := names(tab); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("nodes %v", got)
	}
	if _, ok := tab.Address("c"); ok {
		t.Error("a member without an address has one")
	}
	for i := range byte(50) {
		if c := tab.Candidates(block.Sum([]byte{i})); len(c) != 4 || c[3] != (block.StoreID{4}) {
			t.Fatalf("candidates %v: the store of d, which is no member, must be the last", c)
		}
	}
	states := tab.States()
	if !states[2].Storage || !states[3].Storage {
		t.Error("a member, and a node with a store, are storage nodes")
	}

	second := layout(t, first, "a", "b", "d")
	tab.Update([]Node{{Name: "a", Address: "x:1"}, {Name: "e", Address: "x:5"}}, second)
	if got := names(tab); !slices.Equal(got, []string{"a", "b", "d", "e"}) {
		t.Errorf("nodes %v", got)
	}
	if addr, ok := tab.Address("b"); !ok || addr != "x:2" {
		t.Errorf("the last address of a member is forgotten: %q", addr)
	}
	if tab.Nodes()[1].Zone != "z-b" || tab.Nodes()[1].Weight != 2 {
		t.Errorf("zone and weight are not the layout's: %+v", tab.Nodes()[1])
	}
	if owner(tab, 2) != "b" || owner(tab, 4) != "d" || owner(tab, 3) != "" {
		t.Errorf("owners %q, %q, %q", owner(tab, 2), owner(tab, 4), owner(tab, 3))
	}
	if tab.States()[3].Storage {
		t.Error("a node without a store that is no member is a storage node")
	}
	tab.Update(nil, first) // older: not taken
	if tab.Version() != second.Version() || !slices.Equal(names(tab), []string{"a", "b", "d"}) {
		t.Errorf("layout %d of %v after an older one", tab.Version(), names(tab))
	}
}

// TestOwnersStay: whatever updates come, a node that has been known all the time owns what it named last.
func TestOwnersStay(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		all := []string{"a", "b", "c", "d", "e", "f"}
		tab := New("a")
		var last *placement.Layout
		want := map[byte]string{}
		for step := range 60 {
			var nodes []Node
			for _, n := range all {
				if rng.IntN(3) > 0 {
					nodes = append(nodes, Node{Name: n, Address: n + ":1"})
				}
			}
			var l *placement.Layout
			if rng.IntN(3) == 0 {
				k := 1 + rng.IntN(len(all))
				order := rng.Perm(len(all))[:k]
				var in []string
				for _, i := range order {
					in = append(in, all[i])
				}
				l = layout(t, last, in...)
				last = l
			}
			tab.Update(nodes, l)
			known := names(tab)
			for id, n := range want {
				if !slices.Contains(known, n) {
					delete(want, id)
				}
			}
			if i := rng.IntN(len(known)); rng.IntN(2) == 0 {
				id := byte(1 + rng.IntN(20))
				for old, n := range want { // it names this store alone
					if n == known[i] {
						delete(want, old)
					}
				}
				tab.Heard(known[i], stores(id))
				want[id] = known[i]
			} else {
				tab.Lost(known[i], errors.New("away"))
			}
			for id := range byte(22) {
				if got := owner(tab, id); got != want[id] {
					t.Fatalf("seed %d, step %d: store %d belongs to %q, want %q", seed, step, id, got, want[id])
				}
			}
		}
	}
}

// TestReadyWaitsForNew: a node that comes is waited for too.
func TestReadyWaitsForNew(t *testing.T) {
	l := layout(t, nil, "a", "b")
	tab := New("a")
	tab.Update(nil, l)
	tab.Heard("a", nil)
	tab.Lost("b", errors.New("away"))
	if err := tab.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	tab.Update([]Node{{Name: "c", Address: "x:1"}}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tab.Ready(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("it does not wait for c: %v", err)
	}
	done := make(chan error)
	go func() { done <- tab.Ready(t.Context()) }()
	tab.Update(nil, nil) // c is gone, and was never asked
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestRunFollows: nodes that come are asked, nodes that go are not asked any more.
func TestRunFollows(t *testing.T) {
	tab := New("a")
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	running := map[string]int{}
	moved := make(chan struct{}, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tab.Run(ctx, time.Millisecond, func(ctx context.Context, node string) ([]Store, error) {
			mu.Lock()
			running[node]++
			mu.Unlock()
			moved <- struct{}{}
			<-ctx.Done() // asked once, until the node goes
			mu.Lock()
			running[node]--
			mu.Unlock()
			moved <- struct{}{}
			return nil, ctx.Err()
		}, nil)
	}()
	until := func(want map[string]int) {
		t.Helper()
		for {
			mu.Lock()
			ok := true
			for n, k := range want {
				ok = ok && running[n] == k
			}
			mu.Unlock()
			if ok {
				return
			}
			select {
			case <-moved:
			case <-t.Context().Done():
				t.Fatalf("asked are %v, want %v", running, want)
			}
		}
	}
	tab.Update([]Node{{Name: "b", Address: "x:1"}}, nil)
	until(map[string]int{"b": 1})
	tab.Update([]Node{{Name: "c", Address: "x:1"}}, nil)
	until(map[string]int{"b": 0, "c": 1})
	cancel()
	<-done
	until(map[string]int{"a": 0, "b": 0, "c": 0})
}

// TestUnreachable: those that follow around the end of the names are watched, and only those that were asked are judged.
func TestUnreachable(t *testing.T) {
	var nodes []Node
	for i := range 100 {
		nodes = append(nodes, Node{Name: fmt.Sprintf("n%02d", i), Address: "x:1"})
	}
	tab := New("n50")
	tab.Update(nodes, nil)
	if got := tab.Unreachable(); len(got) != 0 {
		t.Errorf("before anybody was asked: %v", got)
	}
	for _, n := range nodes {
		tab.Lost(n.Name, errors.New("away"))
	}
	got := tab.Unreachable()
	if len(got) != MaxWatched || slices.Contains(got, "n50") || slices.Contains(got, "n15") || !slices.Contains(got, "n51") || !slices.Contains(got, "n14") {
		t.Errorf("unreachable are %v", got)
	}
	tab.Heard("n14", nil)
	if slices.Contains(tab.Unreachable(), "n14") {
		t.Error("a node that answers is unreachable")
	}
	for node, most := range map[string]time.Duration{"n51": time.Hour, "n40": time.Duration(tab.rounds("n40")) * time.Hour} {
		if d := tab.pause(node, time.Hour); d <= most-time.Hour || d > most {
			t.Errorf("%s is asked again after %v, want %v at most", node, d, most)
		}
	}
	if near, far := tab.rounds("n51"), tab.rounds("n40"); near != 1 || far <= near {
		t.Errorf("intervals %v and %v", near, far)
	}
}
