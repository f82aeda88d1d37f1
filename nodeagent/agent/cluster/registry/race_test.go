package registry_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/agent/cluster/apitest"
	"mynetwork.io/mynetwork/nodeagent/agent/cluster/registry"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	base "mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/registry/registrytest"
)

type client = ctrl.Object

// serve starts a real API server for a test.
func serve(t *testing.T) registry.API {
	t.Helper()
	env := &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join("..", "..", "..", "..", "config", "crd")}, ErrorIfCRDPathMissing: true,
		ControlPlaneStartTimeout: 2 * time.Minute, ControlPlaneStopTimeout: time.Minute}
	config, err := env.Start()
	ok(t, err)
	t.Cleanup(func() { ok(t, env.Stop()) })
	config.QPS = -1
	scheme := runtime.NewScheme()
	ok(t, v1alpha1.AddToScheme(scheme))
	c, err := ctrl.New(config, ctrl.Options{Scheme: scheme})
	ok(t, err)
	return c
}

// stepped is an API whose every call waits for its turn.
type stepped struct {
	registry.API
	arrived chan bool // true: before a call; false: the operation has ended
	turn    chan struct{}
	free    chan struct{} // closed: no turns any more
}

func newStepped(api registry.API) *stepped {
	return &stepped{API: api, arrived: make(chan bool, 1), turn: make(chan struct{}), free: make(chan struct{})}
}

func (s *stepped) wait() {
	select {
	case <-s.free:
		return
	default:
	}
	s.arrived <- true
	select {
	case <-s.turn:
	case <-s.free:
	}
}

func (s *stepped) Get(ctx context.Context, k ctrl.ObjectKey, o client, opts ...ctrl.GetOption) error {
	s.wait()
	return s.API.Get(ctx, k, o, opts...)
}

func (s *stepped) List(ctx context.Context, l ctrl.ObjectList, opts ...ctrl.ListOption) error {
	s.wait()
	return s.API.List(ctx, l, opts...)
}

func (s *stepped) Create(ctx context.Context, o client, opts ...ctrl.CreateOption) error {
	s.wait()
	return s.API.Create(ctx, o, opts...)
}

func (s *stepped) Update(ctx context.Context, o client, opts ...ctrl.UpdateOption) error {
	s.wait()
	return s.API.Update(ctx, o, opts...)
}

func (s *stepped) Delete(ctx context.Context, o client, opts ...ctrl.DeleteOption) error {
	s.wait()
	return s.API.Delete(ctx, o, opts...)
}

// interleave runs two operations on one API; their calls take turns as order says, bit by bit: 0 the first's, 1 the second's.
func interleave(api registry.API, uid types.UID, order uint64, bits int, ops [2]func(s *base.Store) error) (errs [2]error) {
	var wg sync.WaitGroup
	var at [2]*stepped
	var over [2]bool
	for i := range ops {
		at[i] = newStepped(api)
		wg.Go(func() {
			s := base.Store(openAs(at[i], uid))
			errs[i] = ops[i](&s)
			select {
			case <-at[i].free:
			case at[i].arrived <- false:
			}
		})
		over[i] = !<-at[i].arrived
	}
	for b := range bits {
		i := order >> b & 1
		if over[i] {
			continue
		}
		at[i].turn <- struct{}{}
		over[i] = !<-at[i].arrived
	}
	close(at[0].free)
	close(at[1].free)
	wg.Wait()
	return errs
}

// blind is an API that lists nothing: a maker that does not look.
type blind struct{ registry.API }

func (blind) List(context.Context, ctrl.ObjectList, ...ctrl.ListOption) error { return nil }

