package kube

import (
	"errors"
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/csi/node"
	"mynetwork.io/mynetwork/csi/request"
)

const (
	uid       = "0f0e0d0c-1111-2222-3333-444455556666"
	namespace = "mynetwork-system"
)

func source(t *testing.T, objects ...client.Object) *Source {
	t.Helper()
	s, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(s).WithObjects(objects...).Build()
	out := &Source{opt: Options{Namespace: namespace, Slices: true}, known: c, direct: c, changed: make(chan struct{}, 1)}
	out.synced.Store(true)
	return out
}

func network(name, uid string) *v1alpha1.MyNetwork {
	return &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid)}}
}

func TestName(t *testing.T) {
	s := source(t, network("main", uid), network("other", "1f0e0d0c-1111-2222-3333-444455556666"))
	if name, ok, err := s.Name(t.Context(), uid); name != "main" || !ok || err != nil {
		t.Errorf("%q, %v, %v", name, ok, err)
	}
	if name, ok, err := s.Name(t.Context(), "none"); ok || err != nil {
		t.Errorf("of nothing: %q, %v, %v", name, ok, err)
	}
	s.synced.Store(false)
	if _, _, err := s.Name(t.Context(), uid); !errors.Is(err, ErrNotYet) || !errors.Is(err, request.ErrNetwork) {
		t.Errorf("before anything was heard: %v", err)
	}
}

func endpoint(node, address string, terminating bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{NodeName: &node, Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Terminating: &terminating}}
}

func slice(name, service, ns string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		Ports:     []discoveryv1.EndpointPort{{Name: new("peer"), Port: new(int32(7400))}, {Name: new("control"), Port: new(int32(7401))}},
		Endpoints: endpoints}
}

// Addresses come from all slices of the network's service; of two agents of a node, the one that does not end counts.
func TestAddresses(t *testing.T) {
	s := source(t,
		slice("a", "main-agent", namespace, endpoint("n1", "10.0.0.1", true), endpoint("n2", "10.0.0.2", false), discoveryv1.Endpoint{Addresses: []string{"10.0.0.9"}}),
		slice("b", "main-agent", namespace, endpoint("n1", "10.0.0.3", false), endpoint("n3", "fd00::1", true), endpoint("n2", "10.0.0.8", true)),
		slice("c", "other-agent", namespace, endpoint("n1", "10.9.9.9", false)),
		slice("d", "main-agent", "default", endpoint("n1", "10.9.9.9", false)))
	want := map[string]string{"n1": "10.0.0.3:7401", "n2": "10.0.0.2:7401", "n3": "[fd00::1]:7401"}
	if got, err := s.Addresses(t.Context(), "main"); err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestChosen(t *testing.T) {
	s := source(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"disk": "yes"}}})
	n := network("main", uid)
	check := func(node string, want bool) {
		t.Helper()
		if got, err := s.Chosen(t.Context(), n, node); got != want || err != nil {
			t.Errorf("node %s: %v, %v", node, got, err)
		}
	}
	check("n1", true) // no selector chooses all
	n.Spec.Nodes.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"disk": "yes"}}
	check("n1", true)
	n.Spec.Nodes.Selector.MatchLabels["disk"] = "no"
	check("n1", false)
	if _, err := s.Chosen(t.Context(), n, "n2"); err == nil {
		t.Error("a node that is not there was judged")
	}
}

// The event of a volume is about the claim that the provisioner named it for.
func TestClaim(t *testing.T) {
	r := claim(node.Notice{Claim: request.Claim{Namespace: "shop", Name: "data", Volume: "pvc-" + uid}})
	if r.Kind != "PersistentVolumeClaim" || r.Namespace != "shop" || r.Name != "data" || r.UID != uid {
		t.Errorf("got %+v", r)
	}
	if r := claim(node.Notice{Claim: request.Claim{Namespace: "shop", Name: "data", Volume: "by-hand"}}); r.UID != "" {
		t.Errorf("got %+v", r)
	}
}
