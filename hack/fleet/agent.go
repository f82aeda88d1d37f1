package fleet

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/hack/apiserver"
)

// fieldOwner is the agents' name in managed fields, as in nodeagent/agent/cluster.
const fieldOwner = client.FieldOwner("mynetwork-agent")

// report writes what an agent has to say, if that is new.
func (f *Fleet) report(ctx context.Context, name string) error {
	f.mu.Lock()
	n := f.nodes[name]
	if n == nil || n.down || n.object == "" {
		f.mu.Unlock()
		return nil
	}
	if f.o.Enrols && !n.certified {
		pod, asked := n.pods[f.o.Network+"-agent"], n.asked != ""
		f.mu.Unlock()
		if !pod || asked {
			return nil // its pod or its certificate brings it here again
		}
		return f.enrol(ctx, n)
	}
	st := &n.status
	if s := &st.Stores[0]; s.State == v1alpha1.StoreNew && n.granted == s.ID {
		s.State, s.Capacity, s.Used = v1alpha1.StoreServing, resource.NewQuantity(capacity, resource.BinarySI), resource.NewQuantity(0, resource.BinarySI)
	}
	st.SyncedVersion, st.InPlaceVersion = f.layout, f.layout
	if n.drained {
		st.Copies = 0
	}
	now, object, c := st.DeepCopy(), n.object, n.client
	same := reflect.DeepEqual(n.sent, now)
	f.mu.Unlock()
	if same {
		return nil
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(now)
	if err != nil {
		return err
	}
	u := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"agent": fields}}}
	u.SetGroupVersionKind(v1alpha1.GroupVersion().WithKind("StorageNode"))
	u.SetName(object)
	if err := c.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(u), fieldOwner, client.ForceOwnership); err != nil {
		return client.IgnoreNotFound(err)
	}
	f.mu.Lock()
	n.sent = now
	f.mu.Unlock()
	return nil
}

// guard makes a guard pod ready, as the kubelet of its node would.
func (f *Fleet) guard(ctx context.Context, name string) error {
	p := &corev1.Pod{}
	if err := f.s.Admin.Get(ctx, client.ObjectKey{Namespace: apiserver.Namespace, Name: name}, p); err != nil || ready(p) {
		return client.IgnoreNotFound(err)
	}
	before := p.DeepCopy()
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	return client.IgnoreNotFound(f.s.Admin.Status().Patch(ctx, p, client.MergeFrom(before)))
}

// perSlice is how many endpoints Kubernetes puts into one EndpointSlice.
const perSlice = 100

// daemons does what Kubernetes' controllers do with a DaemonSet: a pod on each node, a status, and the Service's EndpointSlices.
func (f *Fleet) daemons(ctx context.Context, name string) error {
	d := &appsv1.DaemonSet{}
	if err := f.s.Admin.Get(ctx, client.ObjectKey{Namespace: apiserver.Namespace, Name: name}, d); err != nil {
		return client.IgnoreNotFound(err)
	}
	f.mu.Lock()
	var nodes []*node
	for _, n := range f.nodes {
		nodes = append(nodes, n)
	}
	f.mu.Unlock()
	slices.SortFunc(nodes, func(a, b *node) int { return compare(a.name, b.name) })
	for _, n := range nodes {
		if f.runs(n, d.Name, false) {
			continue
		}
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: d.Name + "-" + n.name, Namespace: d.Namespace, Labels: d.Spec.Template.Labels}, Spec: *d.Spec.Template.Spec.DeepCopy()}
		p.Spec.NodeName = n.name
		if err := f.s.Admin.Create(ctx, p); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		f.runs(n, d.Name, true)
	}
	if d.Labels[v1alpha1.LabelComponent] == "agent" {
		for i := 0; i*perSlice < len(nodes); i++ {
			if err := f.slice(ctx, d.Name, i, nodes[i*perSlice:min(len(nodes), (i+1)*perSlice)]); err != nil {
				return err
			}
		}
	}
	before := d.DeepCopy()
	d.Status.ObservedGeneration, d.Status.DesiredNumberScheduled, d.Status.NumberReady = d.Generation, int32(len(nodes)), int32(len(nodes))
	if equality.Semantic.DeepEqual(before.Status, d.Status) {
		return nil
	}
	return client.IgnoreNotFound(f.s.Admin.Status().Patch(ctx, d, client.MergeFrom(before)))
}

// runs tells whether a node has the pod of a DaemonSet, and notes it when it was just made.
func (f *Fleet) runs(n *node, daemon string, made bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if made {
		n.pods[daemon] = true
		f.queue.Add(agentWork + n.name)
	}
	return n.pods[daemon]
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (f *Fleet) slice(ctx context.Context, service string, number int, nodes []*node) error {
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", service, number), Namespace: apiserver.Namespace}}
	err := f.s.Admin.Get(ctx, client.ObjectKeyFromObject(s), s)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	missing, before := apierrors.IsNotFound(err), s.DeepCopy()
	s.Labels = map[string]string{discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: "fleet"}
	s.AddressType = discoveryv1.AddressTypeIPv4
	s.Ports = []discoveryv1.EndpointPort{{Name: new("control"), Port: new(f.o.Port)}, {Name: new("peer"), Port: new(int32(v1alpha1.PortPeers))}}
	s.Endpoints = nil
	for _, n := range nodes {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{n.address}, NodeName: new(n.name),
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)}})
	}
	switch {
	case missing:
		return f.s.Admin.Create(ctx, s)
	case equality.Semantic.DeepEqual(before, s):
		return nil
	}
	return f.s.Admin.Update(ctx, s)
}
