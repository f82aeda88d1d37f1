package storagenode

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// news are the conditions that changed their status or reason, and are worth an event: what is bad, and what is good again.
func news(before, after []metav1.Condition) (out []metav1.Condition) {
	for _, c := range after {
		old := meta.FindStatusCondition(before, c.Type)
		switch {
		case c.Type == v1alpha1.ConditionReconciling || c.Type == v1alpha1.ConditionStalled: // Ready says the same
		case old != nil && old.Status == c.Status && old.Reason == c.Reason:
		case old == nil && !bad(c, after):
		default:
			out = append(out, c)
		}
	}
	return out
}

// bad tells of a condition that somebody should look at.
func bad(c metav1.Condition, all []metav1.Condition) bool {
	if c.Type == v1alpha1.ConditionReady {
		return meta.IsStatusConditionTrue(all, v1alpha1.ConditionStalled)
	}
	return c.Status == metav1.ConditionTrue
}

// tell makes events of what is new about a node.
func (r *Reconciler) tell(n *v1alpha1.StorageNode, before []metav1.Condition) {
	for _, c := range news(before, n.Status.Conditions) {
		kind := corev1.EventTypeNormal
		if bad(c, n.Status.Conditions) {
			kind = corev1.EventTypeWarning
		}
		r.Events.Eventf(n, nil, kind, c.Reason, "Reconcile", "%s", c.Message)
	}
}
