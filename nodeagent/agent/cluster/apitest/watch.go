package apitest

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// watcher is one watch. Events that its reader does not take in time end it, as a real server does.
type watcher struct {
	out  chan watch.Event
	name string // of the one object; empty: all
	once sync.Once
	stop func()
}

const watchDepth = 256

// ResultChan implements watch.Interface.
func (w *watcher) ResultChan() <-chan watch.Event { return w.out }

// Stop implements watch.Interface.
func (w *watcher) Stop() { w.stop() }

func (w *watcher) end() { w.once.Do(func() { close(w.out) }) }

// Watch implements client.WithWatch: what is there comes first, as added.
func (s *Server) Watch(ctx context.Context, _ client.ObjectList, opts ...client.ListOption) (watch.Interface, error) {
	if err := s.enter(ctx, "watch", nil); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var o client.ListOptions
	o.ApplyOptions(opts)
	w := &watcher{out: make(chan watch.Event, watchDepth)}
	if o.FieldSelector != nil {
		w.name, _ = o.FieldSelector.RequiresExactMatch("metadata.name")
	}
	w.stop = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watches, w)
		w.end()
	}
	s.watches[w] = true
	for _, have := range s.objects {
		s.send(w, watch.Added, have)
	}
	context.AfterFunc(ctx, w.stop)
	return w, nil
}

// tell sends an event to whom it concerns. The caller holds the lock.
func (s *Server) tell(t watch.EventType, o *v1alpha1.VolumeRecord) {
	for w := range s.watches {
		s.send(w, t, o)
	}
}

func (s *Server) send(w *watcher, t watch.EventType, o *v1alpha1.VolumeRecord) {
	if w.name != "" && w.name != o.Name {
		return
	}
	select {
	case w.out <- watch.Event{Type: t, Object: o.DeepCopy()}:
	default:
		delete(s.watches, w)
		w.end()
	}
}
