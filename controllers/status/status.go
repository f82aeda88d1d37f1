package status

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// Kind is how a reconcile ended.
type Kind uint8

// The ways to end.
const (
	// Ready: the spec is fulfilled.
	Ready Kind = iota
	// Progressing: not yet, and nobody has to do anything.
	Progressing
	// Stalled: not before somebody acts on the message.
	Stalled
)

// Outcome is how a reconcile ended, and why. Reason is a constant of the API; Message is for people: what is wrong and what to do.
type Outcome struct {
	Kind    Kind
	Reason  string
	Message string
}

// OutcomeReady is the outcome of a fulfilled spec.
func OutcomeReady(message string) Outcome { return Outcome{Ready, v1alpha1.ReasonReady, message} }

// OutcomeProgressing is the outcome of a spec that will be fulfilled by itself.
func OutcomeProgressing(reason, format string, args ...any) Outcome {
	return Outcome{Progressing, reason, fmt.Sprintf(format, args...)}
}

// OutcomeStalled is the outcome of a spec that waits for a person.
func OutcomeStalled(reason, format string, args ...any) Outcome {
	return Outcome{Stalled, reason, fmt.Sprintf(format, args...)}
}

// Set writes Ready, Reconciling and Stalled for an outcome of the given generation, at the time now.
func Set(conditions *[]metav1.Condition, generation int64, o Outcome, now time.Time) {
	put := func(kind string, value metav1.ConditionStatus) {
		SetCondition(conditions, metav1.Condition{Type: kind, Status: value, Reason: o.Reason, Message: o.Message, ObservedGeneration: generation}, now)
	}
	ready := metav1.ConditionFalse
	if o.Kind == Ready {
		ready = metav1.ConditionTrue
	}
	put(v1alpha1.ConditionReady, ready)
	if o.Kind == Progressing {
		put(v1alpha1.ConditionReconciling, metav1.ConditionTrue)
	} else {
		meta.RemoveStatusCondition(conditions, v1alpha1.ConditionReconciling)
	}
	if o.Kind == Stalled {
		put(v1alpha1.ConditionStalled, metav1.ConditionTrue)
	} else {
		meta.RemoveStatusCondition(conditions, v1alpha1.ConditionStalled)
	}
}

// Replace is Set for an outcome in the place of another one that Set has written already; before are the conditions before both.
func Replace(conditions *[]metav1.Condition, before []metav1.Condition, generation int64, o Outcome, now time.Time) {
	for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled} {
		meta.RemoveStatusCondition(conditions, kind)
		if old := meta.FindStatusCondition(before, kind); old != nil {
			*conditions = append(*conditions, *old)
		}
	}
	Set(conditions, generation, o, now)
}

// maxMessage is the API's limit of a condition's message, in bytes.
const maxMessage = 32768

// SetCondition writes one condition. Its transition time changes only with its status. Times in the API have whole seconds.
func SetCondition(conditions *[]metav1.Condition, c metav1.Condition, now time.Time) {
	if len(c.Message) > maxMessage {
		c.Message = c.Message[:maxMessage]
	}
	c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	if old := meta.FindStatusCondition(*conditions, c.Type); old != nil && old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	meta.SetStatusCondition(conditions, c)
}

// Bool writes a condition of the domain: True or False, never absent.
func Bool(conditions *[]metav1.Condition, generation int64, kind string, is bool, reason, message string, now time.Time) {
	value := metav1.ConditionFalse
	if is {
		value = metav1.ConditionTrue
	}
	SetCondition(conditions, metav1.Condition{Type: kind, Status: value, Reason: reason, Message: message, ObservedGeneration: generation}, now)
}

// Observed is the observedGeneration after an outcome: the generation if it was acted on, else what it was.
func Observed(before, generation int64, o Outcome) int64 {
	if o.Kind == Progressing {
		return before
	}
	return generation
}

// Violations lists what breaks the rules of kstatus in a status with these conditions, nil if nothing does.
func Violations(conditions []metav1.Condition, generation, observed int64) (out []string) {
	seen := map[string]metav1.ConditionStatus{}
	for _, c := range conditions {
		if _, twice := seen[c.Type]; twice {
			out = append(out, c.Type+" is there twice")
		}
		seen[c.Type] = c.Status
		if c.Reason == "" || c.LastTransitionTime.IsZero() {
			out = append(out, c.Type+" has no reason or no time")
		}
		if c.Message == "" {
			out = append(out, c.Type+" has no message")
		}
		if c.ObservedGeneration > generation {
			out = append(out, c.Type+" observed a generation that is not there yet")
		}
	}
	reconciling, isReconciling := seen[v1alpha1.ConditionReconciling]
	stalled, isStalled := seen[v1alpha1.ConditionStalled]
	ready, isReady := seen[v1alpha1.ConditionReady]
	switch {
	case !isReady:
		out = append(out, "Ready is missing")
	case ready == metav1.ConditionTrue && (isReconciling || isStalled):
		out = append(out, "Ready is True together with Reconciling or Stalled")
	case ready != metav1.ConditionTrue && !isReconciling && !isStalled:
		out = append(out, "Ready is not True, and neither Reconciling nor Stalled says why")
	}
	if isReconciling && isStalled {
		out = append(out, "Reconciling and Stalled are both there")
	}
	if isReconciling && reconciling != metav1.ConditionTrue || isStalled && stalled != metav1.ConditionTrue {
		out = append(out, "Reconciling or Stalled is there and not True")
	}
	if observed > generation {
		out = append(out, "observedGeneration is ahead of generation")
	}
	if ready == metav1.ConditionTrue && observed != generation {
		out = append(out, "Ready is True for a generation that was not observed")
	}
	return out
}
