package members

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/clearing"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func table(t *testing.T) *Table {
	t.Helper()
	return static(t, "a", "b", "c", "d")
}

// static is a table as agents of one machine make it, seen by the first node.
func static(t *testing.T, names ...string) *Table {
	t.Helper()
	var nodes []Node
	for _, n := range names {
		nodes = append(nodes, Node{Name: n})
	}
	tab := New(names[0])
	tab.Update(nodes, layout(t, nil, names...))
	return tab
}

// layout makes a layout, of the version after another one's.
func layout(t *testing.T, after *placement.Layout, names ...string) *placement.Layout {
	t.Helper()
	if after == nil {
		var nodes []Node
		for _, n := range names {
			nodes = append(nodes, Node{Name: n})
		}
		l, err := Layout(nodes)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	var nodes []placement.Node
	for _, n := range names {
		nodes = append(nodes, placement.Node{ID: n, Zone: "z-" + n, Weight: 2})
	}
	l, err := placement.Compute(nodes, placement.Params{Replicas: min(3, len(names))}, after)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func stores(ids ...byte) (out []Store) {
	for _, i := range ids {
		out = append(out, Store{ID: block.StoreID{i}, Capacity: 100})
	}
	return out
}

func TestCandidates(t *testing.T) {
	tab := table(t)
	tab.Heard("a", stores(1, 11))
	tab.Heard("b", stores(2))
	tab.Heard("c", stores(3, 13, 23))
	firsts := map[block.StoreID]int{}
	for i := range 2000 {
		got := tab.Candidates(block.Sum([]byte{byte(i), byte(i >> 8)}))
		sorted := slices.Clone(got)
		slices.SortFunc(sorted, func(a, b block.StoreID) int { return slices.Compare(a[:], b[:]) })
		if len(slices.Compact(sorted)) != 6 {
			t.Fatalf("candidates %v", got)
		}
		nodes := map[string]bool{}
		for _, s := range got[:3] {
			n, _ := tab.Owner(s)
			nodes[n] = true
		}
		if len(nodes) != 3 {
			t.Fatalf("the first three of %v are on %v", got, nodes)
		}
		firsts[got[0]]++
	}
	if len(firsts) != 6 {
		t.Errorf("only %d stores are ever first: %v", len(firsts), firsts)
	}
}

func TestAlive(t *testing.T) {
	tab := table(t)
	if tab.Alive(block.StoreID{1}) {
		t.Error("an unknown store is alive")
	}
	tab.Heard("a", append(stores(1), Store{ID: block.StoreID{11}, Quarantined: true}))
	if !tab.Alive(block.StoreID{1}) || tab.Alive(block.StoreID{11}) {
		t.Error("alive and quarantined are mixed up")
	}
	tab.Lost("a", errors.New("gone"))
	if tab.Alive(block.StoreID{1}) {
		t.Error("a store of a lost node is alive")
	}
	if n, ok := tab.Owner(block.StoreID{1}); !ok || n != "a" {
		t.Error("a store of a lost node is forgotten")
	}
	tab.Heard("a", stores(2))
	if _, ok := tab.Owner(block.StoreID{1}); ok {
		t.Error("a store that was formatted anew is still known")
	}
}

func TestDecodeHostile(t *testing.T) {
	good := Encode(stores(1, 2), nil)
	if got, err := Decode(good); err != nil || !slices.Equal(got, stores(1, 2)) {
		t.Fatal(got, err)
	}
	for i := range good {
		if _, err := Decode(good[:i]); !errors.Is(err, ErrAnswer) {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
	for _, b := range [][]byte{Encode(stores(1, 1), nil), Encode(stores(0), Question()), append(good, 0), {3, 0, 0}, {1, 255, 255}} {
		if _, err := Decode(b); !errors.Is(err, ErrAnswer) {
			t.Errorf("%x: %v", b, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode(stores(1, 2), nil))
	f.Add(Encode(stores(1, 2), Question()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := Decode(b); err == nil && !slices.Equal(Encode(s, b[:1]), b) {
			t.Fatalf("%x is read as %+v", b, s)
		}
	})
}

// TestRun: a node that refuses is lost at once, and is heard again when it answers.
func TestRun(t *testing.T) {
	tab := static(t, "a")
	ctx, cancel := context.WithCancel(t.Context())
	answers := make(chan error)
	changes := make(chan bool, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tab.Run(ctx, time.Millisecond, func(ctx context.Context, _ string) ([]Store, error) {
			select {
			case err := <-answers:
				return stores(1), err
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}, func(_ string, alive bool, _ error) { changes <- alive })
	}()
	for _, a := range []error{nil, errors.New("refused"), nil} {
		answers <- a
		if alive := <-changes; alive != (a == nil) {
			t.Errorf("answer %v: alive is %v", a, alive)
		}
	}
	if err := tab.Ready(ctx); err != nil {
		t.Error(err)
	}
	cancel()
	<-done
}

// TestVersions: who asks as before is answered as before; the newer answer has what a store clears, and no stage that there is not.
func TestVersions(t *testing.T) {
	list := stores(1, 2)
	list[1].Clearing = clearing.Surplus
	old, now := Encode(list, nil), Encode(list, Question())
	if got, err := Decode(now); err != nil || !slices.Equal(got, list) {
		t.Errorf("%v %v", got, err)
	}
	if got, err := Decode(old); err != nil || !slices.Equal(got, stores(1, 2)) || old[0] != 1 || len(old) != len(now)-2 {
		t.Errorf("%v %v", got, err)
	}
	if later := Encode(list, []byte{9}); !slices.Equal(later, now) {
		t.Error("who understands a later version too is answered otherwise")
	}
	now[len(now)-1] = byte(clearing.Exhausted) + 1
	if _, err := Decode(now); !errors.Is(err, ErrAnswer) {
		t.Error(err)
	}
}
