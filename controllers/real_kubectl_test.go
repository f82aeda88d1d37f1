//go:build envtest

package controllers_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mynetwork.io/mynetwork/hack/apiserver"
)

// TestRealKubectl: the names that the README tells lead kubectl to one network, and the category to all that belongs to it. The category has the
// name of the kind, and kubectl takes a word alone for a category first.
func TestRealKubectl(t *testing.T) {
	w := newWorld(t, "words", 3)
	w.operate(&apiserver.Tap{})
	w.served()
	config := filepath.Join(t.TempDir(), "config")
	w.must("kubeconfig", os.WriteFile(config, w.s.Kubeconfig(), 0o600))
	get := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kubectl"), append([]string{"--kubeconfig", config, "get", "-o", "name"}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	const one = "mynetwork.storage.mynetwork.io/words"
	for _, args := range [][]string{{"mynet", "words"}, {"mynetworks", "words"}, {"mynet/words"}, {"mynetwork/words"}, {"mynetwork.storage.mynetwork.io", "words"}} {
		if out, err := get(args...); err != nil || strings.TrimSpace(out) != one {
			t.Errorf("%v: %s %v", args, out, err)
		}
	}
	if out, err := get("mynetwork"); err != nil || !strings.Contains(out, one) || !strings.Contains(out, "storagenode.storage.mynetwork.io/words.words-a") {
		t.Errorf("the category: %s %v", out, err)
	}
	if out, err := get("mynetwork", "words"); err == nil || !strings.Contains(out, "only one resource") {
		t.Errorf("a category with a name: %s %v: the README need not warn of it any more", out, err)
	}
}
