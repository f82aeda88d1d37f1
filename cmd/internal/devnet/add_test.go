package devnet

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestVacantNames: a node that is added takes the first name that is free, and its place in the order.
func TestVacantNames(t *testing.T) {
	for _, c := range []struct {
		there string
		name  string
		at    int
	}{{"n1 n2 n3", "n4", 3}, {"n1 n3", "n2", 1}, {"n2 n3", "n1", 0}} {
		n := &Network{}
		for _, name := range strings.Fields(c.there) {
			n.Nodes = append(n.Nodes, Node{Name: name, Address: "a"})
		}
		m, at, err := n.vacant()
		if err != nil || m.Name != c.name || at != c.at || m.Address == "" {
			t.Errorf("%s: %+v at %d, %v", c.there, m, at, err)
		}
		n.Nodes = append(append(append([]Node(nil), n.Nodes[:at]...), m), n.Nodes[at:]...)
		if err := n.check(); err != nil {
			t.Errorf("%s with %s: %v", c.there, m.Name, err)
		}
	}
}

// TestVia: one node reaches another by what network.json says, others by its own address; settings of this package win.
func TestVia(t *testing.T) {
	n := &Network{dir: t.TempDir(), Nodes: []Node{{"n1", "127.0.0.1:1"}, {"n2", "127.0.0.1:2"}}, Via: map[string]string{"n1>n2": "127.0.0.1:9"},
		Agent: map[string]any{"grace": "20s", "node": "other"}}
	for i, want := range []string{"n2@127.0.0.1:9", "n2@127.0.0.1:2"} {
		b, err := n.agentFile(n.Nodes[i])
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{want, "n1@127.0.0.1:1", "grace: 20s", "node: " + n.Nodes[i].Name, filepath.Join(n.dir, n.Nodes[i].Name, "store")} {
			if !strings.Contains(string(b), text) {
				t.Errorf("%s lacks %q:\n%s", n.Nodes[i].Name, text, b)
			}
		}
	}
	n.Agent["no-such-setting"] = 1
	if _, err := n.agentFile(n.Nodes[0]); err == nil {
		t.Error("a setting that there is not was taken")
	}
}
