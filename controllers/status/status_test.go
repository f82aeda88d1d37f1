package status_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/status"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

func outcomes() []status.Outcome {
	return []status.Outcome{
		status.OutcomeReady("serves"),
		status.OutcomeProgressing(v1alpha1.ReasonProgressing, "waits for %d agents", 3),
		status.OutcomeStalled(v1alpha1.ReasonNoNodes, "label a node"),
	}
}

func TestSetFollowsKstatus(t *testing.T) {
	for _, first := range outcomes() {
		for _, then := range outcomes() {
			var c []metav1.Condition
			observed := int64(0)
			for i, o := range []status.Outcome{first, then} {
				generation := int64(i + 1)
				status.Set(&c, generation, o, epoch)
				observed = status.Observed(observed, generation, o)
				if v := status.Violations(c, generation, observed); v != nil {
					t.Errorf("%v then %v: %v", first, then, v)
				}
			}
		}
	}
}

func TestSetIsStable(t *testing.T) {
	for _, o := range outcomes() {
		var a []metav1.Condition
		status.Set(&a, 1, o, epoch)
		b := append([]metav1.Condition(nil), a...)
		status.Set(&b, 1, o, epoch.Add(time.Hour))
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%v: a second Set changed %v to %v", o, a, b)
		}
	}
}

// An outcome that is replaced leaves no trace: neither in the conditions nor in their times.
func TestReplaceLeavesNoTrace(t *testing.T) {
	for _, o := range outcomes() {
		for _, other := range outcomes() {
			var before []metav1.Condition
			status.Set(&before, 1, o, epoch)
			got := append([]metav1.Condition(nil), before...)
			status.Set(&got, 1, other, epoch.Add(time.Hour))
			status.Replace(&got, before, 1, o, epoch.Add(time.Hour))
			for _, c := range before {
				if i := slices.IndexFunc(got, func(g metav1.Condition) bool { return g.Type == c.Type }); i < 0 || got[i] != c {
					t.Errorf("%v replaced %v: %v, want %v", o, other, got, before)
				}
			}
			if len(got) != len(before) {
				t.Errorf("%v replaced %v: %v, want %v", o, other, got, before)
			}
		}
	}
}

func TestObserved(t *testing.T) {
	for kind, want := range map[status.Kind]int64{status.Ready: 7, status.Stalled: 7, status.Progressing: 4} {
		if got := status.Observed(4, 7, status.Outcome{Kind: kind}); got != want {
			t.Errorf("%d: observed %d, want %d", kind, got, want)
		}
	}
}

// Negative controls: each broken status is found.
func TestViolationsFindsThem(t *testing.T) {
	c := func(kind string, s metav1.ConditionStatus) metav1.Condition {
		return metav1.Condition{Type: kind, Status: s, Reason: "R", Message: "m", LastTransitionTime: metav1.NewTime(epoch), ObservedGeneration: 1}
	}
	for name, list := range map[string][]metav1.Condition{
		"nothing":               nil,
		"ready and reconciling": {c("Ready", "True"), c("Reconciling", "True")},
		"ready and stalled":     {c("Ready", "True"), c("Stalled", "True")},
		"both":                  {c("Ready", "False"), c("Stalled", "True"), c("Reconciling", "True")},
		"not ready, no why":     {c("Ready", "False")},
		"stalled False":         {c("Ready", "True"), c("Stalled", "False")},
		"twice":                 {c("Ready", "True"), c("Ready", "True")},
		"no reason":             {{Type: "Ready", Status: "True", Message: "m", LastTransitionTime: metav1.NewTime(epoch)}},
		"no message":            {{Type: "Ready", Status: "True", Reason: "R", LastTransitionTime: metav1.NewTime(epoch)}},
	} {
		if status.Violations(list, 1, 1) == nil {
			t.Errorf("%s was not found", name)
		}
	}
	good := []metav1.Condition{c("Ready", "True")}
	if status.Violations(good, 1, 1) != nil {
		t.Error("a good status was refused")
	}
	if status.Violations(good, 2, 1) == nil || status.Violations(good, 1, 2) == nil {
		t.Error("a wrong observedGeneration was not found")
	}
}
