package volumes

import (
	"context"
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/agent/grants"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// Fence takes the volume from the writer of an epoch on a node that is believed dead, without opening it: the registry gets the next
// epoch, and a majority of the tail's replicas refuse the old one. It returns the registry's epoch number, and whether the writer can no
// longer write. Nothing is done unless the registry is at that epoch and that node is the holder; if the registry is further already,
// it sees to it that the replicas are too. It may be repeated.
func (m *Manager) Fence(ctx context.Context, name, node string, number uint64) (now uint64, fenced bool, err error) {
	if node == "" || number == 0 {
		return 0, false, fmt.Errorf("volume %q: a fence names the node and the epoch that it is for: %w", name, ErrInvalid)
	}
	err = m.locked(name, func(r *registry.Record, _ *slot) error {
		now = r.Fact.Epoch.Number
		if now < number || now == number && r.Holder != node {
			return nil
		}
		if now, err = m.fence(ctx, r, number); err != nil {
			return err
		}
		fenced = true
		m.forgetHolder(r, node, number)
		m.opt.Events.Warn("Fenced", r.Name, "node %s can no longer write in epoch %d", node, number)
		return nil
	})
	return now, fenced, err
}

// fence brings the registry and the replicas beyond an epoch, and returns the registry's number then.
func (m *Manager) fence(ctx context.Context, r *registry.Record, number uint64) (uint64, error) {
	if err := m.opt.Members.Ready(ctx); err != nil {
		return 0, err
	}
	if err := m.opt.Grants.Ensure(ctx, r.ID, grants.Writer); err != nil {
		return 0, err
	}
	f := r.Fact
	taken := f.Epoch.Number == number
	if taken {
		f.Epoch = block.Epoch{Number: number + 1, Token: m.env.Rand() | 1}
		var err error
		if f.Revision, err = m.opt.Registry.Swap(r.ID, f); err != nil {
			return 0, err
		}
	}
	w := &volume.Fence{Env: m.env, Client: m.client, Volume: r.ID}
	stop := context.AfterFunc(ctx, w.Stop)
	defer stop()
	if !taken {
		if done, err := w.Holds(f.Anchor, number); err != nil || done {
			return f.Epoch.Number, err
		}
	}
	if err := w.Take(f.Anchor, f.Epoch); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(ErrMinority, err)
		}
		return 0, fmt.Errorf("volume %q is at epoch %d, but a majority of its replicas do not refuse epoch %d yet: %w", r.Name, f.Epoch.Number, number, err)
	}
	if !taken {
		return f.Epoch.Number, nil
	}
	// The promises count as a sign of life of this epoch, which has no writer: go past it, so that the next one need not wait.
	f.Epoch = block.Epoch{Number: f.Epoch.Number + 1, Token: m.env.Rand() | 1}
	if _, err := m.opt.Registry.Swap(r.ID, f); err != nil {
		m.opt.Log.Warn("the epoch of a fence was not released; its lease ends by itself", "volume", r.Name, "err", err)
		return f.Epoch.Number - 1, nil
	}
	return f.Epoch.Number, nil
}

// forgetHolder takes the fenced node's name out of the registry.
func (m *Manager) forgetHolder(r *registry.Record, node string, number uint64) {
	_, err := m.opt.Registry.Update(r.ID, func(r *registry.Record) error {
		if r.Holder == node && r.HolderEpoch <= number {
			r.Holder, r.HolderEpoch = "", 0
		}
		return nil
	})
	if err != nil {
		m.opt.Log.Warn("the registry does not take that a node has lost the volume", "volume", r.Name, "node", node, "err", err)
	}
}
