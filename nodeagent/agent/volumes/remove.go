package volumes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/core/warrant"
	"mynetwork.io/mynetwork/nodeagent/peer/grant"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// Delete deletes a volume with its snapshots, for ever. It is refused while the volume is attached anywhere or has
// clones. It returns nil once a majority of the nodes keeps the deletion record; the others get it when they are back.
// Repeating it succeeds.
func (m *Manager) Delete(ctx context.Context, name string) error {
	r, err := registry.Find(m.opt.Registry, name)
	if errors.Is(err, registry.ErrNotFound) {
		return nil // deleted before: a live name is gone
	}
	if err != nil {
		return err
	}
	if !r.Live() {
		return m.confirm(ctx, r)
	}
	err = m.locked(r.ID.String(), func(now *registry.Record, s *slot) error {
		if s.open != nil {
			return fmt.Errorf("volume %q: detach it before it is deleted: %w", now.Name, ErrAttached)
		}
		if err := m.checkLease(ctx, now); err != nil {
			return err
		}
		r, err = m.condemn(ctx, now)
		return err
	})
	if err != nil {
		return err
	}
	m.opt.Events.Info("Deleted", r.Name, "volume %s is deleted", r.ID)
	return m.confirm(ctx, r)
}

// checkLease refuses while a store has lately heard of the writer that holds the volume.
func (m *Manager) checkLease(ctx context.Context, r *registry.Record) error {
	if r.Fact.Epoch.Number == 0 {
		return nil
	}
	if err := m.opt.Members.Ready(ctx); err != nil {
		return err
	}
	if err := m.opt.Grants.Ensure(ctx, r.ID, grant.Read); err != nil {
		return err
	}
	var mu sync.Mutex
	var held error
	m.each(func(s block.StoreID) {
		l, err := m.client.Lease(s, r.ID)
		if err == nil && l.Age < volume.Lease && l.Promised.Number >= r.Fact.Epoch.Number && !l.Promised.Caretaker() {
			mu.Lock()
			held = fmt.Errorf("volume %q is attached (on node %q, as far as is known), its writer was heard of %v ago; detach it first: %w",
				r.Name, r.Holder, l.Age.Round(time.Millisecond), ErrAttached)
			mu.Unlock()
		}
	})
	return held
}

// each runs f for every known store of a live node, at once.
func (m *Manager) each(f func(s block.StoreID)) {
	var wg sync.WaitGroup
	for _, n := range m.opt.Members.States() {
		if !n.Alive {
			continue
		}
		for _, s := range n.Stores {
			wg.Go(func() { f(s.ID) })
		}
	}
	wg.Wait()
}

// condemn fences all writers by an epoch for the deletion, and makes the deletion final in the registry.
func (m *Manager) condemn(ctx context.Context, r *registry.Record) (registry.Record, error) {
	f := r.Fact
	f.Epoch = block.Epoch{Number: f.Epoch.Number + 1, Token: m.env.Rand() | 1}
	if _, err := m.opt.Registry.Swap(r.ID, f); err != nil {
		return registry.Record{}, err
	}
	d := warrant.Deletion{Volume: r.ID, Epoch: f.Epoch.Number, At: now()}
	signed, err := m.opt.Deletions.SignDeletion(ctx, d)
	if err != nil {
		return registry.Record{}, fmt.Errorf("volume %q: sign its deletion: %w", r.Name, err)
	}
	return m.opt.Registry.Update(r.ID, func(r *registry.Record) error {
		if r.Fact.Epoch != f.Epoch {
			return fmt.Errorf("volume %q was taken over meanwhile: %w", r.Name, ErrAttached)
		}
		r.Deletion = &registry.Deletion{At: d.At, Signed: signed}
		return nil
	})
}

