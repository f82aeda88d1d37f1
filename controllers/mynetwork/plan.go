package mynetwork

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/status"
)

// Compute says what a State asks for. It is pure. An error means that an object can not be written at all, which is a bug.
func Compute(s *State) (*Plan, error) {
	p := &Plan{Status: *s.Network.Status.DeepCopy()}
	before := slices.Clone(p.Status.Conditions)
	if err := p.compute(s); err != nil {
		return nil, err
	}
	status.Set(&p.Status.Conditions, s.Network.Generation, p.Outcome, s.Now)
	p.Status.ObservedGeneration = status.Observed(s.Network.Status.ObservedGeneration, s.Network.Generation, p.Outcome)
	p.Status.Activity = activity(p.Status.Conditions, p.Outcome, p.Status.Rebalance)
	p.tell(s, before)
	return p, nil
}

func (p *Plan) compute(s *State) error {
	n := s.Network
	deleting := n.DeletionTimestamp != nil
	if !deleting && !slices.Contains(n.Finalizers, v1alpha1.Finalizer) {
		p.AddFinalizer = true
	}
	nodes, err := chosen(n, s.Nodes)
	if err != nil {
		p.Outcome = status.OutcomeStalled(v1alpha1.ReasonInvalidSpec, "nodes.selector: %v", err)
		return nil
	}
	storing, err := stores(n, nodes)
	if err != nil {
		p.Outcome = status.OutcomeStalled(v1alpha1.ReasonInvalidSpec, "nodes.storage: %v", err)
		return nil
	}
	count(s, &p.Status, nodes, storing)
	domain(s, &p.Status)
	if deleting && !refused(s, p) {
		end(s, p)
		return nil
	}
	if n.Spec.Paused {
		p.AddFinalizer = false
		p.Outcome = status.OutcomeStalled(v1alpha1.ReasonPaused, "spec.paused is set: nothing is changed, volumes go on working. Set it to false to go on")
		return nil
	}
	if o := blocked(s, nodes); o != nil {
		p.Outcome = *o
		return nil
	}
	return p.serve(s, nodes, storing)
}

// blocked says what has to be put right before anything is made.
func blocked(s *State, nodes []corev1.Node) *status.Outcome {
	if image(s) == "" {
		return new(status.OutcomeStalled(v1alpha1.ReasonNoImage, "neither agent.image nor the operator's settings name an image. Write agent.image, or set the operator's"))
	}
	if network, node := pathTakenBy(s, nodes); network != "" {
		return new(status.OutcomeStalled(v1alpha1.ReasonPathInUse, "%s on node %s is used by MyNetwork %s, which is older. Write another storage.path, or choose other nodes",
			path(s.Network), node, network))
	}
	return nil
}

// serve plans everything that a network needs, in the order in which it is needed.
func (p *Plan) serve(s *State, nodes []corev1.Node, storing map[string]bool) error {
	ca, create, wrong := authorityState(s)
	p.MakeAuthority = create
	if ca != nil {
		config, err := configMap(s, ca)
		if err != nil {
			return err
		}
		p.Apply = append(p.Apply, config, service(s), holders(s), agents(s, config))
		for _, n := range storageNodes(s, nodes) {
			p.Apply = append(p.Apply, n)
		}
	} // else: agents that run go on with what they have, and no node joins a network that could not certify it
	if s.Network.DeletionTimestamp == nil {
		p.Apply = append(p.Apply, storageClass(s))
		p.Apply = append(p.Apply, snapshotClasses(s)...)
	}
	next, st, waits, again := layout(s, storing)
	p.Layout, p.Status.Layout, p.RequeueAfter = next, st, again
	p.Status.Rebalance = rebalance(s, next, st)
	domain(s, &p.Status)
	if p.Outcome != (status.Outcome{}) {
		return nil // a refused deletion has said what there is to say
	}
	switch {
	case wrong != nil:
		p.Outcome = *wrong
	case create:
		p.Outcome = status.OutcomeProgressing(v1alpha1.ReasonProgressing, "the network's authority is made; agents come next")
	case len(nodes) == 0 && len(s.StorageNodes) == 0:
		p.Outcome = status.OutcomeStalled(v1alpha1.ReasonNoNodes, "nodes.selector chooses none of the cluster's %d nodes whose taints are tolerated. "+
			"Label nodes, write another nodes.selector, or add nodes.tolerations", len(s.Nodes))
	case waits != nil:
		p.Outcome = *waits
	case p.Status.Nodes.Ready < p.Status.Nodes.Wanted || s.Agents == nil || s.Agents.Status.ObservedGeneration != s.Agents.Generation:
		p.Outcome = status.OutcomeProgressing(v1alpha1.ReasonAgentsNotReady, "%s agents are ready", p.Status.Nodes.Summary)
	default:
		p.Outcome = status.OutcomeReady("serves volumes of StorageClass " + className(s.Network))
	}
	return nil
}

// tell makes an event of each condition that changed its reason, and of a new layout.
func (p *Plan) tell(s *State, before []metav1.Condition) {
	for _, c := range p.Status.Conditions {
		old := meta.FindStatusCondition(before, c.Type)
		if c.Type == v1alpha1.ConditionReconciling || c.Type == v1alpha1.ConditionStalled || old != nil && old.Status == c.Status && old.Reason == c.Reason {
			continue
		}
		bad := c.Status == metav1.ConditionTrue // of a condition that is better False
		if c.Type == v1alpha1.ConditionReady {
			bad = p.Outcome.Kind == status.Stalled
		} else if c.Type == v1alpha1.ConditionRebalancing || c.Type == v1alpha1.ConditionSnapshotsAvailable {
			bad = false
		}
		if old == nil && !bad && c.Type != v1alpha1.ConditionReady {
			continue // what is normal is no news
		}
		p.Events = append(p.Events, Event{Warning: bad, Reason: c.Reason, Note: c.Message})
	}
	if p.Layout != nil {
		note := "layout " + p.Status.Layout.Hash[:12] + " is published"
		if r := p.Status.Rebalance; r != nil {
			note += ": " + r.Summary
		}
		p.Events = append(p.Events, Event{Reason: v1alpha1.EventLayoutPublished, Note: note})
		p.Events = append(p.Events, comings(s, p.Layout)...)
	}
	if was := s.Network.Status.Rebalance; was != nil && p.Status.Rebalance == nil {
		p.Events = append(p.Events, Event{Reason: v1alpha1.EventRebalanced, Note: fmt.Sprintf("everything is where layout %d wants it, after %s",
			was.Layout, s.Now.Sub(was.Started.Time).Round(time.Second))})
	}
	p.RequeueAfter = max(p.RequeueAfter, 0).Round(time.Millisecond)
}