// nameRace has two agents make a volume of one name in one interleaving of their calls. It fails unless exactly one succeeds and the
// other leaves nothing.
func nameRace(api registry.API, uid types.UID, order uint64, bits int, wrap func(registry.API) registry.API) error {
	create := func(n byte) func(*base.Store) error {
		return func(st *base.Store) error {
			r := registrytest.Record(n)
			r.Name = "one"
			return (*st).Create(r)
		}
	}
	errs := interleave(wrap(api), uid, order, bits, [2]func(*base.Store) error{create(1), create(2)})
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, base.ErrExists) {
			return err
		}
	}
	list, err := openAs(api, uid).List()
	var objects v1alpha1.VolumeRecordList
	err = errors.Join(err, api.List(context.Background(), &objects, ctrl.MatchingLabels{v1alpha1.LabelNetworkUID: string(uid)}))
	if err != nil || won != 1 || len(list) != 1 || len(objects.Items) != 1 {
		return fmt.Errorf("%d makers succeeded (%v, %v), %d records of %d objects: %w", won, errs[0], errs[1], len(list), len(objects.Items), err)
	}
	if i := list[0].ID[0] - 1; errs[i] != nil {
		return fmt.Errorf("maker %d was told %v, and its record is there", i, errs[i])
	}
	return nil
}

// TestNameRace goes through all interleavings of the calls of two makers of one name. The control is a maker that does not look.
func TestNameRace(t *testing.T) {
	const bits = 10
	for order := range uint64(1) << bits {
		if err := nameRace(apitest.New(), uid, order, bits, func(a registry.API) registry.API { return a }); err != nil {
			t.Fatalf("order %0*b: %v", bits, order, err)
		}
	}
	if nameRace(apitest.New(), uid, 0b0101, bits, func(a registry.API) registry.API { return blind{a} }) == nil {
		t.Fatal("makers that do not look are not noticed")
	}
}

// TestCloneRace goes through all interleavings of a clone and the deletion of its parent, or of its snapshot: never is there a live clone of
// what is gone.
func TestCloneRace(t *testing.T) {
	const bits = 11
	remove := map[string]func(r *base.Record) error{
		"volume":   func(r *base.Record) error { r.Deletion = &base.Deletion{At: 5, Signed: []byte("x")}; return nil },
		"snapshot": func(r *base.Record) error { r.Snapshots[0].Dying = true; return nil },
	}
	for name, remove := range remove {
		outcomes := map[string]int{}
		for order := range uint64(1) << bits {
			s := apitest.New()
			parent := registrytest.Record(1)
			parent.Snapshots = []base.Snapshot{{ID: [16]byte{9}, Name: "s"}}
			ok(t, open(s).Create(parent))
			errs := interleave(s, uid, order, bits, [2]func(*base.Store) error{
				func(st *base.Store) error {
					c := registrytest.Record(2)
					c.Parent, c.Snapshot = parent.ID, [16]byte{9}
					return (*st).Create(c)
				},
				func(st *base.Store) error {
					_, err := (*st).Update(parent.ID, remove)
					return err
				},
			})
			p, err := open(s).Get(parent.ID)
			ok(t, err)
			_, cerr := open(s).Get(block.VolumeID{2})
			gone := !p.Live() || p.Snapshots[0].Dying
			switch {
			case cerr == nil && gone:
				t.Fatalf("%s, order %0*b: a live clone of what is gone: %v", name, bits, order, errs)
			case (errs[0] == nil) != (cerr == nil) || (errs[1] == nil) != gone:
				t.Fatalf("%s, order %0*b: told %v, clone %v, gone %v", name, bits, order, errs, cerr, gone)
			case cerr == nil:
				want(t, errs[1], base.ErrClones)
				outcomes["clone"]++
			case gone:
				want(t, errs[0], base.ErrDeleted)
				outcomes["gone"]++
			default:
				outcomes["neither"]++
			}
		}
		t.Logf("%s: %v", name, outcomes)
		if outcomes["clone"] == 0 || outcomes["gone"] == 0 {
			t.Errorf("%s: %v: one of the outcomes never came", name, outcomes)
		}
	}
}

// TestManyMakers lets many agents make one name at once.
func TestManyMakers(t *testing.T) {
	s := apitest.New()
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for n := range byte(16) {
		wg.Go(func() {
			r := registrytest.Record(n + 1)
			r.Name = "one"
			err := open(s).Create(r)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, base.ErrExists) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 || len(s.Objects()) != 1 {
		t.Fatalf("%d makers succeeded, %d objects", won, len(s.Objects()))
	}
}
