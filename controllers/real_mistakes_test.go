//go:build envtest

package controllers_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/hack/apiserver"
	"mynetwork.io/mynetwork/hack/fleet"
)

// warned waits for a warning about an object, with a condition's reason, that has some words.
func (w *world) warned(object, reason, words string) {
	w.t.Helper()
	w.until("a warning "+reason+" about "+object, func(ctx context.Context) error {
		var list eventsv1.EventList
		if err := w.s.Admin.List(ctx, &list); err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Regarding.Name == object && e.Reason == reason && e.Type == corev1.EventTypeWarning && strings.Contains(e.Note, words) {
				return nil
			}
		}
		return fmt.Errorf("%d events, none of these", len(list.Items))
	})
}

// wrong waits until a condition says what is wrong, with words of what to do, and an event says it too.
func (w *world) wrong(o client.Object, kind string, value metav1.ConditionStatus, reason, todo string) {
	w.t.Helper()
	if m := w.is(o, kind, value, reason); !strings.Contains(m, todo) {
		w.t.Errorf("%s %s: %q does not say %q", o.GetName(), reason, m, todo)
	}
	w.warned(o.GetName(), reason, todo)
}

// TestRealWrongNetworks: networks that can not work say why, and leave what works alone.
func TestRealWrongNetworks(t *testing.T) {
	w := newWorld(t, "first", 3)
	w.operate(&apiserver.Tap{})
	n := w.served()
	for name, c := range map[string]struct {
		spec         v1alpha1.MyNetworkSpec
		reason, todo string
	}{
		// The same nodes by other words, which no admission policy can tell.
		"over": {v1alpha1.MyNetworkSpec{Storage: v1alpha1.StorageSpec{Path: "/srv/first"}, Nodes: v1alpha1.NodesSpec{Selector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: fleet.Label, Operator: metav1.LabelSelectorOpIn, Values: []string{"first"}}}}}}, v1alpha1.ReasonPathInUse, "Write another storage.path"},
		"nobody": {v1alpha1.MyNetworkSpec{Storage: v1alpha1.StorageSpec{Path: "/srv/nobody"}, Nodes: v1alpha1.NodesSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"no": "node"}}}},
			v1alpha1.ReasonNoNodes, "Label nodes, write another nodes.selector"},
	} {
		bad := &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: c.spec}
		w.must("network", w.s.Admin.Create(t.Context(), bad))
		t.Cleanup(func() { w.discard(name) })
		w.wrong(bad, v1alpha1.ConditionStalled, metav1.ConditionTrue, c.reason, c.todo)
	}
	w.is(n, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
}

// TestRealFewNodes: with fewer nodes than copies a network serves, and says that copies are missing.
func TestRealFewNodes(t *testing.T) {
	w := newWorld(t, "few", 2)
	w.operate(&apiserver.Tap{})
	w.wrong(w.served(), v1alpha1.ConditionDegraded, metav1.ConditionTrue, v1alpha1.ReasonTooFewNodes, "Add nodes, or lower volumes.copies")
}

// TestRealDisks: a disk that is full, and one that is not mounted, are said on the node and, where it matters, on the network; both pass.
func TestRealDisks(t *testing.T) {
	w := newWorld(t, "disks", 3)
	w.operate(&apiserver.Tap{})
	n, node := w.served(), w.storageNode(1)
	w.f.Store(w.node(1), v1alpha1.StoreFull, "92% of the file system is used")
	w.wrong(node, v1alpha1.ConditionCapacityLow, metav1.ConditionTrue, v1alpha1.ReasonStoreFull, "Add disks or nodes")
	w.wrong(n, v1alpha1.ConditionCapacityLow, metav1.ConditionTrue, v1alpha1.ReasonStoreFull, "disks are full on disks-b")
	w.f.Store(w.node(1), v1alpha1.StoreMissing, "the directory is empty")
	w.wrong(node, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonStoreMissing, "is the disk mounted?")
	if node.Status.FormatGrant != "" {
		t.Errorf("a missing store is granted formatting: %q", node.Status.FormatGrant)
	}
	w.f.Store(w.node(1), v1alpha1.StoreServing, "")
	w.is(node, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	w.is(n, v1alpha1.ConditionCapacityLow, metav1.ConditionFalse, v1alpha1.ReasonEnoughSpace)
}

// TestRealSecrets: without its authority a network says so, makes no other and serves again when it is restored; what the operator can
// make again, it does.
func TestRealSecrets(t *testing.T) {
	w := newWorld(t, "secrets", 3)
	w.operate(&apiserver.Tap{})
	n, ctx := w.served(), t.Context()
	ca := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "secrets-authority", Namespace: namespace}}
	w.must("authority", w.s.Admin.Get(ctx, client.ObjectKeyFromObject(ca), ca))
	w.must("deletion", w.s.Admin.Delete(ctx, ca.DeepCopy()))
	w.wrong(n, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonAuthorityMissing, "Restore the Secret from a backup")
	if w.there(&corev1.Secret{ObjectMeta: ca.ObjectMeta}) {
		t.Error("another authority was made")
	}
	ca.ResourceVersion, ca.UID = "", ""
	w.must("restore", w.s.Admin.Create(ctx, ca))
	w.is(n, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	control := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ControlSecret, Namespace: namespace}}
	w.until("the CSI controller's certificates are there", func(ctx context.Context) error {
		return w.s.Admin.Get(ctx, client.ObjectKeyFromObject(control), control)
	})
	before := control.UID
	w.must("deletion", w.s.Admin.Delete(ctx, control))
	w.f.Last(w.node(0), 0)
	w.until("they are made again", func(ctx context.Context) error {
		if err := w.s.Admin.Get(ctx, client.ObjectKeyFromObject(control), control); err != nil || control.UID == before {
			return fmt.Errorf("uid %s, %v", control.UID, err)
		}
		return nil
	})
}

