package report

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/agent/cluster/kubetest"
	"mynetwork.io/mynetwork/nodeagent/core/block"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is node a of network main, and its StorageNode.
type node struct {
	t   *testing.T
	api *kubetest.Server
	r   *Reporter

	mu         sync.Mutex
	status     v1alpha1.AgentStatus
	writes     int
	fail       error
	remembered []string
	granted    []string
	refuse     error // of grants to format
	members    []string
	scrubs     []time.Time
}

func (n *node) Remember(path string, id block.StoreID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.remembered = append(n.remembered, path+"="+id.String())
	return nil
}

func (n *node) Grant(id block.StoreID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.granted = append(n.granted, id.String())
	return n.refuse
}

func (n *node) apply(_ context.Context, name string, st *v1alpha1.AgentStatus) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		return n.fail
	}
	if name != "main.a" {
		n.t.Errorf("a report for %s", name)
	}
	n.writes++
	n.api.Change(object(), func(o client.Object) { o.(*v1alpha1.StorageNode).Status.Agent = st.DeepCopy() })
	return nil
}

func object() *v1alpha1.StorageNode {
	return &v1alpha1.StorageNode{ObjectMeta: metav1.ObjectMeta{Name: "main.a"}, Spec: v1alpha1.StorageNodeSpec{Network: "main", NodeName: "a"}}
}

func (n *node) set(f func()) {
	n.mu.Lock()
	f()
	n.mu.Unlock()
}

// run runs f beside a reporter, in a bubble of time.
func run(t *testing.T, f func(n *node)) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{t: t, api: kubetest.New()}
		n.status = v1alpha1.AgentStatus{Ready: true, Stores: []v1alpha1.StoreStatus{
			{ID: strings.Repeat("0a", 16), Path: "/s", State: v1alpha1.StoreServing, Capacity: resource.NewQuantity(100<<30, resource.BinarySI), Used: resource.NewQuantity(7, resource.BinarySI)}}}
		n.r = New(Options{API: n.api, Network: "main", Node: "a", Apply: n.apply, Stores: n, Log: slog.New(slog.DiscardHandler),
			Scrub:   func(t time.Time) { n.set(func() { n.scrubs = append(n.scrubs, t) }) },
			Collect: func() v1alpha1.AgentStatus { n.mu.Lock(); defer n.mu.Unlock(); return *n.status.DeepCopy() },
			Member: func(_ context.Context, encoded []byte) error {
				n.mu.Lock()
				defer n.mu.Unlock()
				n.members = append(n.members, string(encoded))
				if string(encoded) == "forged" {
					return errors.New("not signed")
				}
				return nil
			}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = n.r.Run(ctx)
		}()
		f(n)
		cancel()
		<-done
	})
}

// pass lets time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (n *node) wrote() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.writes
	n.writes = 0
	return w
}

func (n *node) there() *v1alpha1.AgentStatus {
	o, _ := n.api.Read(object())
	return o.(*v1alpha1.StorageNode).Status.Agent
}

// TestQuiet: changes are written at once, those that come together as one, figures seldom, and nothing else.
func TestQuiet(t *testing.T) {
	run(t, func(n *node) {
		pass(time.Minute)
		if n.wrote() != 0 {
			t.Fatal("a report without a StorageNode")
		}
		other := object()
		other.Name, other.Spec.NodeName = "main.b", "b"
		n.api.Put(other)
		n.api.Put(object())
		pass(10 * time.Second)
		if w := n.wrote(); w != 1 || !n.there().Ready {
			t.Fatalf("%d writes at the beginning", w)
		}
		pass(time.Hour)
		if w := n.wrote(); w != 0 {
			t.Errorf("%d writes at rest", w)
		}
		n.set(func() { n.status.Unreachable = []string{"b"} })
		n.r.Changed()
		pass(Debounce / 2)
		n.set(func() { n.status.Unreachable = []string{"b", "c"} })
		n.r.Changed()
		if w := n.wrote(); w != 0 {
			t.Errorf("%d writes before the changes are together", w)
		}
		pass(Debounce)
		if w := n.wrote(); w != 1 || len(n.there().Unreachable) != 2 {
			t.Errorf("%d writes for two changes that came together", w)
		}
		n.set(func() { n.status.Unreachable = nil }) // nobody said so
		pass(3 * time.Second)
		if w := n.wrote(); w != 1 || len(n.there().Unreachable) != 0 {
			t.Errorf("%d writes for a change that was not told", w)
		}
		n.set(func() { n.status.LeavingVolumes = []string{"0"} })
		pass(3 * time.Second)
		if w := n.wrote(); w != 1 || len(n.there().LeavingVolumes) != 1 {
			t.Errorf("%d writes for a node that begins to wait", w)
		}
		figures := func(f func(i int)) (writes int) { // that change all the time, for ten minutes
			for i := range 120 {
				n.set(func() {
					n.status.Copies++
					n.status.Stores[0].Used.Add(resource.MustParse("1"))
					f(i)
				})
				n.r.Changed()
				pass(5 * time.Second)
			}
			return n.wrote()
		}
		n.set(func() { n.status.LeavingVolumes = nil })
		pass(3 * time.Second)
		n.wrote()
		if w := figures(func(int) {}); w < 1 || w > 3 {
			t.Errorf("%d writes of figures in ten minutes", w)
		}
		moving := int(10 * time.Minute / Moving)
		for what, f := range map[string]func(int){
			"copies leave":      func(i int) { n.status.LeavingVolumes = []string{strconv.Itoa(i)} },
			"copies are made":   func(int) { n.status.MissingCopies++ },
			"a scrub finds":     func(int) { n.status.Stores[0].ErrorsFound++ },
			"a scrub has ended": func(i int) { n.status.Stores[0].LastScrubbed.Time = time.Unix(int64(i+1), 0) },
		} {
			if w := figures(f); w < moving*3/4 || w > moving+3 {
				t.Errorf("%d writes of figures in ten minutes while %s, want about %d", w, what, moving)
			}
			n.set(func() { n.status.LeavingVolumes, n.status.MissingCopies = nil, 0 })
			pass(10 * time.Second)
			n.wrote()
		}
	})
}

