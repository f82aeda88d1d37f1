package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// TestLacks: what the node plugin writes beside the mounter's socket is reported, as the API takes it.
func TestLacks(t *testing.T) {
	dir := t.TempDir()
	a := &Agent{cfg: Config{Mounter: filepath.Join(dir, "socket")}}
	if got := a.lacks(); got != nil {
		t.Errorf("before the plugin has looked: %q", got)
	}
	long := strings.Repeat("ä", 600)
	for text, want := range map[string][]string{
		"": nil, "\n": nil, "B: b\nA: a\nB: b\n": {"A: a", "B: b"}, long: {long[:1024]},
		"1\n2\n3\n4\n5\n6\n7\n8\n9\n": {"1", "2", "3", "4", "5", "6", "7", "8"},
	} {
		if err := os.WriteFile(filepath.Join(dir, v1alpha1.NameLacks), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := a.lacks(); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := (&Agent{}).lacks(); got != nil {
		t.Errorf("without a mounter: %q", got)
	}
}
