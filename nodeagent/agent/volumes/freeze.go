package volumes

import (
	"context"
	"time"

	"mynetwork.io/mynetwork/nodeagent/export/mounter"
	"mynetwork.io/mynetwork/nodeagent/registry"
)

// Freezer lets the file system on a device stand still; a mounter may be one. See mounter.Freezer.
type Freezer interface {
	Freeze(ctx context.Context, name string) (bool, error)
	Thaw(ctx context.Context, name string) (bool, error)
}

var _ Freezer = (*mounter.Client)(nil)

// freezeTime is how long a file system may take to write back what is dirty, before its snapshot does without.
const freezeTime = 5 * time.Second

// freeze has the file system on a volume that is attached here stand still until thaw. It is the better snapshot, not a
// condition: one without shows the device as after a power cut.
func (m *Manager) freeze(ctx context.Context, r *registry.Record, s *slot) (thaw func()) {
	f, ok := m.opt.Mounter.(Freezer)
	if !ok || s.open == nil || s.open.kind != Fuse {
		return func() {}
	}
	name := entryName(r.ID.String(), Fuse)
	brief, cancel := context.WithTimeout(ctx, freezeTime)
	defer cancel()
	is, err := f.Freeze(brief, name)
	if err != nil {
		m.opt.Events.Warn("SnapshotNotFrozen", r.Name, "the file system could not be frozen, so the snapshot shows it as after a power cut: %v", err)
	}
	return func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), freezeTime)
		defer cancel()
		stood, err := f.Thaw(end, name)
		if err != nil {
			m.opt.Log.Warn("a file system is thawed by the mounter's own limit", "volume", r.Name, "err", err)
		}
		if is && err == nil && !stood {
			m.opt.Events.Warn("SnapshotNotFrozen", r.Name, "the file system went on before the snapshot was complete, which may show it as after a power cut")
		}
	}
}
