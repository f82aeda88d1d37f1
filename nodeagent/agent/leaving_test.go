package agent

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// TestLeaving: while a node is drained it says which volumes it waits for, and the node that has a volume open says that it was not in place
// yet; once it was, both say nothing of the kind, and nothing is left there.
func TestLeaving(t *testing.T) {
	c := newClusterWith(t, 4, false, func(cfg *Config) { cfg.Quiet = time.Second })
	m := c.written(t)
	v := c.record("vol").ID
	e := c.attach("a", "vol")
	m.verify(e)
	says := func(name string) (st v1alpha1.AgentStatus) {
		st.Stores = make([]v1alpha1.StoreStatus, 1)
		c.node[name].copies(&st)
		return st
	}
	within(t, time.Minute, "in place with the first layout", func() error {
		if st := says("a"); st.InPlaceVersion != 1 || len(st.UnplacedVolumes) > 0 {
			return fmt.Errorf("%d, %v", st.InPlaceVersion, st.UnplacedVolumes)
		}
		return nil
	})
	goes := "" // a node beside a that has a part of it
	for name, of := range c.held(v) {
		if name != "a" && len(of) > 0 {
			goes = name
		}
	}
	c.relayout(goes, true)
	if st := says("a"); st.InPlaceVersion > 1 || !slices.Equal(st.UnplacedVolumes, []string{v.String()}) || len(st.LeavingVolumes) > 0 {
		t.Errorf("just now %s was drained: a is in place with %d, not %v, %v leave", goes, st.InPlaceVersion, st.UnplacedVolumes, st.LeavingVolumes)
	}
	if st := says(goes); !slices.Equal(st.LeavingVolumes, []string{v.String()}) {
		t.Errorf("%v leave %s", st.LeavingVolumes, goes)
	}
	within(t, 3*time.Minute, "in place with the second layout", func() error {
		m.write(e, 1)
		st, there := says("a"), says(goes)
		if st.InPlaceVersion != 2 || len(st.UnplacedVolumes) > 0 || there.Copies > 0 || len(there.LeavingVolumes) > 0 {
			return fmt.Errorf("%d, %v; %d copies there, %v", st.InPlaceVersion, st.UnplacedVolumes, there.Copies, there.LeavingVolumes)
		}
		return nil
	})
	m.verify(e)
}
