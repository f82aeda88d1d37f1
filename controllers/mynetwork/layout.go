package mynetwork

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/failover"
	"mynetwork.io/mynetwork/controllers/status"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// MinLayoutPeriod is the least time between two layouts: each one is fetched by every node of the network. Of many nodes it is longer.
const MinLayoutPeriod = 10 * time.Second

// reportTime bounds what a layout costs the API server: each member reports that it holds its share of it, so that a thousand of them are
// given 20 seconds, of 50 writes each.
const reportTime = 20 * time.Millisecond

// layoutPeriod is the least time between two layouts of so many members.
func layoutPeriod(members int) time.Duration {
	return max(MinLayoutPeriod, time.Duration(members)*reportTime)
}

// JoinQuiet and JoinLimit say how long a layout waits for nodes that have not said yet what they store: until none has joined for the
// one time, and no node for longer than the other.
const (
	JoinQuiet = 5 * time.Second
	JoinLimit = time.Minute
)

// DownAfter is how long a node is unreachable before its copies are made elsewhere, unless the network says otherwise. A node that restarts
// within it moves nothing: longer than an orderly reboot, shorter than the time in which a second loss becomes likely.
const DownAfter = 10 * time.Minute

// Grace is how long a node of a network may be unreachable before it is taken out of the layout.
func Grace(n *v1alpha1.MyNetwork) time.Duration {
	if n != nil && n.Spec.Nodes.DownAfter != nil && n.Spec.Nodes.DownAfter.Duration > 0 {
		return n.Spec.Nodes.DownAfter.Duration
	}
	return DownAfter
}

const gib = 1 << 30

// Weight is a node's share in GiB: what people set, else what its stores report. 0: not known yet.
func Weight(n *v1alpha1.StorageNode) uint64 {
	if n.Spec.Weight != nil {
		return uint64(max(*n.Spec.Weight, 1))
	}
	total, _ := Space(n)
	if total <= 0 {
		return 0
	}
	return min(uint64(max(total/gib, 1)), placement.MaxWeight)
}

// Space is a node's capacity and use in bytes, of stores that serve.
func Space(n *v1alpha1.StorageNode) (total, used int64) {
	if n.Status.Agent == nil {
		return 0, 0
	}
	for _, s := range n.Status.Agent.Stores {
		if s.State != v1alpha1.StoreServing && s.State != v1alpha1.StoreFull || s.Capacity == nil {
			continue
		}
		total += s.Capacity.Value()
		if s.Used != nil {
			used += s.Used.Value()
		}
	}
	return total, used
}

// members are the nodes of the layout, by id: those that store data and have said how much. A drained node stays a member while it
// has something to give; one that a majority can not reach for longer than Grace is down. RequeueAfter tells when a node's state changes by
// time alone; 0 is never. If more are down at once than can be believed, nobody is taken out who is not yet, and tooMany says why.
func members(s *State, storing map[string]bool) (out []placement.Node, again time.Duration, tooMany string) {
	gone, again := unreachable(s)
	tooMany = failover.TooMany(s.StorageNodes, gone)
	before := takenOut(s.Layout)
	for i := range s.StorageNodes {
		n := &s.StorageNodes[i]
		present, known := storing[n.Spec.NodeName]
		if known && !present && n.Status.LayoutVersion == 0 {
			continue // a compute-only node
		}
		w := Weight(n)
		if w == 0 {
			continue
		}
		m := placement.Node{ID: n.Spec.NodeName, Zone: n.Status.Zone, Weight: w, State: placement.Active}
		if n.Spec.Scheduling == v1alpha1.SchedulingDrained || n.DeletionTimestamp != nil || known && !present {
			m.State = placement.Draining
		}
		if slices.Contains(gone, m.ID) && (tooMany == "" || before[m.ID]) {
			m.State = placement.Down
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b placement.Node) int { return cmp.Compare(a.ID, b.ID) })
	return out, again, tooMany
}

// unreachable lists the nodes that a majority has not reached for Grace, and does not now; again is when there may be more.
func unreachable(s *State) (down []string, again time.Duration) {
	suspects := failover.Suspects(s.StorageNodes)
	for i := range s.StorageNodes {
		n := &s.StorageNodes[i]
		f := n.Status.Fencing
		if f == nil || !slices.Contains(suspects, n.Spec.NodeName) {
			continue
		}
		left := Grace(s.Network) - s.Now.Sub(f.Since.Time)
		if left <= 0 {
			down = append(down, n.Spec.NodeName)
		} else if again == 0 || left < again {
			again = left
		}
	}
	return down, again
}

// takenOut are the nodes that a layout has as down.
func takenOut(l *placement.Layout) map[string]bool {
	out := map[string]bool{}
	if l == nil {
		return out
	}
	for _, n := range l.Members() {
		if n.State == placement.Down {
			out[n.ID] = true
		}
	}
	return out
}

func zonePolicy(p v1alpha1.ZonePolicy) placement.ZonePolicy {
	switch p {
	case v1alpha1.ZonesStrict:
		return placement.ZonesStrict
	case v1alpha1.ZonesIgnore:
		return placement.ZonesIgnore
	default:
		return placement.ZonesSpread
	}
}

// DefaultCopies is on how many nodes each byte is kept, unless the network says otherwise.
const DefaultCopies = 3

