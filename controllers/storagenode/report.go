package storagenode

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/controllers/status"
)

// short is a name of a node that fits into a label and a pod's name.
func short(node string) string {
	sum := sha256.Sum256([]byte(node))
	return hex.EncodeToString(sum[:8])
}

func disruptionBudget(s *State, minAvailable int32) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: mynetwork.GuardName(s.Name), Namespace: s.Options.Namespace, Labels: labels(s)},
		Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: new(intstr.FromInt32(minAvailable)), Selector: &metav1.LabelSelector{MatchLabels: labels(s)},
			UnhealthyPodEvictionPolicy: new(policyv1.IfHealthyBudget)},
	}
}

// maxFenced is how many volumes a status lists.
const maxFenced = 4096

// report makes the status of one node.
type report struct {
	state   *State
	node    *v1alpha1.StorageNode
	dead    bool
	tooMany string
}

func (r *report) status() v1alpha1.StorageNodeStatus {
	s, n := r.state, r.node
	st := *n.Status.DeepCopy()
	kube := s.Nodes[n.Spec.NodeName]
	if kube != nil {
		st.NodeUID, st.Zone = kube.UID, kube.Labels[corev1.LabelTopologyZone]
	}
	if n.Spec.Zone != nil {
		st.Zone = *n.Spec.Zone
	}
	r.figures(&st)
	if s.Network != nil && s.Network.Status.Layout != nil && st.Weight > 0 && st.LayoutVersion == 0 {
		st.LayoutVersion = s.Network.Status.Layout.Version // and no other: each layout would cost a write of each node
	}
	st.FormatGrant = r.grant()
	switch {
	case !r.dead:
		st.Fencing = nil
	case st.Fencing == nil:
		st.Fencing = &v1alpha1.FencingStatus{Since: metav1.NewTime(s.Now.Truncate(1e9))}
	}
	if st.Fencing != nil {
		st.Fencing.Tainted = kube != nil && slices.ContainsFunc(kube.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintUnreachable })
		names := slices.Sorted(slices.Values(s.Fenced[n.Spec.NodeName]))
		st.Fencing.FencedVolumes = names[:min(len(names), maxFenced)]
	}
	o := r.outcome(kube)
	status.Set(&st.Conditions, n.Generation, o, s.Now)
	degraded, why := r.degraded()
	reason := v1alpha1.ReasonHealthy
	if degraded {
		reason = v1alpha1.ReasonMissingCopies
	}
	status.Bool(&st.Conditions, n.Generation, v1alpha1.ConditionDegraded, degraded, reason, why, s.Now)
	r.full(&st)
	r.pressure(&st)
	r.clock(&st)
	r.devices(&st)
	st.ObservedGeneration = status.Observed(n.Status.ObservedGeneration, n.Generation, o)
	return st
}

// pressure tells of what is beyond its threshold, as the agent judged it.
func (r *report) pressure(st *v1alpha1.StorageNodeStatus) {
	a := r.node.Status.Agent
	if a == nil {
		return
	}
	if len(a.Pressure) == 0 {
		status.Bool(&st.Conditions, r.node.Generation, v1alpha1.ConditionUnderPressure, false, v1alpha1.ReasonBelowThresholds, "nothing is beyond its threshold", r.state.Now)
		return
	}
	status.Bool(&st.Conditions, r.node.Generation, v1alpha1.ConditionUnderPressure, true, v1alpha1.ReasonAboveThreshold,
		"beyond its threshold: "+strings.Join(a.Pressure, ", ")+" (cpu 80%, memory 85%, disk 90%, latency to peers 1s, fewer than 3 peers that answer)", r.state.Now)
}

// devices tells of a node on which no volume can be attached.
func (r *report) devices(st *v1alpha1.StorageNodeStatus) {
	a := r.node.Status.Agent
	if a == nil {
		return
	}
	if len(a.Lacks) == 0 {
		status.Bool(&st.Conditions, r.node.Generation, v1alpha1.ConditionDevicesMissing, false, v1alpha1.ReasonHealthy, "nothing is known to be missing for volumes to be attached here", r.state.Now)
		return
	}
	reason := v1alpha1.ReasonNodeWithoutLoop
	var why []string
	for _, l := range a.Lacks {
		of, what, _ := strings.Cut(l, ": ")
		if of == v1alpha1.ReasonNodeWithoutFuse {
			reason = of
		}
		why = append(why, what)
	}
	status.Bool(&st.Conditions, r.node.Generation, v1alpha1.ConditionDevicesMissing, true, reason, strings.Join(why, "; "), r.state.Now)
}

// full tells of disks that take no more.
func (r *report) full(st *v1alpha1.StorageNodeStatus) {
	if r.node.Status.Agent == nil {
		return
	}
	for _, d := range r.node.Status.Agent.Stores {
		if d.State == v1alpha1.StoreFull {
			status.Bool(&st.Conditions, r.node.Generation, v1alpha1.ConditionCapacityLow, true, v1alpha1.ReasonStoreFull, fmt.Sprintf("the store in %s is full: it is read, and writes "+
				"go to other nodes or wait. Add disks or nodes, or delete volumes and snapshots. %s", d.Path, d.Message), r.state.Now)
			return
		}
	}
	for _, d := range r.node.Status.Agent.Stores {
		if d.Clearing == "" {
			continue
		}
		reason, why := v1alpha1.ReasonClearingSpace, "the store in %s is short of space, and gets some back (now: %s). Nothing has to be done yet"
		if d.Clearing == "Exhausted" {
			reason, why = v1alpha1.ReasonSpaceExhausted, "the store in %s is short of space, and nothing more is found that could be freed (%s). Add disks or nodes, or delete volumes and snapshots"
		}
		status.Bool(&st.Conditions, r.node.Generation, v1alpha1.ConditionCapacityLow, true, reason, fmt.Sprintf(why, d.Path, d.Clearing), r.state.Now)
		return
	}
	status.Bool(&st.Conditions, r.node.Generation, v1alpha1.ConditionCapacityLow, false, v1alpha1.ReasonEnoughSpace, "no disk is full", r.state.Now)
}

