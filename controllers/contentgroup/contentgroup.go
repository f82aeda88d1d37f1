package contentgroup

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/agents"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/controllers/status"
)

// Reconciler fills in the status of groups, and has agents set the copies that groups ask for. All fields are required.
type Reconciler struct {
	Client   client.Client
	Events   events.EventRecorder
	Modifier Modifier
	Now      func() time.Time
}

// Modifier has an agent change the copies of a volume; *agents.Agents is one.
type Modifier interface {
	Modify(ctx context.Context, n *v1alpha1.MyNetwork, volumeID, holder string, c agents.Copies) error
}

var _ Modifier = (*agents.Agents)(nil)

// SetupWithManager starts the controller. The manager's cache has to have the index of mynetwork.AddIndexes.
func (r *Reconciler) SetupWithManager(m ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(m).Named("contentgroup").For(&v1alpha1.ContentGroup{}).
		Watches(&v1alpha1.VolumeRecord{}, handler.EnqueueRequestsFromMapFunc(r.groupsOf)).Complete(r)
}

// groupsOf lists the groups that show a record.
func (r *Reconciler) groupsOf(ctx context.Context, o client.Object) (out []reconcile.Request) {
	rec, ok := o.(*v1alpha1.VolumeRecord)
	if !ok || rec.Spec.Claim == nil {
		return nil
	}
	var list v1alpha1.ContentGroupList
	claim := client.MatchingFields{mynetwork.FieldClaim: mynetwork.ClaimKey(rec.Spec.Claim.Namespace, rec.Spec.Claim.Name)}
	if err := r.Client.List(ctx, &list, claim); err != nil {
		return nil // the resync comes
	}
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return out
}

// Reconcile fills in the status of one group.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	g := &v1alpha1.ContentGroup{}
	if err := r.Client.Get(ctx, req.NamespacedName, g); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if g.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	network := &v1alpha1.MyNetwork{}
	err := r.Client.Get(ctx, client.ObjectKey{Name: g.Spec.Network}, network)
	if err != nil && !apierrors.IsNotFound(err) {
		return ctrl.Result{}, err
	}
	var records v1alpha1.VolumeRecordList
	if g.Spec.Claim != "" {
		if err := r.Client.List(ctx, &records, client.MatchingFields{mynetwork.FieldClaim: mynetwork.ClaimKey(g.Namespace, g.Spec.Claim)}); err != nil {
			return ctrl.Result{}, err
		}
		records.Items = slices.DeleteFunc(records.Items, func(v v1alpha1.VolumeRecord) bool { return v.Spec.Network != g.Spec.Network })
	}
	asked, err := r.set(ctx, g, network, records.Items)
	if err != nil {
		return ctrl.Result{}, err
	}
	want := Compute(g, network.Name != "", records.Items, asked, r.Now())
	result := ctrl.Result{RequeueAfter: asked.again()}
	if equality.Semantic.DeepEqual(g.Status, want) {
		return result, nil
	}
	before := g.DeepCopy()
	g.Status = want
	if err := r.Client.Status().Patch(ctx, g, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("status of group %s: %w", req, err)
	}
	r.tell(before, g, asked)
	return result, nil
}

// Compute makes the status of a group. It is pure. asked is what came of asking an agent for the group's copies.
func Compute(g *v1alpha1.ContentGroup, network bool, records []v1alpha1.VolumeRecord, asked Asked, now time.Time) v1alpha1.ContentGroupStatus {
	st := *g.Status.DeepCopy()
	st.Volume, st.Copies, st.StateCount, st.Used, st.States, st.CopiesReason, st.CopiesChanged = "", 0, 0, nil, nil, "", metav1.Time{}
	if asked.Bounds {
		st.MinCopies, st.MaxCopies = g.Spec.MinCopies, g.Spec.MaxCopies
	}
	rec := recordOf(g, records)
	if rec != nil {
		st.Volume, st.Copies, st.Used = rec.Name, rec.Spec.Copies, rec.State.Used
		st.CopiesReason, st.CopiesChanged = rec.State.CopiesReason, rec.State.CopiesChanged
		st.StateCount, st.States = states(rec)
	}
	o := outcome(g, network, rec, asked)
	status.Set(&st.Conditions, g.Generation, o, now)
	short := rec != nil && rec.State.Copies > 0 && rec.State.Copies < rec.Spec.Copies
	reason, why := v1alpha1.ReasonHealthy, "no copy is known to be missing"
	if short {
		reason, why = v1alpha1.ReasonMissingCopies, fmt.Sprintf("a part of the volume has %d of %d copies", rec.State.Copies, rec.Spec.Copies)
	}
	status.Bool(&st.Conditions, g.Generation, v1alpha1.ConditionDegraded, short, reason, why, now)
	if rec != nil && rec.State.DataLoss != "" {
		status.Bool(&st.Conditions, g.Generation, v1alpha1.ConditionDataLoss, true, v1alpha1.ReasonPossible,
			"the volume is weak and went on without all its replicas: what they alone had is not in it, see mynetwork volume tails "+rec.Spec.Name, now)
	} else {
		meta.RemoveStatusCondition(&st.Conditions, v1alpha1.ConditionDataLoss)
	}
	st.ObservedGeneration = status.Observed(g.Status.ObservedGeneration, g.Generation, o)
	return st
}

