package volume

import (
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// TestAuditBesideRecovery: an extent that the directory does not name may go, unless a recovery in place is just building the
// directory anew. (Found by the simulator: what the map names was freed.)
func TestAuditBesideRecovery(t *testing.T) {
	w := newWorld(t, 3)
	s := w.create(64)
	e := w.open(s, Options{Ring: make([]byte, ring.DefaultSize)})
	defer func() { _ = e.Close(false) }()
	unnamed := block.ExtentID{Volume: s.ID, Epoch: e.epochNow().Number - 1, N: 7}
	for name, c := range map[string]struct {
		regain, reloading bool
		want              bool
	}{
		"as ever":             {want: true},
		"recovery is to come": {regain: true},
		"map is built":        {regain: true, reloading: true},
		"ring is read":        {reloading: true},
	} {
		e.mu.Lock()
		e.regain, e.reloading = c.regain, c.reloading
		e.mu.Unlock()
		got := e.superfluous(unnamed)
		e.mu.Lock()
		e.regain, e.reloading = false, false
		e.mu.Unlock()
		if got != c.want {
			t.Errorf("%s: superfluous %v", name, got)
		}
	}
}
