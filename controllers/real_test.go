//go:build envtest

package controllers_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers"
	"mynetwork.io/mynetwork/controllers/status"
	"mynetwork.io/mynetwork/hack/apiserver"
	"mynetwork.io/mynetwork/hack/fleet"
)

// The tests of this file and of real_*_test.go share one API server, which has what config/ installs. Each has a network, nodes and
// an operator of its own; the operator has the rights of the chart alone.

const namespace = apiserver.Namespace

// patience is how long anything is waited for; no test asserts on less.
const patience = 2 * time.Minute

var shared struct {
	*apiserver.Server
	kstatus
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		s, err := apiserver.Start(ctx, "..")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer s.Stop()
		shared.Server = s
		var all sync.WaitGroup
		for _, l := range []client.ObjectList{&v1alpha1.MyNetworkList{}, &v1alpha1.StorageNodeList{}, &v1alpha1.ContentGroupList{}} {
			all.Go(func() { shared.look(ctx, s.Admin, l) })
		}
		code := m.Run()
		cancel()
		all.Wait()
		if shared.seen < 100 && code == 0 && !partial() {
			fmt.Fprintf(os.Stderr, "only %d statuses were checked\n", shared.seen)
			return 1
		}
		for _, v := range shared.wrong {
			fmt.Fprintln(os.Stderr, "kstatus:", v)
			code = 1
		}
		fmt.Printf("%d statuses were held against kstatus\n", shared.seen)
		return code
	}())
}

// partial tells whether only some of the tests run.
func partial() bool {
	return !slices.Contains([]string{"", "TestReal"}, flag.Lookup("test.run").Value.String())
}

// kstatus holds every status that is ever written against the rules.
type kstatus struct {
	mu    sync.Mutex
	seen  int
	wrong []string
}

func (k *kstatus) look(ctx context.Context, c client.WithWatch, list client.ObjectList) {
	for ctx.Err() == nil {
		w, err := c.Watch(ctx, list.DeepCopyObject().(client.ObjectList))
		if err != nil {
			continue
		}
		for e := range w.ResultChan() {
			if e.Type == watch.Added || e.Type == watch.Modified {
				k.check(e.Object.(client.Object))
			}
		}
	}
}

func (k *kstatus) check(o client.Object) {
	var conditions []metav1.Condition
	var observed int64
	switch o := o.(type) {
	case *v1alpha1.MyNetwork:
		conditions, observed = o.Status.Conditions, o.Status.ObservedGeneration
	case *v1alpha1.StorageNode:
		conditions, observed = o.Status.Conditions, o.Status.ObservedGeneration
	case *v1alpha1.ContentGroup:
		conditions, observed = o.Status.Conditions, o.Status.ObservedGeneration
	}
	if len(conditions) == 0 {
		return // nobody has looked at it yet
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen++
	// Of a generation that was not acted upon, Ready may still be True; kstatus itself says "in progress" then.
	if v := status.Violations(conditions, o.GetGeneration(), observed); v != nil && observed == o.GetGeneration() {
		k.wrong = append(k.wrong, fmt.Sprintf("%T %s: %v in %+v", o, o.GetName(), v, conditions))
	}
}

// world is one test's network with its nodes.
type world struct {
	t    *testing.T
	s    *apiserver.Server
	f    *fleet.Fleet
	name string
	lead bool   // operators elect a leader
	stop func() // the operator that runs
}

// newWorld makes a world of nodes NAME-a, NAME-b, ...; the network is not made yet.
func newWorld(t *testing.T, name string, nodes int) *world {
	t.Helper()
	w := &world{t: t, s: shared.Server, name: name, stop: func() {}}
	w.f = fleet.New(w.s, fleet.Options{Network: name})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.f.Run(ctx) }()
	t.Cleanup(func() {
		w.stop()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for i := range nodes {
		w.must("node", w.f.Add(t.Context(), w.node(i)))
	}
	t.Cleanup(func() {
		for i := range nodes {
			_ = w.s.Admin.Delete(context.Background(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: w.node(i)}})
		}
	})
	return w
}

func (w *world) node(i int) string { return w.name + "-" + string(rune('a'+i)) }

// network is the one of the world: its nodes, and a path of its own.
func (w *world) network() *v1alpha1.MyNetwork {
	return &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: w.name}, Spec: v1alpha1.MyNetworkSpec{Storage: v1alpha1.StorageSpec{Path: "/srv/" + w.name},
		Nodes: v1alpha1.NodesSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{fleet.Label: w.name}}}}}
}

// operate starts an operator in the place of the one before. One that was killed may end with an error.
func (w *world) operate(tap *apiserver.Tap) {
	w.t.Helper()
	w.stop()
	w.stop = w.run(tap)
}

