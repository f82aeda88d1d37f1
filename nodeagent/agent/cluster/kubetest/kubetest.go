// Package kubetest is a Kubernetes API in memory that can be listed and watched, for tests of what follows objects. It has the
// behaviour that followers rely on: one version that rises with every change, lists of one version, and watches that go on from it. It
// selects nothing: labels and fields are the follower's to check too. And it can be away.
//
// Server is safe for concurrent use.
package kubetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/nodeagent/agent/cluster/follow"
)

// Server is an API. The zero value is not usable: see New.
type Server struct {
	mu      sync.Mutex
	rev     int
	objects map[string]client.Object // by type and key
	history []event                  // number i made version i+1
	watches map[*watch.RaceFreeFakeWatcher]string
	down    bool
}

type event struct {
	kind string
	watch.Event
}

var (
	_       follow.API = (*Server)(nil)
	errDown            = errors.New("dial tcp: connection refused")
)

// New makes an empty API.
func New() *Server {
	return &Server{objects: map[string]client.Object{}, watches: map[*watch.RaceFreeFakeWatcher]string{}}
}

func kindOf(o any) string { return strings.TrimSuffix(fmt.Sprintf("%T", o), "List") }

func keyOf(o client.Object) string {
	return kindOf(o) + " " + client.ObjectKeyFromObject(o).String()
}

// Put makes an object, or replaces it.
func (s *Server) Put(o client.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := watch.Modified
	if s.objects[keyOf(o)] == nil {
		t = watch.Added
	}
	s.store(t, o.DeepCopyObject().(client.Object))
}

// Change changes an object that is there.
func (s *Server) Change(o client.Object, change func(client.Object)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.objects[keyOf(o)].DeepCopyObject().(client.Object)
	change(next)
	s.store(watch.Modified, next)
}

// Delete removes an object.
func (s *Server) Delete(o client.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(watch.Deleted, s.objects[keyOf(o)].DeepCopyObject().(client.Object))
}

// Read copies an object that is there; false: it is not.
func (s *Server) Read(o client.Object) (client.Object, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.objects[keyOf(o)]
	if have == nil {
		return nil, false
	}
	return have.DeepCopyObject().(client.Object), true
}

// store notes a change. The caller holds the lock.
func (s *Server) store(t watch.EventType, o client.Object) {
	s.rev++
	o.SetResourceVersion(strconv.Itoa(s.rev))
	if t == watch.Deleted {
		delete(s.objects, keyOf(o))
	} else {
		s.objects[keyOf(o)] = o
	}
	e := event{kindOf(o), watch.Event{Type: t, Object: o.DeepCopyObject()}}
	s.history = append(s.history, e)
	for w, kind := range s.watches {
		if kind == e.kind {
			w.Action(t, o.DeepCopyObject())
		}
	}
}

// SetDown makes every call fail, and ends all watches; or lets calls through again.
func (s *Server) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
	if down {
		for w := range s.watches {
			w.Stop()
		}
		clear(s.watches)
	}
}

// List implements follow.API.
func (s *Server) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return errDown
	}
	var items []runtime.Object
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		if strings.HasPrefix(key, kindOf(list)+" ") {
			items = append(items, s.objects[key].DeepCopyObject())
		}
	}
	list.SetResourceVersion(strconv.Itoa(s.rev))
	return meta.SetList(list, items)
}

// Watch implements follow.API.
func (s *Server) Watch(ctx context.Context, list client.ObjectList, opts ...client.ListOption) (watch.Interface, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errDown
	}
	var o client.ListOptions
	o.ApplyOptions(opts)
	from, err := strconv.Atoi(o.Raw.ResourceVersion)
	if err != nil {
		return nil, fmt.Errorf("watch from version %q: %w", o.Raw.ResourceVersion, err)
	}
	w := watch.NewRaceFreeFake()
	for _, e := range s.history[from:] {
		if e.kind == kindOf(list) {
			w.Action(e.Type, e.Object.DeepCopyObject())
		}
	}
	s.watches[w] = kindOf(list)
	context.AfterFunc(ctx, func() {
		w.Stop()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watches, w)
	})
	return w, nil
}
