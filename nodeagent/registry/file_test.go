package registry_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/registry/registrytest"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

var rewrite = flag.Bool("rewrite", false, "write the golden file anew")

func open(t *testing.T, dir string) registry.Store {
	t.Helper()
	f, err := registry.OpenFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFile(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) (a, b registry.Store) {
		dir := t.TempDir()
		return open(t, dir), open(t, dir)
	})
}

// TestCorrupt flips each byte of an entry in turn: never is it absent, and never is its content different.
func TestCorrupt(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Create(registrytest.Record(1)); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, block.VolumeID{1}.String()+".json")
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x04
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Get(block.VolumeID{1}); err == nil && r.Size != 1<<20 || err != nil && !errors.Is(err, registry.ErrCorrupt) && !errors.Is(err, registry.ErrNewer) {
			t.Fatalf("byte %d flipped: %+v, %v", i, r, err)
		}
	}
	for _, b := range [][]byte{nil, good[:len(good)/2], []byte("{}")} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{
			"get":    second(s.Get(block.VolumeID{1})),
			"load":   second(s.Load(block.VolumeID{1})),
			"list":   second(s.List()),
			"find":   second(registry.Find(s, "other")),
			"create": s.Create(registrytest.Record(2)),
		} {
			if !errors.Is(err, registry.ErrCorrupt) {
				t.Errorf("%s with %d bytes left: %v", what, len(b), err)
			}
		}
	}
}

// TestNamed: a name that was found before is found without a look at the others' records; what is remembered of it is no proof.
func TestNamed(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, dir), open(t, dir)
	for n := byte(1); n <= 3; n++ {
		if err := a.Create(registrytest.Record(n)); err != nil {
			t.Fatal(err)
		}
	}
	is := func(s registry.Store, name string, id byte) {
		t.Helper()
		if r, err := registry.Find(s, name); err != nil || r.ID != (block.VolumeID{id}) || r.Name != name {
			t.Errorf("find %s: %s of %q, %v; want volume %d", name, r.ID, r.Name, err, id)
		}
	}
	is(b, "vol1", 1)
	if _, err := a.Update(block.VolumeID{1}, func(r *registry.Record) error { r.Size *= 2; return nil }); err != nil {
		t.Fatal(err)
	}
	if r, err := registry.Find(b, "vol1"); err != nil || r.Size != 2<<20 {
		t.Errorf("after a change by another process: %+v, %v", r, err)
	}
	if _, err := a.Update(block.VolumeID{1}, func(r *registry.Record) error {
		r.Deletion = &registry.Deletion{At: 8, Signed: []byte("x")}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Find(b, "vol1"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("a deleted volume is found: %v", err)
	}
	again := registrytest.Record(4)
	again.Name = "vol1"
	if err := a.Create(again); err != nil {
		t.Fatal(err)
	}
	is(b, "vol1", 4)
	is(a, "vol1", 4)

	if err := os.WriteFile(filepath.Join(dir, block.VolumeID{3}.String()+".json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]registry.Store{"who made them": a, "who found them": b} {
		is(s, "vol1", 4)
		is(s, "vol2", 2)
		if _, err := registry.Find(s, "vol3"); !errors.Is(err, registry.ErrCorrupt) {
			t.Errorf("%s: find of what rotted: %v", name, err)
		}
	}
	if _, err := registry.Find(open(t, dir), "no"); !errors.Is(err, registry.ErrCorrupt) { // the control: all are looked at
		t.Errorf("find of a name that nobody knows: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestLeftover: a temporary file that a crash left is neither read nor in the way.
func TestLeftover(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	tmp := filepath.Join(dir, "."+block.VolumeID{1}.String()+".tmp")
	if err := os.WriteFile(tmp, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(registrytest.Record(1)); err != nil {
		t.Fatal(err)
	}
	if all, err := s.List(); err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
}

func TestGolden(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	r := registrytest.Record(1)
	r.Snapshots = []registry.Snapshot{{ID: [16]byte{9}, Name: "s", Created: 4, Size: 4096}}
	r.Encrypted, r.KeyCheck = true, []byte{1, 2, 3}
	r.Fact = volume.Fact{Epoch: block.Epoch{Number: 5, Token: 6},
		Anchor: journal.Position{Extent: block.ExtentID{Volume: r.ID, Epoch: 5, N: 1}, Members: []block.StoreID{{1}, {2}, {3}}}}
	if err := s.Create(r); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(r.ID, func(r *registry.Record) error {
		r.Deletion = &registry.Deletion{At: 8, Signed: []byte("x"), Confirmed: []block.StoreID{{1}}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, r.ID.String()+".json"))
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "record.json")
	if *rewrite {
		if err := os.WriteFile(golden, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got\n%s\nwant\n%s%v", got, want, err)
	}
}

// blind is a registry whose Load tells what was at first, and whose Swap looks at no revision.
type blind struct {
	registry.Store
	first volume.Fact
}

func (b blind) Load(block.VolumeID) (volume.Fact, error) { return b.first, nil }

func (b blind) Swap(v block.VolumeID, f volume.Fact) (string, error) {
	now, err := b.Store.Load(v)
	if err != nil {
		return "", err
	}
	f.Revision = now.Revision
	return b.Store.Swap(v, f)
}

// TestSwapRaceControl: the suite's race fails for a registry that does not compare.
func TestSwapRaceControl(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.Create(registrytest.Record(1)); err != nil {
		t.Fatal(err)
	}
	b := blind{Store: s}
	err := registrytest.SwapRace(b, b)
	if err == nil || errors.Is(err, volume.ErrConflict) {
		t.Fatalf("two writers took one epoch, and the race says %v", err)
	}
}