func (w *world) run(tap *apiserver.Tap) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if testing.Verbose() && os.Getenv("MYNETWORK_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	go func() {
		ended <- controllers.Run(ctx, tap.On(w.s.Identity("mynetwork-operator", nil)), controllers.Options{Namespace: namespace, Image: "example.org/mynetwork:1",
			MetricsAddress: "0", ProbeAddress: "0", LeaderElection: w.lead, Dial: w.f.Dial}, log)
	}()
	return sync.OnceFunc(func() {
		cancel()
		err := <-ended
		select {
		case <-tap.Killed():
		default:
			if err != nil && !errors.Is(err, context.Canceled) {
				w.t.Error(err)
			}
		}
	})
}

// until waits for what may take a while; f says what is missing.
func (w *world) until(what string, f func(ctx context.Context) error) {
	w.t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(w.t.Context(), 20*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) { last = f(ctx); return last == nil, nil })
	if err != nil {
		w.t.Fatalf("%s: %v: %v", what, err, last)
	}
}

// is waits until a condition of a MyNetwork or StorageNode has a status and a reason; it gives its message.
func (w *world) is(o client.Object, kind string, value metav1.ConditionStatus, reason string) (message string) {
	w.t.Helper()
	w.until(fmt.Sprintf("%T %s: %s %s %s", o, o.GetName(), kind, value, reason), func(ctx context.Context) error {
		if err := w.s.Admin.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		c := meta.FindStatusCondition(conditions(o), kind)
		if c == nil || c.Status != value || c.Reason != reason {
			return fmt.Errorf("it has %+v", conditions(o))
		}
		message = c.Message
		return nil
	})
	return message
}

func conditions(o client.Object) []metav1.Condition {
	switch o := o.(type) {
	case *v1alpha1.MyNetwork:
		return o.Status.Conditions
	case *v1alpha1.StorageNode:
		return o.Status.Conditions
	case *v1alpha1.ContentGroup:
		return o.Status.Conditions
	}
	return nil
}

// served makes the network and waits until it is Ready.
func (w *world) served() *v1alpha1.MyNetwork {
	w.t.Helper()
	n := w.network()
	w.must("network", w.s.Admin.Create(w.t.Context(), n))
	w.t.Cleanup(func() { w.discard(n.Name) })
	w.is(n, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	return n
}

// discard takes a network away that a test left, whatever state it is in: later tests' operators would go on with it.
func (w *world) discard(name string) {
	ctx := context.Background()
	w.stop()
	n := &v1alpha1.MyNetwork{}
	if w.s.Admin.Get(ctx, client.ObjectKey{Name: name}, n) != nil {
		return
	}
	var nodes v1alpha1.StorageNodeList
	if err := w.s.Admin.List(ctx, &nodes, client.MatchingFields{"spec.network": name}); err != nil {
		w.t.Error(err)
	}
	_ = w.s.Admin.DeleteAllOf(ctx, &v1alpha1.VolumeRecord{}, client.MatchingFields{"spec.network": name})
	free := func(o client.Object) {
		err := w.s.Admin.Patch(ctx, o, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)))
		if client.IgnoreNotFound(err) != nil {
			w.t.Error(err)
		}
	}
	before := n.DeepCopy()
	n.Status.Volumes, n.Status.LastCopies = 0, 0
	_ = w.s.Admin.Status().Patch(ctx, n, client.MergeFrom(before))
	_ = w.s.Admin.Delete(ctx, n)
	free(n)
	for i := range nodes.Items {
		_ = w.s.Admin.Delete(ctx, &nodes.Items[i])
		free(&nodes.Items[i])
	}
}

func (w *world) storageNode(i int) *v1alpha1.StorageNode {
	return &v1alpha1.StorageNode{ObjectMeta: metav1.ObjectMeta{Name: w.name + "." + w.node(i)}}
}

func (w *world) there(o client.Object) bool {
	return w.s.Admin.Get(w.t.Context(), client.ObjectKeyFromObject(o), o) == nil
}

// agent is a client with the rights of a node's agent.
func (w *world) agent(i int) client.Client {
	w.t.Helper()
	c, err := w.s.Agent(w.node(i))
	w.must("client", err)
	return c
}

// refused fails unless an error is the API server's refusal, with these words.
func (w *world) refused(what string, err error, words string) {
	w.t.Helper()
	if !(apierrors.IsForbidden(err) || apierrors.IsInvalid(err)) || !strings.Contains(err.Error(), words) {
		w.t.Errorf("%s: %v, wanted a refusal with %q", what, err, words)
	}
}

func (w *world) must(what string, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// signed waits until a certificate request is signed, or denied.
func (w *world) signed(request string, want bool) {
	w.t.Helper()
	w.until(fmt.Sprintf("request %s is signed: %t", request, want), func(ctx context.Context) error {
		csr := &certv1.CertificateSigningRequest{}
		if err := w.s.Admin.Get(ctx, client.ObjectKey{Name: request}, csr); err != nil {
			return err
		}
		if got := len(csr.Status.Certificate) > 0; got != want || len(csr.Status.Conditions) == 0 {
			return fmt.Errorf("conditions %+v", csr.Status.Conditions)
		}
		return nil
	})
}