// TestLost: what was not written is written later; a report that is gone, or another one, is written anew.
func TestLost(t *testing.T) {
	run(t, func(n *node) {
		n.set(func() { n.fail = errors.New("connection refused") })
		n.api.Put(object())
		pass(10 * time.Minute)
		n.set(func() { n.fail = nil })
		pass(2 * retryMax)
		if w := n.wrote(); w != 1 {
			t.Fatalf("%d writes after the API came back", w)
		}
		n.api.Delete(object())
		pass(10 * time.Second)
		n.api.Put(object())
		pass(10 * time.Second)
		if w := n.wrote(); w != 1 || n.there() == nil {
			t.Errorf("%d writes for an object made anew", w)
		}
		n.api.Change(object(), func(o client.Object) { o.(*v1alpha1.StorageNode).Status.Agent.Ready = false })
		pass(10 * time.Second)
		if w := n.wrote(); w != 1 || !n.there().Ready {
			t.Errorf("%d writes for a report that was changed by others", w)
		}
	})
}

// TestFormer: the former report is remembered before the first new one, but for stores that were only offered.
func TestFormer(t *testing.T) {
	run(t, func(n *node) {
		o := object()
		o.Status.Agent = &v1alpha1.AgentStatus{Stores: []v1alpha1.StoreStatus{
			{ID: strings.Repeat("0b", 16), Path: "/s", State: v1alpha1.StoreFull}, {ID: strings.Repeat("0c", 16), Path: "/t", State: v1alpha1.StoreNew}}}
		n.api.Put(o)
		pass(5 * time.Second)
		n.set(func() {
			if len(n.remembered) != 1 || n.remembered[0] != "/s="+strings.Repeat("0b", 16) {
				t.Errorf("remembered are %v", n.remembered)
			}
		})
		if n.wrote() != 1 {
			t.Error("no report")
		}
		n.api.Change(object(), func(o client.Object) { // our own report comes back, and a fault of others with it: it is no memory
			o.(*v1alpha1.StorageNode).Status.Agent.Stores[0].ID = strings.Repeat("0d", 16)
		})
		pass(5 * time.Second)
		n.set(func() {
			if len(n.remembered) != 1 {
				t.Errorf("remembered are %v", n.remembered)
			}
		})
	})
}

// TestFormatGrant: what is granted is formatted, again until it works or is not granted any more.
func TestFormatGrant(t *testing.T) {
	run(t, func(n *node) {
		id := strings.Repeat("0e", 16)
		n.set(func() { n.refuse = errors.New("the disk is read-only") })
		o := object()
		o.Status.FormatGrant = id
		n.api.Put(o)
		pass(time.Minute)
		n.set(func() {
			if len(n.granted) < 3 || n.granted[0] != id {
				t.Errorf("granted are %v", n.granted)
			}
			n.granted, n.refuse = nil, nil
		})
		pass(time.Minute)
		n.set(func() {
			if len(n.granted) != 1 {
				t.Errorf("granted are %v", n.granted)
			}
		})
		n.api.Change(object(), func(o client.Object) { o.(*v1alpha1.StorageNode).Status.FormatGrant = "no id" })
		pass(time.Minute)
		n.set(func() {
			if len(n.granted) != 1 {
				t.Errorf("granted are %v", n.granted)
			}
		})
	})
}

func TestMemberGrant(t *testing.T) {
	run(t, func(n *node) {
		for _, g := range []string{"one", "one", "forged", "two"} {
			o := object()
			o.Status.MemberGrant = []byte(g)
			n.api.Put(o)
			pass(5 * time.Second)
		}
		n.set(func() {
			if got := strings.Join(n.members, " "); !strings.HasPrefix(got, "one forged") || !strings.HasSuffix(got, "two") || strings.Count(got, "one") != 1 {
				t.Errorf("grants %q", got)
			}
		})
	})
}

// TestScrubAsked: a time that has passed is handed on; one that is yet to come, and what is no time, is not.
func TestScrubAsked(t *testing.T) {
	run(t, func(n *node) {
		past := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
		for _, text := range []string{"", "now", time.Now().Add(time.Hour).Format(time.RFC3339), past.Format(time.RFC3339)} {
			o := object()
			o.Annotations = map[string]string{v1alpha1.AnnotationScrub: text}
			n.api.Put(o)
			pass(5 * time.Second)
		}
		n.set(func() {
			if len(n.scrubs) == 0 || slices.ContainsFunc(n.scrubs, func(t time.Time) bool { return !t.Equal(past) }) {
				t.Errorf("asked for scrubs since %v, want %v alone", n.scrubs, past)
			}
		})
	})
}
