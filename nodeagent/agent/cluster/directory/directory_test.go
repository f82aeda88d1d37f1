package directory

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/agent/cluster/kubetest"
	"mynetwork.io/mynetwork/nodeagent/agent/layouts"
	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for what must become true, as long as the test may last.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(what)
		}
	}
}

// layout makes the layout after another one.
func layout(t *testing.T, after *placement.Layout, names ...string) *placement.Layout {
	t.Helper()
	var in []placement.Node
	for _, n := range names {
		in = append(in, placement.Node{ID: n, Weight: 1})
	}
	l, err := placement.Compute(in, placement.Params{Replicas: 1, Shards: 64}, after)
	must(t, err)
	return l
}

func body(t *testing.T, l *placement.Layout) []byte {
	t.Helper()
	b, err := l.AppendBinary(nil)
	must(t, err)
	return b
}

// node is node a of network main, with its disk.
type node struct {
	t     *testing.T
	api   *kubetest.Server
	dir   string
	uid   string
	table *members.Table
	d     *Directory

	mu     sync.Mutex
	bodies map[block.Hash][]byte // that other nodes have
	asked  []string
}

func newNode(t *testing.T) *node {
	return &node{t: t, api: kubetest.New(), dir: t.TempDir(), uid: "uid-1", bodies: map[block.Hash][]byte{}}
}

// start starts a directory as an agent does; stop ends it.
func (n *node) start() (stop func()) {
	n.t.Helper()
	files, err := layouts.Open(filepath.Join(n.dir, "layouts"))
	must(n.t, err)
	n.table = members.New("a")
	n.d = New(Options{API: n.api, Network: "main", UID: n.uid, Namespace: "ns", Node: "a", Address: "10.0.0.1:7400", Port: 7400,
		File: filepath.Join(n.dir, "directory.json"), Table: n.table, Layouts: files, Log: slog.New(slog.DiscardHandler),
		Ask: func(_ context.Context, node string, h block.Hash) ([]byte, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.asked = append(n.asked, node)
			if b := n.bodies[h]; b != nil {
				return b, nil
			}
			return nil, layouts.ErrNotFound
		}})
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.d.Run(ctx)
	}()
	return func() { cancel(); <-done }
}

func (n *node) give(l *placement.Layout) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bodies[l.Hash()] = body(n.t, l)
}

func network(uid string, l *placement.Layout) *v1alpha1.MyNetwork {
	n := &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: "main", UID: "uid-1"}}
	if uid != "" {
		n.UID = types.UID(uid)
	}
	if l != nil {
		h := l.Hash()
		n.Status.Layout = &v1alpha1.LayoutStatus{Version: int64(l.Version()), Hash: hex.EncodeToString(h[:])}
	}
	return n
}

func slice(name string, at map[string]string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "main-agent"}},
		AddressType: discoveryv1.AddressTypeIPv4}
	for node, addr := range at {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{NodeName: &node, Addresses: []string{addr}})
	}
	return s
}

func (n *node) names() (out []string) {
	for _, x := range n.table.Nodes() {
		out = append(out, x.Name)
	}
	return out
}

func (n *node) address(of string) string {
	addr, _ := n.table.Address(of)
	return addr
}

// TestLayout: a layout comes into use when the MyNetwork names it, from a node that has its body.
func TestLayout(t *testing.T) {
	n := newNode(t)
	defer n.start()()
	first := layout(t, nil, "a", "b")
	n.api.Put(network("", nil))
	n.api.Put(slice("s1", map[string]string{"a": "10.0.0.1", "b": "10.0.0.2"}))
	other := slice("other", map[string]string{"x": "10.0.0.9"})
	other.Labels[discoveryv1.LabelServiceName] = "another-agent"
	n.api.Put(other)
	until(t, "addresses", func() bool { return n.address("b") == "10.0.0.2:7400" })
	if !slices.Equal(n.names(), []string{"a", "b"}) || n.table.Version() != 0 {
		t.Fatalf("nodes %v, layout %d", n.names(), n.table.Version())
	}
	must(t, n.d.Put(body(t, first))) // given, not named
	if n.table.Version() != 0 {
		t.Error("a layout that nobody named is in use")
	}
	n.table.Heard("b", nil)
	second := layout(t, first, "a", "b", "c")
	n.give(second)
	n.api.Put(network("", second))
	until(t, "the second layout", func() bool { return n.table.Version() == second.Version() })
	if _, err := n.d.Get(second.Hash()); err != nil {
		t.Errorf("others can not get it here: %v", err)
	}
	n.api.Put(network("", first)) // the API went back
	n.api.Put(slice("s2", map[string]string{"d": "10.0.0.4"}))
	until(t, "a second slice", func() bool { return n.address("d") != "" })
	if n.table.Version() != second.Version() {
		t.Error("an older layout came into use")
	}
}