// TestRealClocks: a node whose clock is another than the API server's is told of.
func TestRealClocks(t *testing.T) {
	w := newWorld(t, "clocks", 3)
	for i, skew := range []time.Duration{time.Minute, -time.Minute, 0} {
		l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: w.node(i), Namespace: corev1.NamespaceNodeLease}, Spec: coordinationv1.LeaseSpec{HolderIdentity: new(w.node(i)),
			LeaseDurationSeconds: new(int32(40)), RenewTime: new(metav1.NewMicroTime(time.Now().Add(skew)))}}
		w.must("lease", w.s.Admin.Create(t.Context(), l, client.FieldOwner("kubelet")))
		t.Cleanup(func() { _ = w.s.Admin.Delete(context.Background(), l) })
	}
	w.operate(&apiserver.Tap{})
	w.served()
	w.wrong(w.storageNode(0), v1alpha1.ConditionClockSkewed, metav1.ConditionTrue, v1alpha1.ReasonClockAhead, "ahead of the API server's: have it set by NTP")
	w.wrong(w.storageNode(1), v1alpha1.ConditionClockSkewed, metav1.ConditionTrue, v1alpha1.ReasonClockBehind, "behind the API server's: have it set by NTP")
	w.is(w.storageNode(2), v1alpha1.ConditionClockSkewed, metav1.ConditionFalse, v1alpha1.ReasonHealthy)
}

// TestRealCertificates: an agent gets a certificate for its own node, and for no other; what somebody else approved is not signed.
func TestRealCertificates(t *testing.T) {
	w := newWorld(t, "certs", 3)
	w.operate(&apiserver.Tap{})
	w.served()
	own, err := w.f.Enrol(t.Context(), w.node(0), w.node(0))
	w.must("request", err)
	w.signed(own, true)
	other, err := w.f.Enrol(t.Context(), w.node(0), w.node(1))
	w.must("request", err)
	w.warned(other, v1alpha1.EventCertificateDenied, "a pod on this node may ask for")
	w.signed(other, false)
}

// TestRealDrain: a node is drained by its spec, comes back, and goes; each change of the members is another layout.
func TestRealDrain(t *testing.T) {
	w := newWorld(t, "drain", 4)
	w.operate(&apiserver.Tap{})
	n, node := w.served(), w.storageNode(3)
	schedule := func(to v1alpha1.Scheduling) {
		w.must("schedule", w.s.Admin.Patch(t.Context(), node, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"scheduling":%q}}`, to))))
	}
	w.f.Use(w.node(3), 1<<30, 5)
	schedule(v1alpha1.SchedulingCordoned)
	w.is(node, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonCordoned)
	before := n.Status.Layout.Version
	schedule(v1alpha1.SchedulingDrained)
	w.is(node, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonDrained)
	w.until("a layout without it is published", func(ctx context.Context) error {
		if err := w.s.Admin.Get(ctx, client.ObjectKeyFromObject(n), n); err != nil || n.Status.Layout.Version <= before {
			return fmt.Errorf("layout %d, %v", n.Status.Layout.Version, err)
		}
		return nil
	})
	w.must("deletion", w.s.Admin.Delete(t.Context(), node))
	w.until("the node is made anew, without data", func(ctx context.Context) error {
		now := w.storageNode(3)
		if err := w.s.Admin.Get(ctx, client.ObjectKeyFromObject(now), now); err != nil || now.UID == node.UID {
			return fmt.Errorf("%s %v", now.UID, err)
		}
		return nil
	})
}
