package agent

import (
	"testing"

	"mynetwork.io/mynetwork/nodeagent/agent/caretaker"
	"mynetwork.io/mynetwork/nodeagent/agent/layouts"
	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/agent/stores"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// TestTypes: each type of message between agents has a number of its own, above those of replicas. Layouts are served in Kubernetes only, so what
// shares their number fails nowhere else.
func TestTypes(t *testing.T) {
	whose := map[uint8]string{}
	for name, typ := range map[string]uint8{"stores": members.TypeStores, "deletion": stores.TypeDeleted, "layout": layouts.TypeLayout, "word of a warden": caretaker.TypeWord} {
		if other, ok := whose[typ]; ok || typ < 0x80 {
			t.Errorf("%s has the number %#x, as %q", name, typ, other)
		}
		whose[typ] = name
	}
	if replica.TypeAppend >= 0x80 {
		t.Errorf("replicas' messages begin at %#x", replica.TypeAppend)
	}
}
