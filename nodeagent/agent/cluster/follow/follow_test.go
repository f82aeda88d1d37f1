package follow

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is an API with slices in it.
type server struct {
	mu      sync.Mutex
	rev     int
	objects map[string]*discoveryv1.EndpointSlice
	history []watch.Event // number i made revision i+1
	oldest  int           // watches from before are told that it is gone
	watch   *watch.RaceFreeFakeWatcher
	lists   int
	down    bool
	watched chan string // the version of each watch that begins
}

func newServer() *server {
	return &server{objects: map[string]*discoveryv1.EndpointSlice{}, watched: make(chan string, 100)}
}

func (s *server) put(t watch.EventType, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rev++
	o := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: strconv.Itoa(s.rev)}}
	if t == watch.Deleted {
		delete(s.objects, name)
	} else {
		s.objects[name] = o
	}
	s.history = append(s.history, watch.Event{Type: t, Object: o})
	if s.watch != nil {
		s.watch.Action(t, o)
	}
}

// end ends the watch, as servers do now and then; with down nothing works any more.
func (s *server) end(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
	if s.watch != nil {
		s.watch.Stop()
		s.watch = nil
	}
}

func (s *server) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists++
	if s.down {
		return errors.New("connection refused")
	}
	out := list.(*discoveryv1.EndpointSliceList)
	for _, o := range s.objects {
		out.Items = append(out.Items, *o.DeepCopy())
	}
	out.ResourceVersion = strconv.Itoa(s.rev)
	return nil
}

func (s *server) Watch(ctx context.Context, _ client.ObjectList, opts ...client.ListOption) (watch.Interface, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errors.New("connection refused")
	}
	var o client.ListOptions
	o.ApplyOptions(opts)
	from, err := strconv.Atoi(o.Raw.ResourceVersion)
	if err != nil || !o.Raw.AllowWatchBookmarks {
		return nil, errors.New("a watch has to go on from a version, with bookmarks")
	}
	w := watch.NewRaceFreeFake()
	context.AfterFunc(ctx, w.Stop)
	if from < s.oldest {
		w.Error(&metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonExpired, Code: 410})
		w.Stop()
	} else {
		for _, e := range s.history[from:] {
			w.Action(e.Type, e.Object)
		}
		s.watch = w
	}
	s.watched <- o.Raw.ResourceVersion
	return w, nil
}

// follower runs one, and gives what it hands on, as sorted names.
func follower(t *testing.T, s *server) chan string {
	got := make(chan string, 1000)
	f := &Follower{API: s, What: "slices", New: func() client.ObjectList { return &discoveryv1.EndpointSliceList{} }, Log: slog.New(slog.DiscardHandler),
		Keep: func(o client.Object) bool { return !strings.HasPrefix(o.GetName(), "not-") },
		Changed: func(set map[client.ObjectKey]client.Object) {
			var names []string
			for k := range maps.Keys(set) {
				names = append(names, k.Name)
			}
			slices.Sort(names)
			got <- strings.Join(names, " ")
		}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return got
}

func want(t *testing.T, got chan string, list ...string) {
	t.Helper()
	for _, w := range list {
		if g := <-got; g != w {
			t.Fatalf("handed on %q, want %q", g, w)
		}
	}
}

func TestFollow(t *testing.T) {
	s := newServer()
	s.put(watch.Added, "a")
	s.put(watch.Added, "not-this")
	got := follower(t, s)
	want(t, got, "a")
	<-s.watched
	s.put(watch.Added, "b")
	s.put(watch.Modified, "not-this") // is not told
	s.put(watch.Deleted, "not-this")
	s.put(watch.Modified, "a")
	s.put(watch.Deleted, "a")
	want(t, got, "a b", "a b", "b")
}

// TestWatchEnds: a watch that ends is continued from where it was, without a list and without a change missed or told twice.
func TestWatchEnds(t *testing.T) {
	s := newServer()
	got := follower(t, s)
	want(t, got, "")
	<-s.watched
	s.put(watch.Added, "a")
	want(t, got, "a")
	s.end(false)
	s.put(watch.Added, "b")
	if v := <-s.watched; v != "1" {
		t.Errorf("it goes on from version %s", v)
	}
	want(t, got, "a b")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lists != 1 {
		t.Errorf("%d lists", s.lists)
	}
}

// TestAway: an API that is away, and one that has forgotten the version, lead to a new list; nothing is handed on meanwhile.
func TestAway(t *testing.T) {
	s := newServer()
	s.put(watch.Added, "a")
	got := follower(t, s)
	want(t, got, "a")
	<-s.watched
	s.end(true)
	s.put(watch.Deleted, "a")
	s.put(watch.Added, "c")
	s.mu.Lock()
	s.oldest = s.rev
	s.mu.Unlock()
	s.end(false)
	want(t, got, "c")
	s.put(watch.Added, "d")
	want(t, got, "c d")
}
