package fsck

import (
	"context"
	"errors"
	"fmt"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/registry"
)

// ErrOrphan is of an orphan that cannot be adopted as things are.
var ErrOrphan = errors.New("orphan cannot be adopted")

// Orphans lists the volumes that the stores hold, that the registry has no entry of, and that nobody has deleted. Nothing ends them but
// a person.
func (c *Checker) Orphans(ctx context.Context) (out []*agentv1.Orphan, err error) {
	all, err := c.scan(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.known {
			continue
		}
		o := &agentv1.Orphan{Volume: r.out.Volume, Size: r.record.Size, Replicas: int32(r.record.Replicas), Encrypted: r.record.Encrypted,
			Epoch: r.out.Epoch, Extent: r.out.Extent}
		if !r.create { // else the problem is one that the volume has, and can be adopted with
			o.Problem = r.out.Problem
		}
		if !r.record.Parent.IsZero() {
			o.Parent = r.record.Parent.String()
		}
		for _, s := range r.record.Snapshots {
			o.Snapshots = append(o.Snapshots, s.Name)
		}
		out = append(out, o)
	}
	return out, nil
}

// Adopt makes the registry's entry of an orphan under a name, and before it those of its ancestors that are orphans too, under names of
// their own. It succeeds if the volume has that name already.
func (c *Checker) Adopt(ctx context.Context, v block.VolumeID, name string, claim registry.Claim) error {
	have, err := c.opt.Registry.Get(v)
	switch {
	case err == nil && !have.Live():
		return fmt.Errorf("volume %s: %w", v, registry.ErrDeleted)
	case err == nil && have.Name == name:
		return nil
	case err == nil:
		return fmt.Errorf("volume %s is no orphan, it is volume %q: %w", v, have.Name, registry.ErrExists)
	case !errors.Is(err, registry.ErrNotFound):
		return err
	}
	if err := c.enough(ctx); err != nil {
		return err
	}
	r, err := c.rebuild(ctx, v)
	if err != nil {
		return err
	}
	if r == nil {
		return fmt.Errorf("volume %s: no store that answers holds it, or it was deleted: %w", v, registry.ErrNotFound)
	}
	if !r.create {
		return fmt.Errorf("volume %s: %w: %s", v, ErrOrphan, r.out.Problem)
	}
	if p := r.record.Parent; !p.IsZero() {
		if _, err := c.opt.Registry.Get(p); errors.Is(err, registry.ErrNotFound) {
			err = c.Adopt(ctx, p, recoveredName(p), registry.Claim{})
			if err != nil {
				return fmt.Errorf("parent of volume %s: %w", v, err)
			}
		}
	}
	r.record.Name, r.record.Claim = name, claim
	return c.opt.Registry.Create(r.record)
}

// recoveredName is the name of a volume whose own is lost.
func recoveredName(v block.VolumeID) string { return "recovered-" + v.String()[:8] }