// maxStates is how many states a group lists.
const maxStates = 64

// states lists the volume and its newest snapshots, and counts all. What is kept for clones alone is nobody's any more.
func states(rec *v1alpha1.VolumeRecord) (int32, []v1alpha1.State) {
	kind := v1alpha1.StateVolume
	if rec.Spec.Parent != nil {
		kind = v1alpha1.StateClone
	}
	snaps := slices.DeleteFunc(slices.Clone(rec.State.Snapshots), func(s v1alpha1.VolumeSnapshot) bool { return s.Kept })
	slices.SortStableFunc(snaps, func(a, b v1alpha1.VolumeSnapshot) int { return b.Created.Compare(a.Created.Time) })
	size := rec.Spec.Capacity.DeepCopy()
	out := []v1alpha1.State{{ID: rec.Spec.VolumeID, Kind: kind, Name: rec.Spec.Name, Size: &size, Created: rec.Spec.Created}}
	for _, s := range snaps[:min(len(snaps), maxStates-1)] {
		out = append(out, v1alpha1.State{ID: s.ID, Kind: v1alpha1.StateSnapshot, Name: s.Name, Size: resource.NewQuantity(s.Size, resource.BinarySI), Created: s.Created})
	}
	return int32(len(snaps)) + 1, out
}

// recordOf finds the record that was made for the group's claim, in the group's own namespace.
func recordOf(g *v1alpha1.ContentGroup, records []v1alpha1.VolumeRecord) *v1alpha1.VolumeRecord {
	for i := range records {
		c := records[i].Spec.Claim
		if records[i].State.Deletion == nil && g.Spec.Kind != v1alpha1.GroupFiles && c != nil && g.Spec.Claim != "" && c.Namespace == g.Namespace && c.Name == g.Spec.Claim {
			return &records[i]
		}
	}
	return nil
}

func outcome(g *v1alpha1.ContentGroup, network bool, rec *v1alpha1.VolumeRecord, asked Asked) status.Outcome {
	switch {
	case !network:
		return status.OutcomeStalled(v1alpha1.ReasonNetworkMissing, "there is no MyNetwork %s", g.Spec.Network)
	case g.Spec.Kind == v1alpha1.GroupFiles:
		return status.OutcomeStalled(v1alpha1.ReasonInvalidSpec, "groups of files are not built yet: write kind: Volume")
	case g.Spec.Claim == "":
		return status.OutcomeStalled(v1alpha1.ReasonInvalidSpec, "spec.claim is empty: write the name of a PersistentVolumeClaim of this namespace")
	case rec == nil:
		return status.OutcomeProgressing(v1alpha1.ReasonProgressing, "waits for the volume of claim %s", g.Spec.Claim)
	case asked.Refused != "":
		return status.OutcomeStalled(v1alpha1.ReasonInvalidSpec, "the copies of volume %s stay as they are: %s", rec.Name, asked.Refused)
	case asked.Failed != "":
		return status.OutcomeProgressing(v1alpha1.ReasonProgressing, "the copies of volume %s are not changed yet, it is tried again: %s", rec.Name, asked.Failed)
	case asked.Done:
		return status.OutcomeProgressing(v1alpha1.ReasonProgressing, "the copies of volume %s are being changed", rec.Name)
	}
	return status.OutcomeReady("shows volume " + rec.Name)
}
