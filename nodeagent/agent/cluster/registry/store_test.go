package registry_test

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/agent/cluster/apitest"
	"mynetwork.io/mynetwork/nodeagent/agent/cluster/registry"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	base "mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/registry/registrytest"
)

const uid = types.UID("7c1f0c9e-0000-4000-8000-00000000abcd")

func open(api registry.API) *registry.Store { return openAs(api, uid) }

func openAs(api registry.API, uid types.UID) *registry.Store {
	return registry.New(registry.Options{API: api, Network: "net", UID: uid})
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got %v, want %v", err, target)
	}
}

func TestStore(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) (a, b base.Store) {
		s := apitest.New()
		return open(s), open(s)
	})
}

// TestOtherNetworks: what another network, also one of the same name before, has is not seen.
func TestOtherNetworks(t *testing.T) {
	s := apitest.New()
	a, b := open(s), registry.New(registry.Options{API: s, Network: "net", UID: "other"})
	ok(t, a.Create(registrytest.Record(1)))
	ok(t, b.Create(registrytest.Record(1)))
	ok(t, b.Create(registrytest.Record(2)))
	list, err := a.List()
	ok(t, err)
	if len(list) != 1 || len(s.Objects()) != 3 {
		t.Fatalf("%d of %d records", len(list), len(s.Objects()))
	}
	_, err = a.Get(block.VolumeID{2})
	want(t, err, base.ErrNotFound)
}

// TestPages: a list of many records is read in parts.
func TestPages(t *testing.T) {
	s := apitest.New()
	a := open(s)
	const n = 1203
	for i := range n {
		r := registrytest.Record(0)
		r.ID, r.Name = block.VolumeID{1, byte(i), byte(i >> 8)}, fmt.Sprintf("v%d", i)
		ok(t, a.Create(r))
	}
	before := s.Calls()["list"]
	list, err := a.List()
	ok(t, err)
	if calls := s.Calls()["list"] - before; len(list) != n || calls != 3 {
		t.Fatalf("%d records in %d lists", len(list), calls)
	}
	for i := 1; i < n; i++ {
		if !(list[i-1].ID.String() < list[i].ID.String()) {
			t.Fatal("the list is not in order")
		}
	}
}

// TestCalls pins what an operation costs: attaching needs no list.
func TestCalls(t *testing.T) {
	s := apitest.New()
	a := open(s)
	ok(t, a.Create(registrytest.Record(1)))
	before := s.Calls()
	f, err := a.Load(block.VolumeID{1})
	ok(t, err)
	f.Epoch = block.Epoch{Number: 1, Token: 5}
	_, err = a.Swap(block.VolumeID{1}, f)
	ok(t, err)
	_, err = a.Update(block.VolumeID{1}, func(r *base.Record) error { r.Holder = "a"; return nil })
	ok(t, err)
	after := s.Calls()
	for verb, n := range map[string]int{"get": 3, "update": 2, "list": 0, "create": 0} {
		if got := after[verb] - before[verb]; got != n {
			t.Errorf("%d calls of %s, want %d", got, verb, n)
		}
	}
}

// TestForeignFields: what others wrote into an object stays.
func TestForeignFields(t *testing.T) {
	s := apitest.New()
	a := open(s)
	ok(t, a.Create(registrytest.Record(1)))
	name := registry.Handle(string(uid), block.VolumeID{1})
	o := s.Objects()[name]
	o.Requests = []v1alpha1.VolumeRequest{{Node: "n", ID: "0000000000000001", Attach: true}}
	o.Labels["mine"], o.Annotations["yours"] = "x", "y"
	ok(t, s.Update(t.Context(), o))
	ok(t, s.UpdateStatus(name, func(o *v1alpha1.VolumeRecord) { o.Status.FencedNode = "n2" }))
	_, err := a.Update(block.VolumeID{1}, func(r *base.Record) error { r.Holder = "a"; return nil })
	ok(t, err)
	o = s.Objects()[name]
	if o.State.Holder != "a" || len(o.Requests) != 1 || o.Labels["mine"] != "x" || o.Annotations["yours"] != "y" || o.Status.FencedNode != "n2" {
		t.Fatalf("%+v", o)
	}
}