func copies(n *v1alpha1.MyNetwork) int {
	if n.Spec.Volumes.Copies > 0 {
		return int(n.Spec.Volumes.Copies)
	}
	return DefaultCopies
}

// digest is SHA-256 over what a layout is computed from.
func digest(nodes []placement.Node, p placement.Params) string {
	h := sha256.New()
	fmt.Fprintf(h, "1 %d %d %d\n", p.Replicas, p.Shards, p.Zones)
	for _, n := range nodes {
		fmt.Fprintf(h, "%q %q %d %d\n", n.ID, n.Zone, n.Weight, n.State)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// joining is how long a layout waits for others that are about to join, so that a network that starts gets one layout and not one for each few
// agents. Only newcomers wait: whoever leaves, fails or is back does not. 0: there is nothing to wait for.
func joining(s *State, nodes []placement.Node, storing map[string]bool) time.Duration {
	before := map[string]placement.State{}
	if s.Layout != nil {
		for _, n := range s.Layout.Members() {
			before[n.ID] = n.State
		}
	}
	joined, fresh := map[string]bool{}, map[string]bool{}
	for _, n := range nodes {
		was, known := before[n.ID]
		if known && was != n.State {
			return 0
		}
		joined[n.ID], fresh[n.ID] = true, !known
	}
	awaited := false
	for node, stores := range storing {
		awaited = awaited || stores && !joined[node]
	}
	if !awaited {
		return 0
	}
	newest, oldest := time.Duration(0), JoinLimit
	for i := range s.StorageNodes {
		n := &s.StorageNodes[i]
		if !fresh[n.Spec.NodeName] {
			continue
		}
		since, quiet := n.CreationTimestamp.Time, JoinQuiet
		if c := meta.FindStatusCondition(n.Status.Conditions, v1alpha1.ConditionReady); c != nil {
			since = c.LastTransitionTime.Time
			if c.Status == metav1.ConditionTrue {
				quiet = JoinQuiet - s.Now.Sub(since)
			}
		}
		newest, oldest = max(newest, quiet), min(oldest, JoinLimit-s.Now.Sub(since))
	}
	return max(min(newest, oldest), 0)
}

// layout decides whether a new layout is due. It returns the present status when none is.
func layout(s *State, storing map[string]bool) (next *placement.Layout, st *v1alpha1.LayoutStatus, wrong *status.Outcome, again time.Duration) {
	nodes, again, tooMany := members(s, storing)
	params := placement.Params{Replicas: copies(s.Network), Zones: zonePolicy(s.Network.Spec.Volumes.Zones)}
	present := s.Network.Status.Layout
	sum := digest(nodes, params)
	if present != nil && present.MembersDigest == sum {
		if tooMany != "" {
			wrong = new(status.OutcomeStalled(v1alpha1.ReasonTooManyDead, "no node is taken out of the layout: %s", tooMany))
		}
		return nil, present, wrong, again
	}
	if active := slices.ContainsFunc(nodes, func(n placement.Node) bool { return n.State == placement.Active }); !active {
		if present == nil {
			return nil, nil, new(status.OutcomeProgressing(v1alpha1.ReasonAgentsNotReady, "waits for agents: no node has reported a store yet")), again
		}
		return nil, present, new(status.OutcomeStalled(v1alpha1.ReasonNoNodes, "no node is left to hold data, and the layout stays as it is. "+
			"Set spec.scheduling of a StorageNode back to Active, or add nodes")), again
	}
	if left := joining(s, nodes, storing); left > 0 {
		return nil, present, new(status.OutcomeProgressing(v1alpha1.ReasonAgentsNotReady, "waits for agents: %d nodes are there to store data, and more are starting", len(nodes))), left
	}
	if present != nil {
		period := layoutPeriod(len(nodes))
		if left := period - s.Now.Sub(present.Published.Time); left > 0 {
			return nil, present, new(status.OutcomeProgressing(v1alpha1.ReasonProgressing, "the members changed; the next layout comes in %s at the latest", period)), left
		}
		if s.Layout == nil {
			return nil, present, new(status.OutcomeProgressing(v1alpha1.ReasonLayoutUnavailable, "the body of layout %d can not be fetched from any agent; "+
				"without it no new one is made, because all data would move", present.Version)), MinLayoutPeriod
		}
	}
	next, err := placement.Compute(nodes, params, s.Layout)
	if err != nil {
		return nil, present, new(layoutError(err, s.Network)), again
	}
	hash := next.Hash()
	return next, &v1alpha1.LayoutStatus{Version: int64(next.Version()), Hash: hex.EncodeToString(hash[:]), MembersDigest: sum,
		Published: metav1.NewTime(s.Now.Truncate(time.Second))}, nil, again
}

func layoutError(err error, n *v1alpha1.MyNetwork) status.Outcome {
	if errors.Is(err, placement.ErrZones) {
		return status.OutcomeStalled(v1alpha1.ReasonTooFewZones, "there are fewer zones than the %d copies, and volumes.zones is Strict. Add nodes in other zones "+
			"(label %s), or write volumes.zones: Spread", copies(n), "topology.kubernetes.io/zone")
	}
	return status.OutcomeStalled(v1alpha1.ReasonInvalidSpec, "no layout can be made: %s", strings.TrimSpace(err.Error()))
}
