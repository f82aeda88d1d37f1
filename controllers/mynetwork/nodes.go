package mynetwork

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// maxName is the longest name of an object.
const maxName = 253

// StorageNodeName is the name of the StorageNode of a node in a network. Names that would be too long are cut, and told apart by
// a hash.
func StorageNodeName(network, node string) string {
	name := network + "." + node
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return strings.TrimRight(name[:maxName-17], "-.") + "-" + hex.EncodeToString(sum[:8])
}

// daemonTolerations are what the DaemonSet controller adds to each pod, and our own taint: agents must run on a node that peers
// could not reach, to come back.
func daemonTolerations() []corev1.Toleration {
	t := []corev1.Toleration{{Key: v1alpha1.TaintUnreachable, Operator: corev1.TolerationOpExists}}
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeDiskPressure, corev1.TaintNodeMemoryPressure,
		corev1.TaintNodePIDPressure, corev1.TaintNodeUnschedulable, corev1.TaintNodeNetworkUnavailable} {
		t = append(t, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists})
	}
	return t
}

// chosen lists the nodes of a network by name: those that the selector chooses and that agents tolerate. An error is one of the selector.
func chosen(n *v1alpha1.MyNetwork, nodes []corev1.Node) ([]corev1.Node, error) {
	sel, err := selector(n.Spec.Nodes.Selector)
	if err != nil {
		return nil, err
	}
	tolerations := append(daemonTolerations(), n.Spec.Nodes.Tolerations...)
	var out []corev1.Node
	for _, node := range nodes {
		if sel.Matches(labels.Set(node.Labels)) && tolerates(tolerations, node.Spec.Taints) {
			out = append(out, node)
		}
	}
	slices.SortFunc(out, func(a, b corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// stores tells for each chosen node whether it stores data.
func stores(n *v1alpha1.MyNetwork, nodes []corev1.Node) (map[string]bool, error) {
	sel, err := selector(n.Spec.Nodes.Storage)
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, node := range nodes {
		out[node.Name] = sel.Matches(labels.Set(node.Labels))
	}
	return out, nil
}

// selector is the label selector, where none means all.
func selector(s *metav1.LabelSelector) (labels.Selector, error) {
	if s == nil {
		return labels.Everything(), nil
	}
	return metav1.LabelSelectorAsSelector(s)
}

func tolerates(tolerations []corev1.Toleration, taints []corev1.Taint) bool {
	for _, taint := range taints {
		if taint.Effect == corev1.TaintEffectPreferNoSchedule {
			continue
		}
		if !slices.ContainsFunc(tolerations, func(t corev1.Toleration) bool { return tolerated(t, taint) }) {
			return false
		}
	}
	return true
}

// tolerated follows the rules of the scheduler for Exists and Equal.
func tolerated(t corev1.Toleration, taint corev1.Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
		return false
	}
	return t.Operator == corev1.TolerationOpExists || t.Key != "" && t.Value == taint.Value
}

// storageNodes are the StorageNodes to make: one for each chosen node that has none. Those that are there belong to people.
func storageNodes(s *State, nodes []corev1.Node) (out []*v1alpha1.StorageNode) {
	have := map[string]bool{}
	for i := range s.StorageNodes {
		have[s.StorageNodes[i].Spec.NodeName] = true
	}
	for _, node := range nodes {
		if have[node.Name] {
			continue
		}
		out = append(out, &v1alpha1.StorageNode{
			ObjectMeta: metav1.ObjectMeta{Name: StorageNodeName(s.Network.Name, node.Name), Finalizers: []string{v1alpha1.Finalizer}},
			Spec:       v1alpha1.StorageNodeSpec{Network: s.Network.Name, NodeName: node.Name},
		})
	}
	return out
}

// pathTakenBy names an older network that uses the same directory, or one within the other, on a node of this one.
func pathTakenBy(s *State, nodes []corev1.Node) (network, node string) {
	mine := map[string]bool{}
	for _, n := range nodes {
		mine[n.Name] = true
	}
	for i := range s.Others {
		o := &s.Others[i]
		if !older(o, s.Network) || !overlap(path(o), path(s.Network)) {
			continue
		}
		theirs, err := chosen(o, s.Nodes)
		if err != nil {
			continue // that network has no agents either
		}
		for _, a := range theirs {
			if mine[a.Name] {
				return o.Name, a.Name
			}
		}
	}
	return "", ""
}

func older(a, b *v1alpha1.MyNetwork) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.Name < b.Name
}

func overlap(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}

// DefaultPath is where agents keep data, unless the network says otherwise.
const DefaultPath = "/var/lib/mynetwork"

func path(n *v1alpha1.MyNetwork) string { return or(n.Spec.Storage.Path, DefaultPath) }
