package replica

import (
	"errors"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
)

// TestAskPromise: a writer that does not wait is told the same as one that waits, once: that it is promised, that another one is, and that nobody answers.
func TestAskPromise(t *testing.T) {
	w := newWorld(t, 1, small)
	x := block.ExtentID{Volume: vol, N: 1}
	for _, c := range []struct {
		name  string
		store block.StoreID
		epoch block.Epoch
		want  error
	}{
		{"the first", s1, e6, nil},
		{"again", s1, e6, nil},
		{"an earlier one", s1, e5, replication.ErrFenced},
		{"nobody is there", block.StoreID{9}, e6, ErrUnreachable},
	} {
		got := make(chan error, 2)
		w.c.AskPromise(c.store, c.epoch, x, func(err error) { got <- err })
		err := <-got
		_, waited := w.c.Promise(c.store, c.epoch, x)
		if !errors.Is(err, c.want) || !errors.Is(waited, c.want) || len(got) != 0 {
			t.Errorf("%s: %v, who waited: %v", c.name, err, waited)
		}
		var f *FencedError
		if errors.As(err, &f) && f.Promised != e6 {
			t.Errorf("%s: promised %s", c.name, f.Promised)
		}
	}
}
