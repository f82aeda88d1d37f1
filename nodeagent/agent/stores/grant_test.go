package stores

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type allow struct{}

func (allow) Allow(string, block.VolumeID, uint64, replica.Verb) error { return nil }

type nobody struct{}

func (nobody) Send(_ block.StoreID, _ replica.Type, done replica.Done, _ ...[]byte) {
	go done(0, nil, replica.ErrUnreachable)
}

// node is a node with one directory, and a memory beside it.
type node struct {
	t    *testing.T
	dir  string
	opts Options
}

func newNode(t *testing.T) *node {
	dir := t.TempDir()
	return &node{t: t, dir: dir, opts: Options{Node: "a", Network: "net", Stores: []Config{{Path: filepath.Join(dir, "store"), Log: 8 << 20}},
		Memory: filepath.Join(dir, "stores.json"), Auth: allow{}, Log: slog.New(slog.DiscardHandler)}}
}

// open opens the stores as an agent does; they are closed by the caller.
func (n *node) open() *Set {
	n.t.Helper()
	s, err := Open(n.opts)
	must(n.t, err)
	s.Start(nobody{})
	return s
}

func (n *node) path() string { return n.opts.Stores[0].Path }

// only gives the states, and the id of the first.
func states(s *Set) (out []State, first block.StoreID) {
	for i, st := range s.Statuses() {
		if i == 0 {
			first = st.ID
		}
		out = append(out, st.State)
	}
	return out, first
}

func want(t *testing.T, s *Set, list ...State) block.StoreID {
	t.Helper()
	got, id := states(s)
	if !slices.Equal(got, list) {
		t.Fatalf("states %v, want %v", s.Statuses(), list)
	}
	return id
}

// TestGrant: an empty directory is offered under an id that stays, and formatted as that id and no other.
func TestGrant(t *testing.T) {
	n := newNode(t)
	s := n.open()
	id := want(t, s, New)
	must(t, s.Close())
	s = n.open()
	if again := want(t, s, New); again != id || id.IsZero() {
		t.Fatalf("offered as %s, then as %s", id, again)
	}
	for _, other := range []block.StoreID{{}, {1}} {
		if err := s.Grant(other); !errors.Is(err, ErrNoOffer) {
			t.Errorf("grant of %s: %v", other, err)
		}
	}
	want(t, s, New)
	if s.Door(id) != nil || len(s.All()) != 0 || len(s.Announce()) != 0 {
		t.Error("a store that is not formatted serves")
	}
	must(t, s.Grant(id))
	if want(t, s, Serving) != id || s.Door(id) == nil || len(s.Announce()) != 1 {
		t.Error("a formatted store does not serve under its id")
	}
	must(t, s.Grant(id)) // repeated
	must(t, s.Close())
	s = n.open()
	if want(t, s, Serving) != id {
		t.Error("another id after a restart")
	}
	must(t, s.Close())
}

// TestMissing: a directory that had a store is never taken for a new one, from this node's memory or from others'.
func TestMissing(t *testing.T) {
	n := newNode(t)
	s := n.open()
	old := want(t, s, New)
	must(t, s.Grant(old))
	must(t, s.Close())
	must(t, os.Rename(n.path(), n.path()+".away")) // the disk is not mounted
	s = n.open()
	if want(t, s, Missing, New) != old {
		t.Error("the id of the missing store is not told")
	}
	if err := s.Grant(old); !errors.Is(err, ErrNoOffer) {
		t.Errorf("the missing store's id is granted: %v", err)
	}
	must(t, s.Close())
	must(t, os.Remove(n.path()))
	must(t, os.Rename(n.path()+".away", n.path()))
	s = n.open()
	if want(t, s, Serving) != old {
		t.Error("it is not found again")
	}
	must(t, s.Close())

	must(t, os.RemoveAll(n.dir)) // all is lost on this node, but others remember
	must(t, os.MkdirAll(n.dir, 0o700))
	s = n.open()
	want(t, s, New)
	must(t, s.Remember("/another/path", block.StoreID{7}))
	want(t, s, New)
	must(t, s.Remember(n.path(), old))
	if want(t, s, Missing, New) != old {
		t.Error("what others remember is not used")
	}
	must(t, s.Remember(n.path(), block.StoreID{9})) // changes nothing any more
	fresh := s.Statuses()[1].ID
	must(t, s.Grant(fresh)) // the disk was replaced, and a person approved the new one
	if want(t, s, Serving) != fresh {
		t.Error("the replaced disk does not serve")
	}
	must(t, s.Remember(n.path(), old))
	want(t, s, Serving)
	must(t, s.Close())
}

// TestNotEmpty: files of others are not formatted over; a format that was cut short is begun anew.
func TestNotEmpty(t *testing.T) {
	n := newNode(t)
	s := n.open()
	id := want(t, s, New)
	file := filepath.Join(n.path(), "precious")
	must(t, os.WriteFile(file, []byte("x"), 0o600))
	for range 2 {
		if err := s.Grant(id); !errors.Is(err, store.ErrNotEmpty) {
			t.Errorf("a directory with files: %v", err)
		}
		if m := s.Statuses()[0].Message; !strings.Contains(m, "precious") {
			t.Errorf("the status says %q", m)
		}
	}
	must(t, os.Remove(file))
	must(t, os.MkdirAll(filepath.Join(n.path(), "ext", "extent"), 0o700)) // no half format has any
	must(t, os.MkdirAll(filepath.Join(n.path(), "wal"), 0o700))
	if err := s.Grant(id); err == nil {
		t.Error("formatted over extents")
	}
	must(t, os.Remove(filepath.Join(n.path(), "ext", "extent")))
	must(t, os.WriteFile(filepath.Join(n.path(), "wal", "0"), []byte("half a log"), 0o600))
	must(t, s.Close())
	s = n.open() // killed in between
	must(t, s.Grant(want(t, s, New)))
	want(t, s, Serving)
	must(t, s.Close())
}

// TestBroken: a store that can not be opened does not keep the agent from starting, and is not formatted.
func TestBroken(t *testing.T) {
	n := newNode(t)
	n.opts.Node = "b"
	s := n.open()
	id := want(t, s, New)
	must(t, s.Grant(id))
	must(t, s.Close())
	n.opts.Node = "a" // a disk that was carried over from node b
	s = n.open()
	if want(t, s, Quarantined) != id || s.Statuses()[0].Message == "" {
		t.Errorf("%+v", s.Statuses())
	}
	if err := s.Grant(id); !errors.Is(err, ErrNoOffer) {
		t.Error(err)
	}
	must(t, s.Close())
	must(t, os.WriteFile(n.opts.Memory, []byte("{}"), 0o600))
	if _, err := Open(n.opts); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a damaged memory: %v", err)
	}
}
