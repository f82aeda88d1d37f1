package storagenode_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// TestNodeWithoutDevices: a node where no volume can be attached says what is missing and what to do, and is well again when it is there.
func TestNodeWithoutDevices(t *testing.T) {
	w := newWorld(t)
	check := func(name string, is bool, reason string, texts ...string) {
		t.Helper()
		w.settle()
		c := meta.FindStatusCondition(w.node(name).Status.Conditions, v1alpha1.ConditionDevicesMissing)
		if c == nil || (c.Status == metav1.ConditionTrue) != is || c.Reason != reason {
			t.Fatalf("%s: %+v", name, c)
		}
		for _, want := range texts {
			if !strings.Contains(c.Message, want) {
				t.Errorf("%s says %q, without %q", name, c.Message, want)
			}
		}
	}
	const fuse, loop = "no volume can be attached: open /dev/fuse: no such file; load the module fuse", "no volume can be attached: load the module loop"
	check("a", false, v1alpha1.ReasonHealthy)
	w.edit("a", func(n *v1alpha1.StorageNode) {
		n.Status.Agent.Lacks = []string{v1alpha1.ReasonNodeWithoutLoop + ": " + loop, v1alpha1.ReasonNodeWithoutFuse + ": " + fuse}
	})
	check("a", true, v1alpha1.ReasonNodeWithoutFuse, fuse, loop)
	check("b", false, v1alpha1.ReasonHealthy)
	w.edit("a", func(n *v1alpha1.StorageNode) { n.Status.Agent.Lacks = n.Status.Agent.Lacks[:1] })
	check("a", true, v1alpha1.ReasonNodeWithoutLoop, loop)
	w.edit("a", func(n *v1alpha1.StorageNode) { n.Status.Agent.Lacks = nil })
	check("a", false, v1alpha1.ReasonHealthy)
}
