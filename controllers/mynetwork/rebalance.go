package mynetwork

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// held sums up what storage nodes hold: bytes of data, copies of extents, and copies that are missing. Those that were taken out hold nothing
// that counts.
func held(s *State) (used, copies, missing int64) {
	out := takenOut(s.Layout)
	for i := range s.StorageNodes {
		n := &s.StorageNodes[i]
		if out[n.Spec.NodeName] {
			continue
		}
		used += data(n)
		if a := n.Status.Agent; a != nil {
			copies += a.Copies
			missing += a.MissingCopies
		}
	}
	return used, copies, missing
}

// data is how many bytes of data a node holds. Who does not say, as agents before that field, is taken to have all that is used.
func data(n *v1alpha1.StorageNode) (bytes int64) {
	if n.Status.Agent == nil {
		return 0
	}
	for _, s := range n.Status.Agent.Stores {
		if s.State != v1alpha1.StoreServing && s.State != v1alpha1.StoreFull {
			continue
		}
		switch {
		case s.Data != nil:
			bytes += s.Data.Value()
		case s.Used != nil:
			bytes += s.Used.Value()
		}
	}
	return bytes
}

// rebalance says what has to move to the layout that is published now, or how far that is. It changes only when agents report something else,
// not with time, so that a network at rest writes nothing.
func rebalance(s *State, next *placement.Layout, st *v1alpha1.LayoutStatus) *v1alpha1.RebalanceStatus {
	used, copies, missing := held(s)
	was := s.Network.Status.Rebalance
	switch {
	case st == nil:
		return nil
	case next != nil && s.Layout != nil:
		return planned(s, next, st, used)
	case next != nil:
		return nil // the first layout: there is nothing yet
	case was == nil || was.Layout != st.Version:
		return nil
	}
	_, _, behind := health(s, st)
	if behind == 0 && missing == 0 {
		return nil
	}
	r := was.DeepCopy()
	if missing == was.CopiesLeft || copies == 0 {
		return r
	}
	r.CopiesLeft = missing
	left := min(int64(float64(used)/float64(copies)*float64(missing)), r.Bytes.Value())
	r.BytesLeft = resource.NewQuantity(left, resource.BinarySI)
	passed := s.Now.Sub(r.Started.Time)
	r.BytesPerSecond, r.Finishes = nil, metav1.Time{}
	if done := r.Bytes.Value() - left; done > 0 && passed > 0 {
		rate := max(int64(float64(done)/passed.Seconds()), 1)
		r.BytesPerSecond = resource.NewQuantity(rate, resource.BinarySI)
		r.Finishes = metav1.NewTime(s.Now.Add(time.Duration(float64(left) / float64(rate) * float64(time.Second))).Truncate(time.Second))
	}
	r.Summary = summary(r, s.Now)
	return r
}

// planned is the plan for a layout that is new.
func planned(s *State, next *placement.Layout, st *v1alpha1.LayoutStatus, used int64) *v1alpha1.RebalanceStatus {
	shards, width := max(s.Layout.Shards(), next.Shards()), max(s.Layout.Width(), 1)
	plan := placement.Summarize(s.Layout, next, func(uint32) uint64 { return uint64(used) / uint64(shards*width) })
	if plan.Copies == 0 {
		return nil
	}
	r := &v1alpha1.RebalanceStatus{Layout: st.Version, Shards: int64(plan.Shards), Bytes: resource.NewQuantity(int64(plan.Bytes), resource.BinarySI),
		BytesLeft: resource.NewQuantity(int64(plan.Bytes), resource.BinarySI), Started: st.Published}
	r.Summary = summary(r, s.Now)
	return r
}

// summary writes what is left for people.
func summary(r *v1alpha1.RebalanceStatus, now time.Time) string {
	out := fmt.Sprintf("%s of %s left", size(r.BytesLeft.Value()), size(r.Bytes.Value()))
	if !r.Finishes.IsZero() {
		out += ", about " + max(r.Finishes.Sub(now), 0).Round(time.Second).String()
	}
	return out
}

// comings tells who is taken out of the layout, and who is back.
func comings(s *State, next *placement.Layout) (out []Event) {
	before := takenOut(s.Layout)
	for _, n := range next.Members() {
		was := before[n.ID]
		switch down := n.State == placement.Down; {
		case down && !was:
			out = append(out, Event{Warning: true, Reason: v1alpha1.EventNodeTakenOut, Note: fmt.Sprintf("node %s was unreachable for a majority for %s: the layout is without it, "+
				"and its data is made again on the others. If it comes back, it joins by itself", n.ID, Grace(s.Network))})
		case was && !down:
			out = append(out, Event{Reason: v1alpha1.EventNodeTakenBack, Note: fmt.Sprintf("node %s is back, and in the layout again: it gets what it missed", n.ID)})
		}
	}
	return out
}
