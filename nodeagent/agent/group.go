package agent

import (
	"context"
	"sync"

	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
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

// steady is the holder without the caller's cancellation: a call that is cut short would end the connection, and with it
// the ownership of every entry.
type steady struct{ c *holder.Client }

var _ volumes.Keeper = steady{}

// Put implements volumes.Keeper.
func (s steady) Put(ctx context.Context, e *holder.Entry) error {
	return s.c.Put(context.WithoutCancel(ctx), e)
}

// Get implements volumes.Keeper.
func (s steady) Get(ctx context.Context, name string) (*holder.Entry, error) {
	return s.c.Get(context.WithoutCancel(ctx), name)
}

// Drop implements volumes.Keeper.
func (s steady) Drop(ctx context.Context, name string) error {
	return s.c.Drop(context.WithoutCancel(ctx), name)
}

// List implements volumes.Keeper.
func (s steady) List(ctx context.Context) ([]holder.Listed, error) {
	return s.c.List(context.WithoutCancel(ctx))
}
