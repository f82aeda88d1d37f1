package inspect

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// Facts are what was found in the API.
type Facts struct {
	Networks []v1alpha1.MyNetwork
	Nodes    []v1alpha1.StorageNode
	Records  []v1alpha1.VolumeRecord
	Groups   []v1alpha1.ContentGroup
	Kube     []corev1.Node
	Volumes  []corev1.PersistentVolume
	Claims   []corev1.PersistentVolumeClaim
	Classes  []storagev1.StorageClass
	Pods     []corev1.Pod // that mount claims, and MyNetwork's own
	Events   []corev1.Event
	Hidden   []string // what could not be read, and why
	Now      time.Time
	System   string // namespace of agents and operator
}

// Scheme knows what is read.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(s); err != nil {
		return nil, err
	}
	return s, v1alpha1.AddToScheme(s)
}

// Gather reads the API. system is the namespace of agents and operator. It fails only if the API has none of MyNetwork's types, or does
// not answer.
func Gather(ctx context.Context, c client.Reader, system string, now time.Time) (*Facts, error) {
	f := &Facts{Now: now, System: system}
	var networks v1alpha1.MyNetworkList
	if err := c.List(ctx, &networks); err != nil && !apierrors.IsForbidden(err) {
		return nil, fmt.Errorf("list MyNetworks: %w", err)
	} else if err != nil {
		f.Hidden = append(f.Hidden, fmt.Sprintf("MyNetworks: %v", err))
	}
	f.Networks = networks.Items
	var (
		nodes   v1alpha1.StorageNodeList
		records v1alpha1.VolumeRecordList
		groups  v1alpha1.ContentGroupList
		kube    corev1.NodeList
		volumes corev1.PersistentVolumeList
		claims  corev1.PersistentVolumeClaimList
		classes storagev1.StorageClassList
		pods    corev1.PodList
		events  corev1.EventList
	)
	for _, l := range []struct {
		what string
		list client.ObjectList
	}{{"StorageNodes", &nodes}, {"VolumeRecords", &records}, {"ContentGroups", &groups}, {"nodes", &kube}, {"PersistentVolumes", &volumes},
		{"PersistentVolumeClaims", &claims}, {"StorageClasses", &classes}, {"pods", &pods}, {"events", &events}} {
		if err := c.List(ctx, l.list); err != nil {
			f.Hidden = append(f.Hidden, fmt.Sprintf("%s: %v", l.what, err))
		}
	}
	f.Nodes, f.Records, f.Groups, f.Kube = nodes.Items, records.Items, groups.Items, kube.Items
	f.Volumes, f.Claims, f.Classes, f.Pods = volumes.Items, claims.Items, classes.Items, pods.Items
	f.Events = events.Items
	slices.SortStableFunc(f.Events, func(a, b corev1.Event) int { return when(&a).Compare(when(&b)) })
	slices.SortFunc(f.Records, func(a, b v1alpha1.VolumeRecord) int { return cmp.Compare(a.Name, b.Name) })
	return f, nil
}

// when is when an event last happened.
func when(e *corev1.Event) time.Time {
	t := e.LastTimestamp.Time
	if e.EventTime.After(t) {
		t = e.EventTime.Time
	}
	if e.Series != nil && e.Series.LastObservedTime.After(t) {
		t = e.Series.LastObservedTime.Time
	}
	if t.IsZero() {
		t = e.CreationTimestamp.Time
	}
	return t
}

func (f *Facts) network(name string) *v1alpha1.MyNetwork {
	return find(f.Networks, func(n *v1alpha1.MyNetwork) bool { return n.Name == name })
}

// node is the node of a network on a Kubernetes node.
func (f *Facts) node(network, kube string) *v1alpha1.StorageNode {
	return find(f.Nodes, func(n *v1alpha1.StorageNode) bool { return n.Spec.Network == network && n.Spec.NodeName == kube })
}

func (f *Facts) claim(namespace, name string) *corev1.PersistentVolumeClaim {
	return find(f.Claims, func(c *corev1.PersistentVolumeClaim) bool { return c.Namespace == namespace && c.Name == name })
}

func (f *Facts) pod(namespace, name string) *corev1.Pod {
	return find(f.Pods, func(p *corev1.Pod) bool { return p.Namespace == namespace && p.Name == name })
}

// record finds a volume by the name of its record, which is its handle, its PersistentVolume's, its own, or its id.
func (f *Facts) record(name string) *v1alpha1.VolumeRecord {
	if pv := find(f.Volumes, func(v *corev1.PersistentVolume) bool { return v.Name == name }); pv != nil && pv.Spec.CSI != nil && pv.Spec.CSI.Driver == v1alpha1.DriverName {
		name = pv.Spec.CSI.VolumeHandle
	}
	return find(f.Records, func(r *v1alpha1.VolumeRecord) bool {
		return r.Name == name || r.Spec.VolumeID == name || r.Spec.Name == name && r.State.Deletion == nil
	})
}

func find[T any](list []T, is func(*T) bool) *T {
	for i := range list {
		if is(&list[i]) {
			return &list[i]
		}
	}
	return nil
}

// about are the warnings about an object, the newest last; in namespace "" of objects without one.
func (f *Facts) about(kind, namespace, name string) (out []*corev1.Event) {
	for i := range f.Events {
		e := &f.Events[i]
		o := &e.InvolvedObject
		if o.Kind == kind && o.Name == name && (o.Namespace == namespace || namespace == "" && o.Namespace == "default") && e.Type == corev1.EventTypeWarning {
			out = append(out, e)
		}
	}
	return out
}
