package storagenode

import (
	"fmt"
	"slices"
	"strings"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/controllers/status"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// A node that goes takes its copies along, and its voice in the recovery of volumes. Copies are counted; voices are not: a journal that was
// begun under an older layout names the node although it holds nothing, and asks it when the volume is taken over. So a node goes only when
// the present layout has taken all data from it, and every node says that with this layout all volumes that are open there were in place
// (then no journal names it) and that it lacks no copy (what wardens judge of volumes that nobody has open).

// wait is why a node can not leave yet; the zero value: it can.
type wait struct{ reason, why string }

// leave says why the node can not leave the network yet.
func (r *report) leave() wait {
	s, n := r.state, r.node
	a := n.Status.Agent
	switch {
	case s.Network == nil, s.Network.DeletionTimestamp != nil && s.Records == 0, a == nil && n.Status.LayoutVersion == 0:
		return wait{}
	case a == nil:
		return wait{v1alpha1.ReasonLastCopies, "its agent has not said what it holds"}
	case a.LastCopies > 0:
		return wait{v1alpha1.ReasonLastCopies, fmt.Sprintf("%d pieces of data have no other copy%s%s. Bring the node back until they are copied. If it is lost for ever, and so is this data, "+
			"remove the finalizer %s", a.LastCopies, r.of(a.LastVolumes), r.others(), v1alpha1.Finalizer)}
	case !r.dead && a.Copies > 0:
		return wait{v1alpha1.ReasonDraining, fmt.Sprintf("%d copies are still here and move away%s%s", a.Copies, r.of(a.LeavingVolumes), r.others())}
	case r.dead && a.Copies > 0 && !r.deadForLong():
		return wait{v1alpha1.ReasonLastCopies, fmt.Sprintf("%d copies were here when it was last heard of, and are waited for%s", a.Copies, r.others())}
	}
	if names := s.Attached[n.Spec.NodeName]; !r.dead && s.Nodes[n.Spec.NodeName] != nil && len(names) > 0 {
		return wait{v1alpha1.ReasonVolumesAttached, "volumes are attached there: " + few(names) + ". Move their pods to other nodes, as with kubectl drain"}
	}
	return r.counted()
}

// counted says who may count on the node still.
func (r *report) counted() wait {
	s, n := r.state, r.node
	if len(n.Status.Agent.Stores) == 0 && n.Status.LayoutVersion == 0 {
		return wait{} // there never was a store
	}
	is := func(format string, args ...any) wait {
		return wait{v1alpha1.ReasonVolumesNotInPlace, fmt.Sprintf(format, args...)}
	}
	l := s.Layout
	if l == nil {
		return is("the body of the present layout can not be fetched from any agent now")
	}
	if slices.ContainsFunc(l.Members(), func(m placement.Node) bool { return m.ID == n.Spec.NodeName && m.State == placement.Active }) {
		return is("layout %d puts data there; the next one will not", l.Version())
	}
	for i := range s.StorageNodes {
		o := &s.StorageNodes[i]
		a, name := o.Status.Agent, o.Spec.NodeName
		switch behind := a != nil && a.InPlaceVersion < int64(l.Version()); {
		case a == nil && o.Status.LayoutVersion == 0, r.given(o), o == n && r.dead:
		case a == nil:
			return is("the agent of %s has not said anything", name)
		case o != n && a.MissingCopies > 0:
			return is("%s waits for %d copies%s", name, a.MissingCopies, r.others())
		case o != n && len(a.Stores) > 0 && a.SyncedVersion < int64(l.Version()):
			return is("it is not known yet whether %s has all that layout %d gives it%s", name, l.Version(), r.others())
		case behind && r.dead && r.fewNodes(): // they can not be in place, and the node is no help
		case behind:
			return is("volumes that are open on %s may count on the node: they were in place with layout %d last, not with %d%s%s", name, a.InPlaceVersion, l.Version(), r.of(a.UnplacedVolumes), r.others())
		}
	}
	return wait{}
}

// drained is the outcome of a node whose data is to go.
func (r *report) drained() status.Outcome {
	a := r.node.Status.Agent
	if a.LastCopies > 0 {
		return status.OutcomeProgressing(v1alpha1.ReasonLastCopies, "%d copies are still here, and of %d of them there is no other%s%s", a.Copies, a.LastCopies, r.of(a.LastVolumes), r.others())
	}
	done := status.Outcome{Kind: status.Ready, Reason: v1alpha1.ReasonDrained, Message: "no copy is left here: the node can be shut down, and this StorageNode deleted"}
	switch w := r.leave(); w.reason {
	case "":
	case v1alpha1.ReasonVolumesAttached:
		done.Message = "no copy is left here. Before the node is shut down, and this StorageNode deleted: " + w.why
	default:
		return status.OutcomeProgressing(w.reason, "%s", w.why)
	}
	return done
}

// of names volumes that an agent told of; empty: it named none.
func (r *report) of(ids []string) string {
	var names []string
	for _, id := range ids {
		name, ok := r.state.Called[id]
		if !ok {
			name = "volume " + id
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return ", of " + few(names)
}

// takenOut tells whether a dead node has been unreachable for so long that the layout is without it.
func (r *report) takenOut() bool {
	f := r.node.Status.Fencing
	return f != nil && r.state.Now.Sub(f.Since.Time) >= mynetwork.Grace(r.state.Network)
}

// deadForLong tells whether a dead node has been unreachable for so long that others have made its copies again, if they say so.
func (r *report) deadForLong() bool {
	f := r.node.Status.Fencing
	return f != nil && r.state.Now.Sub(f.Since.Time) >= 2*mynetwork.Grace(r.state.Network)
}

// given tells whether a node has been given up: nobody waits for what it says. A volume that was open there is taken over, and then another
// node speaks for it, or it is looked after as one that nobody uses.
func (r *report) given(o *v1alpha1.StorageNode) bool {
	f := o.Status.Fencing
	return o != r.node && f != nil && r.state.Now.Sub(f.Since.Time) >= mynetwork.Grace(r.state.Network)
}

// fewNodes tells whether there are fewer nodes that take data than copies of a volume.
func (r *report) fewNodes() bool {
	active := 0
	for _, m := range r.state.Layout.Members() {
		if m.State == placement.Active {
			active++
		}
	}
	return active < r.state.Copies
}

// others says what other nodes still miss, and which volumes that concerns as far as it is known.
func (r *report) others() string {
	missing := int64(0)
	for i := range r.state.StorageNodes {
		if o := &r.state.StorageNodes[i]; o.Name != r.node.Name && o.Status.Agent != nil {
			missing += o.Status.Agent.MissingCopies
		}
	}
	out := ""
	if missing > 0 {
		out = fmt.Sprintf("; other nodes still wait for %d copies", missing)
	}
	if len(r.state.Short) > 0 {
		out += "; volumes with too few copies: " + few(r.state.Short)
	}
	return out
}

// maxShort is how many volumes a message names.
const maxShort = 5

// few lists at most maxShort names.
func few(names []string) string {
	if n := len(names) - maxShort; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxShort], ", "), n)
	}
	return strings.Join(names, ", ")
}
