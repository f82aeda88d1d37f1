package mynetwork

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// SnapshotClass is the kind of a VolumeSnapshotClass. The project does not depend on its Go types.
func SnapshotClass() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "snapshot.storage.k8s.io", Version: "v1", Kind: "VolumeSnapshotClass"}
}

// GroupSnapshotClass is the kind of a VolumeGroupSnapshotClass, in whatever version the cluster serves.
func GroupSnapshotClass() schema.GroupKind {
	return schema.GroupKind{Group: "groupsnapshot.storage.k8s.io", Kind: "VolumeGroupSnapshotClass"}
}

func className(n *v1alpha1.MyNetwork) string {
	return or(n.Spec.StorageClass.Name, "mynetwork-"+n.Name)
}

// topologyKey is the one key of a network.
func topologyKey(n *v1alpha1.MyNetwork) string { return v1alpha1.TopologyPrefix + n.Name }

func reclaim(n *v1alpha1.MyNetwork) corev1.PersistentVolumeReclaimPolicy {
	return corev1.PersistentVolumeReclaimPolicy(or(string(n.Spec.StorageClass.ReclaimPolicy), string(corev1.PersistentVolumeReclaimDelete)))
}

// storageClass carries the network and fixed facts only: a StorageClass can not be changed, what may change is in a
// VolumeAttributesClass. It is never the default class.
func storageClass(s *State) *storagev1.StorageClass {
	return &storagev1.StorageClass{
		ObjectMeta:           metav1.ObjectMeta{Name: className(s.Network), Labels: componentLabels(s, "class")},
		Provisioner:          v1alpha1.DriverName,
		Parameters:           parameters(s.Network),
		ReclaimPolicy:        new(reclaim(s.Network)),
		VolumeBindingMode:    new(storagev1.VolumeBindingWaitForFirstConsumer),
		AllowVolumeExpansion: new(true),
	}
}

func parameters(n *v1alpha1.MyNetwork) map[string]string {
	return map[string]string{v1alpha1.ParameterNetwork: n.Name, v1alpha1.ParameterNetworkUID: string(n.UID)}
}

// snapshotClasses are those of single snapshots and of groups, as far as the cluster serves them.
func snapshotClasses(s *State) (out []client.Object) {
	if s.SnapshotAPI {
		out = append(out, snapshotClass(s, SnapshotClass()))
	}
	if s.GroupSnapshotAPI != "" {
		out = append(out, snapshotClass(s, GroupSnapshotClass().WithVersion(s.GroupSnapshotAPI)))
	}
	return out
}

func snapshotClass(s *State, kind schema.GroupVersionKind) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{
		"driver":         v1alpha1.DriverName,
		"deletionPolicy": string(reclaim(s.Network)),
	}}
	u.SetGroupVersionKind(kind)
	u.SetName(className(s.Network))
	u.SetLabels(componentLabels(s, "class"))
	return u
}