// TestForged: a body that has not the named hash, or another version, is not used.
func TestForged(t *testing.T) {
	first := layout(t, nil, "a", "b")
	wrong := network("", first)
	wrong.Status.Layout.Version = 7
	for _, c := range []struct {
		name string
		body *placement.Layout // that the other node has for the hash
		net  *v1alpha1.MyNetwork
		good bool
	}{
		{"another body", layout(t, nil, "evil"), network("", first), false},
		{"another version", first, wrong, false},
		{"a network made anew under the name", first, network("other", first), false},
		{"control", first, network("", first), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t)
			defer n.start()()
			n.api.Put(slice("s1", map[string]string{"b": "10.0.0.2"}))
			until(t, "addresses", func() bool { return n.address("b") != "" })
			n.table.Heard("b", nil)
			n.mu.Lock()
			n.bodies[first.Hash()] = body(t, c.body)
			n.mu.Unlock()
			n.api.Put(c.net)
			if c.good {
				until(t, "the layout", func() bool { return n.table.Version() == first.Version() })
				return
			}
			if c.net.UID == network("", first).UID {
				until(t, "b is asked", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return len(n.asked) > 0 })
			}
			n.api.Put(slice("s2", map[string]string{"c": "10.0.0.3"}))
			until(t, "c", func() bool { return n.address("c") != "" })
			if n.table.Version() != 0 {
				t.Errorf("layout %d is in use", n.table.Version())
			}
		})
	}
}

// TestAway: with the API away, a started agent knows layout and addresses, and follows again when it is back.
func TestAway(t *testing.T) {
	n := newNode(t)
	stop := n.start()
	first := layout(t, nil, "a", "b")
	must(t, n.d.Put(body(t, first)))
	n.api.Put(network("", first))
	n.api.Put(slice("s1", map[string]string{"b": "10.0.0.2", "c": "10.0.0.3"}))
	saved := func() bool { // the file of the last change, not one of layout or addresses alone
		b, _ := os.ReadFile(filepath.Join(n.dir, "directory.json"))
		return bytes.Contains(b, []byte(`"version":1`)) && bytes.Contains(b, []byte("10.0.0.2:7400")) && bytes.Contains(b, []byte("10.0.0.3:7400"))
	}
	until(t, "the file", saved)
	stop()
	n.api.SetDown(true)
	stop = n.start()
	if n.table.Version() != 1 || n.address("b") != "10.0.0.2:7400" || n.address("c") != "10.0.0.3:7400" {
		t.Fatalf("after a restart: layout %d, nodes %v", n.table.Version(), n.table.Nodes())
	}
	n.api.Put(slice("s1", map[string]string{"b": "10.0.0.22"}))
	n.api.SetDown(false)
	until(t, "the new address", func() bool { return n.address("b") == "10.0.0.22:7400" })
	stop()
	must(t, os.WriteFile(filepath.Join(n.dir, "directory.json"), []byte("{"), 0o600)) // control: nothing is known from it
	n.api.SetDown(true)
	stop = n.start()
	defer stop()
	if n.table.Version() != 0 || !slices.Equal(n.names(), []string{"a"}) {
		t.Errorf("a damaged file tells of layout %d, nodes %v", n.table.Version(), n.names())
	}
}

// TestGone: a MyNetwork and a Service that are gone take no member away.
func TestGone(t *testing.T) {
	n := newNode(t)
	defer n.start()()
	first := layout(t, nil, "a", "b")
	must(t, n.d.Put(body(t, first)))
	n.api.Put(network("", first))
	n.api.Put(slice("s1", map[string]string{"b": "10.0.0.2", "c": "10.0.0.3"}))
	until(t, "all", func() bool { return n.table.Version() == 1 && n.address("c") != "" })
	n.api.Delete(network("", nil))
	n.api.Delete(slice("s1", nil))
	until(t, "c is forgotten", func() bool { return n.address("c") == "" })
	if n.table.Version() != 1 || n.address("b") != "10.0.0.2:7400" {
		t.Errorf("layout %d, b at %q", n.table.Version(), n.address("b"))
	}
}

func TestAddresses(t *testing.T) {
	yes, no := true, false
	one, two := "n1", "n2"
	set := map[client.ObjectKey]client.Object{}
	for name, s := range map[string]*discoveryv1.EndpointSlice{
		"s1": {AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{
			{NodeName: &one, Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Terminating: &yes, Serving: &yes}},
			{NodeName: &one, Addresses: []string{"10.0.0.2"}, Conditions: discoveryv1.EndpointConditions{Serving: &no}},
			{Addresses: []string{"10.0.0.3"}}, {NodeName: &two}}},
		"s2": {AddressType: discoveryv1.AddressTypeIPv6, Endpoints: []discoveryv1.Endpoint{{NodeName: &two, Addresses: []string{"fd00::1"}}}},
		"s3": {AddressType: discoveryv1.AddressTypeFQDN, Endpoints: []discoveryv1.Endpoint{{NodeName: &one, Addresses: []string{"example.com"}}}},
	} {
		set[client.ObjectKey{Name: name}] = s
	}
	got := addresses(set, 7400)
	if len(got) != 2 || got["n1"] != "10.0.0.2:7400" || got["n2"] != "[fd00::1]:7400" {
		t.Errorf("%v", got)
	}
	if _, err := parseHash("ab"); err == nil || errors.Is(err, layouts.ErrNotFound) {
		t.Errorf("%v", err)
	}
}
