package mynetwork

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/status"
)

// DefaultWarning is the use in percent from which CapacityLow is True, unless the network says otherwise.
const DefaultWarning = 90

// critical is 1.2 times the warning, at most 95 percent.
func critical(warning int64) int64 { return min(warning*12/10, 95) }

// count fills in the numbers of a status.
func count(s *State, st *v1alpha1.MyNetworkStatus, nodes []corev1.Node, storing map[string]bool) {
	st.Nodes = v1alpha1.NodeCounts{Wanted: int32(len(nodes))}
	if s.Agents != nil {
		st.Nodes.Ready = min(s.Agents.Status.NumberReady, st.Nodes.Wanted)
	}
	for _, stores := range storing {
		if stores {
			st.Nodes.Storage++
		}
	}
	st.Nodes.Summary = fmt.Sprintf("%d/%d", st.Nodes.Ready, st.Nodes.Wanted)
	st.Volumes = int32(len(s.Records))
	st.LastCopies = 0
	var total, used int64
	for i := range s.StorageNodes {
		n := &s.StorageNodes[i]
		t, u := Space(n)
		total, used = total+t, used+u
		if n.Status.Agent != nil && n.Status.Agent.LastCopies > 0 {
			st.LastCopies++
		}
	}
	st.Capacity = v1alpha1.CapacityStatus{}
	if total > 0 {
		st.Capacity = v1alpha1.CapacityStatus{Summary: Summary(total, used), Total: resource.NewQuantity(total, resource.BinarySI),
			Used: resource.NewQuantity(used, resource.BinarySI)}
	}
	st.StorageClass, st.TopologyKey = className(s.Network), topologyKey(s.Network)
}

// Summary says how full something is: "12% of 3.0Ti". Sizes are in bytes.
func Summary(total, used int64) string {
	if total <= 0 {
		return ""
	}
	return fmt.Sprintf("%.0f%% of %s", float64(used)*100/float64(total), size(total))
}

// size writes bytes for people: "3.0Ti".
func size(bytes int64) string {
	units := []string{"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"}
	v, u := float64(bytes), 0
	for v >= 1024 && u < len(units)-1 {
		v, u = v/1024, u+1
	}
	return fmt.Sprintf("%.1f%s", v, units[u])
}

// domain writes the conditions beside Ready, Reconciling and Stalled.
func domain(s *State, st *v1alpha1.MyNetworkStatus) {
	put := func(kind string, is bool, reason, format string, args ...any) {
		status.Bool(&st.Conditions, s.Network.Generation, kind, is, reason, fmt.Sprintf(format, args...), s.Now)
	}
	down, missing, behind := health(s, st.Layout)
	short := int(st.Nodes.Storage) < copies(s.Network)
	switch {
	case len(down) > 0:
		put(v1alpha1.ConditionDegraded, true, v1alpha1.ReasonNodesDown, "nodes are unreachable: %s", few(down))
	case missing > 0:
		put(v1alpha1.ConditionDegraded, true, v1alpha1.ReasonMissingCopies, "%d copies are missing and are being made", missing)
	case short:
		put(v1alpha1.ConditionDegraded, true, v1alpha1.ReasonTooFewNodes, "%d storage nodes can not hold %d copies: volumes have fewer. Add nodes, or lower volumes.copies",
			st.Nodes.Storage, copies(s.Network))
	default:
		put(v1alpha1.ConditionDegraded, false, v1alpha1.ReasonHealthy, "no node is known to be unreachable, and no copy to be missing")
	}
	if behind > 0 {
		left := ""
		if r := s.Network.Status.Rebalance; r != nil && r.Layout == st.Layout.Version {
			left = ": " + r.Summary
		}
		put(v1alpha1.ConditionRebalancing, true, v1alpha1.ReasonMovingData, "%d nodes do not hold all of layout %d yet%s", behind, st.Layout.Version, left)
	} else {
		put(v1alpha1.ConditionRebalancing, false, v1alpha1.ReasonBalanced, "nothing has to move")
	}
	capacityLow(s, st, put)
	if s.SnapshotAPI {
		groups := "; groups of snapshots need the CRDs of groupsnapshot.storage.k8s.io"
		if s.GroupSnapshotAPI != "" {
			groups = ", and a VolumeGroupSnapshotClass of that name"
		}
		put(v1alpha1.ConditionSnapshotsAvailable, true, v1alpha1.ReasonSnapshotsServed, "VolumeSnapshotClass %s%s", className(s.Network), groups)
	} else {
		put(v1alpha1.ConditionSnapshotsAvailable, false, v1alpha1.ReasonSnapshotAPIMissing,
			"the cluster has no snapshot API: install the CRDs and the controller of github.com/kubernetes-csi/external-snapshotter")
	}
}