// figures fills in weight, storage and the summary.
func (r *report) figures(st *v1alpha1.StorageNodeStatus) {
	st.Weight = int64(mynetwork.Weight(r.node))
	total, used := mynetwork.Space(r.node)
	st.Summary = mynetwork.Summary(total, used)
	st.Storage = st.Weight > 0
}

func (r *report) degraded() (bool, string) {
	a := r.node.Status.Agent
	if a == nil || a.MissingCopies == 0 {
		return false, "no copy is known to be missing here"
	}
	return true, fmt.Sprintf("%d copies that belong here are still being made", a.MissingCopies)
}

// grant is the one store that may be formatted now: a new one of a node that never had any, or one that a person approved.
func (r *report) grant() string {
	n := r.node
	if n.Status.Agent == nil || n.DeletionTimestamp != nil {
		return ""
	}
	var fresh []string
	first := n.Status.LayoutVersion == 0
	for _, st := range n.Status.Agent.Stores {
		if st.State != v1alpha1.StoreNew {
			first = false
			continue
		}
		fresh = append(fresh, st.ID)
	}
	slices.Sort(fresh)
	for _, id := range fresh {
		if first && len(fresh) == 1 || slices.Contains(n.Spec.ApprovedStores, id) {
			return id
		}
	}
	return ""
}

// outcome says how the node is.
func (r *report) outcome(kube *corev1.Node) status.Outcome {
	n, a := r.node, r.node.Status.Agent
	switch {
	case r.state.Network == nil:
		return status.OutcomeStalled(v1alpha1.ReasonNetworkMissing, "there is no MyNetwork %s. Make it again, or delete this StorageNode; the data stays on the node", n.Spec.Network)
	case n.DeletionTimestamp != nil:
		if w := r.leave(); w.why != "" {
			return status.OutcomeProgressing(w.reason, "the node can not leave yet: %s", w.why)
		}
		return status.OutcomeProgressing(v1alpha1.ReasonDeleting, "nothing is left here")
	case r.dead && r.tooMany != "":
		return status.OutcomeStalled(v1alpha1.ReasonTooManyDead, "%s", r.tooMany)
	case r.dead && r.takenOut():
		return status.OutcomeProgressing(v1alpha1.ReasonTakenOut, "a majority of the storage nodes has not reached this one for more than %s: the layout is without it, and its data is made again "+
			"on the others%s. Bring the node back, and it joins by itself; if it is lost for ever, delete this StorageNode", mynetwork.Grace(r.state.Network), r.others())
	case r.dead:
		return status.OutcomeProgressing(v1alpha1.ReasonUnreachable, "a majority of the storage nodes can not reach this one. It is waited for %s, then its copies are made elsewhere",
			mynetwork.Grace(r.state.Network))
	case kube == nil:
		return status.OutcomeStalled(v1alpha1.ReasonNodeMissing, "there is no node %s. Bring it back with its disks, or delete this StorageNode to take it out of the network", n.Spec.NodeName)
	case a == nil:
		return status.OutcomeProgressing(v1alpha1.ReasonAgentMissing, "no agent has reported from this node yet. If it stays so: \"kubectl -n %s get pods -o wide\" shows its pod, and the events of MyNetwork %s what the node lacks", r.state.Options.Namespace, n.Spec.Network)
	}
	if o := r.stores(); o != nil {
		return *o
	}
	switch {
	case !a.Ready:
		return status.OutcomeProgressing(v1alpha1.ReasonAgentsNotReady, "the agent is not ready")
	case n.Spec.Scheduling == v1alpha1.SchedulingDrained:
		return r.drained()
	case n.Spec.Scheduling == v1alpha1.SchedulingCordoned:
		return status.Outcome{Kind: status.Ready, Reason: v1alpha1.ReasonCordoned, Message: "serves; nothing new is placed here"}
	}
	return status.OutcomeReady("serves")
}

// stores says what is wrong with the node's disks.
func (r *report) stores() *status.Outcome {
	for _, st := range r.node.Status.Agent.Stores {
		switch {
		case st.State == v1alpha1.StoreMissing:
			return new(status.OutcomeStalled(v1alpha1.ReasonStoreMissing, "the store %s is expected in %s and is not there: is the disk mounted? %s", st.ID, st.Path, st.Message))
		case st.State == v1alpha1.StoreQuarantined:
			return new(status.OutcomeStalled(v1alpha1.ReasonStoreFailed, "the store %s in %s failed, its data is made again from other nodes. Replace the disk, then write the id of the "+
				"new store to spec.approvedStores. %s", st.ID, st.Path, st.Message))
		case st.State == v1alpha1.StoreNew && r.grant() == "":
			return new(status.OutcomeStalled(v1alpha1.ReasonStoreMissing, "there is a new, empty store %s in %s on a node that had others. If the disk was replaced, write that id "+
				"to spec.approvedStores; if not, mount the old disk there", st.ID, st.Path))
		}
	}
	return nil
}
