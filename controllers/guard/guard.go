package guard

import (
	"fmt"
	"slices"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// Node is what a decision needs to know of one storage node.
type Node struct {
	Name   string // of the StorageNode
	Empty  bool   // holds no data, or is no storage node
	Ready  bool   // its agent serves, and no peer misses it
	Synced bool   // holds its share of the present layout, and misses no copy
	Last   bool   // holds data that has no other copy
	Guard  bool   // its guard pod runs and is ready
}

// Budget is what a network's disruption budget is to be.
type Budget struct {
	Guarded      []string // StorageNodes that have a guard pod
	MinAvailable int32
	Open         bool
	Reason       string // why it is closed; empty if it is open
}

// Decide says who is guarded, and whether one of them may go now. A cordon alone closes nothing: a drain cordons first, and would then
// wait for itself. Of two drains the eviction that comes first closes the budget for the other.
func Decide(nodes []Node) Budget {
	var b Budget
	waits := ""
	for _, n := range nodes {
		if n.Empty {
			continue
		}
		b.Guarded = append(b.Guarded, n.Name)
		if w := n.waits(); w != "" && waits == "" {
			waits = fmt.Sprintf("%s %s", n.Name, w)
		}
	}
	slices.Sort(b.Guarded)
	b.MinAvailable = int32(len(b.Guarded))
	switch {
	case len(b.Guarded) == 0:
		b.Reason = "no node holds data"
	case len(b.Guarded) == 1:
		b.Reason = "there is only one node with data"
	case waits != "":
		b.Reason = waits
	default:
		b.Open = true
		b.MinAvailable--
	}
	return b
}

// waits says why no node may go as long as this one is as it is.
func (n *Node) waits() string {
	switch {
	case !n.Ready:
		return "does not serve"
	case !n.Guard:
		return "was evicted, or its guard is not ready yet"
	case !n.Synced:
		return "does not hold all of its copies yet"
	case n.Last:
		return "holds data that has no other copy"
	}
	return ""
}

// Of describes a StorageNode. layout is the version of the present layout, 0 if there is none.
func Of(n *v1alpha1.StorageNode, layout int64, guardReady bool) Node {
	a := n.Status.Agent
	out := Node{Name: n.Name, Guard: guardReady}
	if a == nil {
		out.Empty = n.Status.LayoutVersion == 0
		return out
	}
	out.Empty = len(a.Stores) == 0 || a.Copies == 0 && n.Spec.Scheduling == v1alpha1.SchedulingDrained
	out.Ready = a.Ready && n.Status.Fencing == nil
	out.Synced = a.SyncedVersion >= layout && a.MissingCopies == 0
	out.Last = a.LastCopies > 0
	return out
}
