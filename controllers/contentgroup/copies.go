package contentgroup

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/agents"
	"mynetwork.io/mynetwork/controllers/mynetwork"
)

// Times until an agent is asked again.
const (
	failedAgain  = 10 * time.Second // it was away, or busy
	refusedAgain = 5 * time.Minute  // what was asked for can not be; more nodes may come
)

// maxText is the most bytes of what an agent says in a condition.
const maxText = 512

// Asked is what came of asking an agent for the copies of a group. The zero value: there was nothing to ask for.
type Asked struct {
	Done    bool   // the record will say so
	Bounds  bool   // the bounds of the group are those of the record, or were set
	Refused string // why it can not be
	Failed  string // why it is not yet
}

func (a Asked) again() time.Duration {
	switch {
	case a.Refused != "":
		return refusedAgain
	case a.Failed != "":
		return failedAgain
	}
	return 0
}

// Want says what of a record's copies differs from what its group asks for; false: nothing. It is pure. Bounds that the group has not set are left alone:
// they may be those of a VolumeAttributesClass.
func Want(g *v1alpha1.ContentGroup, rec *v1alpha1.VolumeRecord) (c agents.Copies, differs bool) {
	least, most := g.Spec.MinCopies, g.Spec.MaxCopies
	if least == nil && most == nil && g.Status.MinCopies != nil { // taken away
		least, most = new(int32(0)), new(int32(0))
	}
	if least != nil && most != nil && (*least != rec.Spec.MinCopies || *most != rec.Spec.MaxCopies) {
		c.Min, c.Max = least, most
	}
	if n := g.Spec.Copies; n != nil && *n != rec.Spec.Copies {
		c.Copies = n
	}
	return c, c != (agents.Copies{})
}

// set has an agent set what the group asks for, if that is not so.
func (r *Reconciler) set(ctx context.Context, g *v1alpha1.ContentGroup, network *v1alpha1.MyNetwork, records []v1alpha1.VolumeRecord) (Asked, error) {
	rec := recordOf(g, records)
	if network.Name == "" || rec == nil || string(network.UID) != rec.Spec.NetworkUID || network.Spec.Paused {
		return Asked{}, nil
	}
	c, differs := Want(g, rec)
	if !differs {
		return Asked{Bounds: true}, nil
	}
	if rec.Spec.MinCopies > 0 && rec.Spec.MinCopies < rec.Spec.MaxCopies && c.Copies != nil && c.Min == nil {
		return Asked{Refused: fmt.Sprintf("they follow how much the volume is read, from %d to %d, as its VolumeAttributesClass or StorageClass says: take spec.copies away, or write minCopies and maxCopies",
			rec.Spec.MinCopies, rec.Spec.MaxCopies)}, nil
	}
	other, err := r.setBefore(ctx, g)
	switch {
	case err != nil:
		return Asked{}, err
	case other != "":
		return Asked{Refused: "group " + other + " sets the copies of this claim: take them away there, or here"}, nil
	}
	err = r.Modifier.Modify(ctx, network, rec.Spec.VolumeID, rec.State.Holder, c)
	text := ""
	if err != nil {
		text = err.Error()
		text = text[:min(len(text), maxText)]
	}
	switch {
	case errors.Is(err, agents.ErrRefused):
		return Asked{Refused: text}, nil
	case err != nil:
		return Asked{Failed: text}, nil
	}
	return Asked{Done: true, Bounds: g.Spec.MinCopies != nil}, nil // bounds that were taken away are forgotten once the record has none
}

// setBefore names another group of the same claim that sets copies and comes before this one; of several, the first by name counts.
func (r *Reconciler) setBefore(ctx context.Context, g *v1alpha1.ContentGroup) (string, error) {
	var list v1alpha1.ContentGroupList
	if err := r.Client.List(ctx, &list, client.MatchingFields{mynetwork.FieldClaim: mynetwork.ClaimKey(g.Namespace, g.Spec.Claim)}); err != nil {
		return "", fmt.Errorf("groups of claim %s/%s: %w", g.Namespace, g.Spec.Claim, err)
	}
	for i := range list.Items {
		o := &list.Items[i]
		sets := o.Spec.Copies != nil || o.Spec.MinCopies != nil
		if sets && o.DeletionTimestamp == nil && o.Namespace == g.Namespace && o.Spec.Network == g.Spec.Network && o.Name < g.Name {
			return o.Name, nil
		}
	}
	return "", nil
}

// tell tells what has changed of the copies.
func (r *Reconciler) tell(before, g *v1alpha1.ContentGroup, asked Asked) {
	was, is := &before.Status, &g.Status
	if asked.Done {
		r.Events.Eventf(g, nil, corev1.EventTypeNormal, v1alpha1.EventCopiesSet, "Modify", "volume %s: copies are set to what the group says: %s", is.Volume, said(g))
	}
	if is.CopiesReason != "" && !is.CopiesChanged.Equal(&was.CopiesChanged) && was.Volume == is.Volume && was.Copies != is.Copies {
		r.Events.Eventf(g, nil, corev1.EventTypeNormal, v1alpha1.EventCopiesAdapted, "Adapt", "volume %s has %d copies instead of %d: %s", is.Volume, is.Copies, was.Copies, is.CopiesReason)
	}
}

// said is what a group says of copies.
func said(g *v1alpha1.ContentGroup) string {
	switch s := &g.Spec; {
	case s.MinCopies != nil && s.MaxCopies != nil:
		return fmt.Sprintf("%d to %d, by how much it is read", *s.MinCopies, *s.MaxCopies)
	case s.Copies != nil:
		return fmt.Sprint(*s.Copies)
	}
	return "no bounds"
}