// confirm brings a deletion to the stores that do not have it yet.
func (m *Manager) confirm(ctx context.Context, r registry.Record) error {
	if err := m.opt.Members.Ready(ctx); err != nil {
		return err
	}
	if err := m.opt.Grants.Ensure(ctx, r.ID, grant.Read|grant.Delete); err != nil {
		return err
	}
	var mu sync.Mutex
	var fails error
	var done []block.StoreID
	m.each(func(s block.StoreID) {
		if slices.Contains(r.Deletion.Confirmed, s) {
			return
		}
		err := m.dropOn(s, &r)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			fails = errors.Join(fails, err)
		} else {
			done = append(done, s)
		}
	})
	if len(done) > 0 {
		var err error
		r, err = m.opt.Registry.Update(r.ID, func(r *registry.Record) error {
			for _, s := range done {
				if !slices.Contains(r.Deletion.Confirmed, s) {
					r.Deletion.Confirmed = append(r.Deletion.Confirmed, s)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := m.majority(&r, fails); err != nil {
		return err
	}
	m.forget(&r)
	return nil
}

// dropOn has one store keep the deletion record and free the volume's extents.
func (m *Manager) dropOn(s block.StoreID, r *registry.Record) error {
	err := m.client.Drop(s, r.Fact.Epoch, r.ID, r.Deletion.Signed)
	if err != nil && !errors.Is(err, replica.ErrDeleted) {
		return err
	}
	xs, err := m.client.Extents(s, r.ID)
	if err != nil {
		return err
	}
	for _, x := range xs {
		if err := m.client.Free(s, r.Fact.Epoch, x); err != nil {
			return err
		}
	}
	return nil
}

// storageNodes are the nodes that have data, or are to have some.
func (m *Manager) storageNodes() []members.State {
	return slices.DeleteFunc(m.opt.Members.States(), func(s members.State) bool { return !s.Storage })
}

// majority reports ErrMinority unless most nodes have confirmed a deletion on all their stores.
func (m *Manager) majority(r *registry.Record, why error) error {
	states := m.storageNodes()
	n := 0
	for _, node := range states {
		all := len(node.Stores) > 0
		for _, s := range node.Stores {
			all = all && slices.Contains(r.Deletion.Confirmed, s.ID)
		}
		if all {
			n++
		}
	}
	if n < replication.Majority(len(states)) {
		return fmt.Errorf("volume %q is deleted, but only %d of %d nodes keep the deletion record yet; the others follow: %w",
			r.Name, n, len(states), errors.Join(ErrMinority, why))
	}
	return nil
}

// tombs lists the deleted volumes.
func (m *Manager) tombs() ([]registry.Record, error) {
	if t, ok := m.opt.Registry.(registry.Tombs); ok {
		return t.Deleted()
	}
	return m.opt.Registry.List()
}

// forget removes the record of a deleted volume once every store that is known, of every node that has or is to have data, keeps the deletion record
// itself: a repeated delete finds nothing, and is content.
func (m *Manager) forget(r *registry.Record) {
	t, ok := m.opt.Registry.(registry.Tombs)
	if !ok {
		return
	}
	for _, n := range m.opt.Members.States() {
		if n.Storage && len(n.Stores) == 0 {
			return // never heard of: it may have a part
		}
		for _, s := range n.Stores {
			if !slices.Contains(r.Deletion.Confirmed, s.ID) {
				return
			}
		}
	}
	if err := t.Forget(r); err != nil {
		m.opt.Log.Info("the record of a deleted volume stays for now", "volume", r.Name, "err", err)
	}
}

// Sweep brings deletions to stores that were away. Run it now and then, and when a node is back.
func (m *Manager) Sweep(ctx context.Context) error {
	all, err := m.tombs()
	for _, r := range all {
		if r.Live() || ctx.Err() != nil {
			continue
		}
		missing := false
		for _, n := range m.opt.Members.States() {
			for _, s := range n.Stores {
				missing = missing || (n.Alive && !slices.Contains(r.Deletion.Confirmed, s.ID))
			}
		}
		if missing {
			if e := m.confirm(ctx, r); e != nil && !errors.Is(e, ErrMinority) {
				err = errors.Join(err, e)
			}
			continue
		}
		m.forget(&r)
	}
	return err
}
