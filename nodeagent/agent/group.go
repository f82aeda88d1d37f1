package agent

import (
	"context"
	"sync"
)

// group runs Runnables until the first fails or the context ends.
type group struct {
	ctx  context.Context
	fail context.CancelCauseFunc
	wg   sync.WaitGroup
}

func newGroup(ctx context.Context, fail context.CancelCauseFunc) *group {
	return &group{ctx: ctx, fail: fail}
}

func (g *group) run(f func(ctx context.Context) error) {
	g.wg.Go(func() {
		if err := f(g.ctx); err != nil {
			g.fail(err)
		}
	})
}

func (g *group) wait() { g.wg.Wait() }