func capacityLow(s *State, st *v1alpha1.MyNetworkStatus, put func(string, bool, string, string, ...any)) {
	warning := int64(s.Network.Spec.Storage.WarningPercent)
	if warning == 0 {
		warning = DefaultWarning
	}
	if st.Capacity.Total == nil {
		put(v1alpha1.ConditionCapacityLow, false, v1alpha1.ReasonUnknownSpace, "no node has reported its space yet")
		return
	}
	percent := int64(float64(st.Capacity.Used.Value()) * 100 / float64(st.Capacity.Total.Value()))
	const todo = "Add nodes or disks, or delete volumes and snapshots"
	full := fullNodes(s)
	switch {
	case len(full) > 0:
		put(v1alpha1.ConditionCapacityLow, true, v1alpha1.ReasonStoreFull, "disks are full on %s, and take no more writes; %s is used in all. %s", few(full), st.Capacity.Summary, todo)
	case percent >= critical(warning):
		put(v1alpha1.ConditionCapacityLow, true, v1alpha1.ReasonAboveCritical, "%s is used, critical is %d%%. %s", st.Capacity.Summary, critical(warning), todo)
	case percent >= warning:
		put(v1alpha1.ConditionCapacityLow, true, v1alpha1.ReasonAboveWarning, "%s is used, the warning is at %d%%. %s", st.Capacity.Summary, warning, todo)
	default:
		put(v1alpha1.ConditionCapacityLow, false, v1alpha1.ReasonEnoughSpace, "%s is used", st.Capacity.Summary)
	}
}

// fullNodes lists the nodes that have a disk that takes no more.
func fullNodes(s *State) (out []string) {
	for i := range s.StorageNodes {
		n := &s.StorageNodes[i]
		if n.Status.Agent != nil && slices.ContainsFunc(n.Status.Agent.Stores, func(d v1alpha1.StoreStatus) bool { return d.State == v1alpha1.StoreFull }) {
			out = append(out, n.Spec.NodeName)
		}
	}
	return out
}

// health names the unreachable nodes, and counts missing copies and nodes that do not hold their share of the layout yet. One that was taken out has
// none: all is where it belongs without it.
func health(s *State, l *v1alpha1.LayoutStatus) (down []string, missing int64, behind int) {
	out := takenOut(s.Layout)
	for i := range s.StorageNodes {
		n := &s.StorageNodes[i]
		if n.Status.Fencing != nil {
			down = append(down, n.Spec.NodeName)
		}
		a := n.Status.Agent
		if a == nil || out[n.Spec.NodeName] {
			continue
		}
		missing += a.MissingCopies
		if l != nil && a.SyncedVersion < l.Version && len(a.Stores) > 0 {
			behind++
		}
	}
	return down, missing, behind
}

// few lists at most ten names.
func few(names []string) string {
	if len(names) > 10 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:10], ", "), len(names)-10)
	}
	return strings.Join(names, ", ")
}

// activity says in a few words what the network does.
func activity(conditions []metav1.Condition, o status.Outcome, r *v1alpha1.RebalanceStatus) string {
	switch {
	case o.Kind == status.Stalled:
		return "Stalled: " + o.Reason
	case o.Kind == status.Progressing:
		return o.Reason
	case meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionRebalancing) && r != nil:
		return v1alpha1.ConditionRebalancing + ": " + r.Summary
	case meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionRebalancing):
		return v1alpha1.ConditionRebalancing
	case meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionDegraded):
		return v1alpha1.ConditionDegraded
	}
	return "Serving"
}