// TestAway: an API that is away, or hangs, is an error soon, of every operation; one that is back is used at once.
func TestAway(t *testing.T) {
	s := apitest.New()
	a := registry.New(registry.Options{API: s, Network: "net", UID: uid, CallLimit: 20 * time.Millisecond, Limit: 50 * time.Millisecond})
	ok(t, a.Create(registrytest.Record(1)))
	f, err := a.Load(block.VolumeID{1})
	ok(t, err)
	all := func() map[string]error {
		_, get := a.Get(block.VolumeID{1})
		_, load := a.Load(block.VolumeID{1})
		_, list := a.List()
		_, named := a.Named("vol1")
		_, swap := a.Swap(block.VolumeID{1}, f)
		_, update := a.Update(block.VolumeID{1}, func(*base.Record) error { return nil })
		_, tombs := a.Deleted()
		return map[string]error{"get": get, "load": load, "list": list, "named": named, "swap": swap, "update": update, "deleted": tombs,
			"create": a.Create(registrytest.Record(2)), "forget": a.Forget(&base.Record{ID: block.VolumeID{1}})}
	}
	for name, set := range map[string]func(bool){"down": s.SetDown, "hang": s.SetHang} {
		set(true)
		for what, err := range all() {
			if !errors.Is(err, base.ErrAway) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
		set(false)
	}
	_, err = a.Swap(block.VolumeID{1}, f)
	ok(t, err)
}

// TestLostAnswers: a write whose answer is lost is told apart from one that was not done.
func TestLostAnswers(t *testing.T) {
	s := apitest.New()
	a := open(s)
	s.LoseAnswers(0)
	ok(t, a.Create(registrytest.Record(1)))
	f, err := a.Load(block.VolumeID{1})
	ok(t, err)
	for i := range uint64(3) {
		s.LoseAnswers(1)
		f.Epoch = block.Epoch{Number: i + 1, Token: 7}
		f.Revision, err = a.Swap(block.VolumeID{1}, f)
		ok(t, err)
		s.LoseAnswers(1)
		_, err = a.Update(block.VolumeID{1}, func(r *base.Record) error { r.Size += 4096; return nil })
		ok(t, err)
	}
	// of a creation, the last step alone may be lost: the others are made undone
	step := 0
	s.Hook(func(verb string, _ client) {
		if verb == "update" && step == 0 {
			step++
			s.LoseAnswers(1)
		}
	})
	ok(t, a.Create(registrytest.Record(2)))
	s.Hook(nil)
	s.LoseAnswers(1)
	want(t, a.Create(registrytest.Record(3)), base.ErrAway)
	_, err = a.Get(block.VolumeID{3})
	want(t, err, base.ErrNotFound)
}

// TestAbandoned: a record in the making is no volume; it keeps its name until its maker cannot be there any more.
func TestAbandoned(t *testing.T) {
	s := apitest.New()
	now := time.Now()
	clock := func() time.Time { return now }
	s.SetClock(clock)
	a := registry.New(registry.Options{API: s, Network: "net", UID: uid, Now: clock})
	ok(t, a.Create(registrytest.Record(9)))
	s.LoseAnswers(1)
	want(t, a.Create(registrytest.Record(1)), base.ErrAway)
	again := registrytest.Record(2)
	again.Name = "vol1"
	want(t, a.Create(again), base.ErrExists)
	if list, err := a.List(); err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	now = now.Add(2 * time.Minute)
	ok(t, a.Create(again))
	if n := len(s.Objects()); n != 2 {
		t.Fatalf("%d objects", n)
	}
}

// TestCorrupt: a record that cannot be read is never absent, and its name is not given out.
func TestCorrupt(t *testing.T) {
	s := apitest.New()
	a := open(s)
	ok(t, a.Create(registrytest.Record(1)))
	ok(t, a.Create(registrytest.Record(2)))
	o := s.Objects()[registry.Handle(string(uid), block.VolumeID{1})]
	o.Fact.Anchor = []byte{9, 9}
	ok(t, s.Update(t.Context(), o))
	_, err := a.Get(block.VolumeID{1})
	want(t, err, base.ErrCorrupt)
	_, err = a.Named("vol1")
	want(t, err, base.ErrCorrupt)
	list, err := a.List()
	want(t, err, base.ErrCorrupt)
	if len(list) != 1 {
		t.Fatal("the other record is not listed")
	}
	r := registrytest.Record(3)
	r.Name = "vol1"
	want(t, a.Create(r), base.ErrExists)
}

// TestForget: a tombstone is removed as it was read, or not at all.
func TestForget(t *testing.T) {
	s := apitest.New()
	a := open(s)
	ok(t, a.Create(registrytest.Record(1)))
	r, err := a.Get(block.VolumeID{1})
	ok(t, err)
	want(t, a.Forget(&r), base.ErrInvalid)
	r, err = a.Update(r.ID, func(r *base.Record) error {
		r.Deletion = &base.Deletion{At: 5, Signed: []byte("x"), Confirmed: []block.StoreID{{1}}}
		return nil
	})
	ok(t, err)
	tombs, err := a.Deleted()
	ok(t, err)
	if len(tombs) != 1 || tombs[0].ID != r.ID {
		t.Fatal(tombs)
	}
	old := r.Clone()
	old.Deletion.Confirmed = nil
	want(t, a.Forget(&old), base.ErrConflict)
	ok(t, a.Forget(&r))
	ok(t, a.Forget(&r))
	_, err = a.Get(r.ID)
	want(t, err, base.ErrNotFound)
	if tombs, err := a.Deleted(); err != nil || len(tombs) != 0 {
		t.Fatal(tombs, err)
	}
}

// TestRealServer runs the suite against a kube-apiserver with the definitions of config/crd: KUBEBUILDER_ASSETS names the directory with
// kube-apiserver and etcd. Who asks for it sets MYNETWORK_REAL_API too, so that it cannot be left out unseen.
func TestRealServer(t *testing.T) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		if os.Getenv("MYNETWORK_REAL_API") != "" {
			t.Fatal("MYNETWORK_REAL_API is set, and KUBEBUILDER_ASSETS names no programs")
		}
		t.Skip("no API server: KUBEBUILDER_ASSETS is not set")
	}
	api := serve(t)
	n := 0
	registrytest.Run(t, func(*testing.T) (a, b base.Store) {
		n++
		opt := registry.Options{API: api, Network: "net", UID: types.UID(fmt.Sprintf("uid-%d", n))}
		return registry.New(opt), registry.New(opt)
	})
	t.Run("NameRace", func(t *testing.T) {
		for _, order := range []uint64{0, 0b1010101010, 0b0101010101, 0b0011001100, 0b1100110011, 0b0000011111} {
			n++
			ok(t, nameRace(api, types.UID(fmt.Sprintf("uid-%d", n)), order, 10, func(a registry.API) registry.API { return a }))
		}
	})
}
