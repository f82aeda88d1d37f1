package agenttest

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/handle"
	"mynetwork.io/mynetwork/csi/request"
)

var (
	_ request.Barrier  = (Set)(nil)
	_ request.Modifier = (Set)(nil)
)

// on runs f on a live volume.
func (s Set) on(h handle.Volume, f func(n *Network, v *volume) error) error {
	for _, n := range s {
		if n.id == h.Network {
			return n.change("", h.ID, func(v *volume) error { return f(n, v) })
		}
	}
	return fmt.Errorf("network %q: %w", h.Network, request.ErrNetwork)
}

// Hold implements request.Barrier.
func (s Set) Hold(_ context.Context, h handle.Volume, key []byte) (token string, err error) {
	err = s.on(h, func(_ *Network, v *volume) error {
		token = newID()
		v.hold = token
		return v.openKey(key)
	})
	return token, err
}

// Snapshot implements request.Barrier.
func (s Set) Snapshot(_ context.Context, h handle.Volume, token, name string, _ []byte) (out *agentv1.Snapshot, err error) {
	err = s.on(h, func(n *Network, v *volume) (err error) {
		if v.hold != token {
			return status.Errorf(codes.FailedPrecondition, "volume %q moved", v.msg.Name)
		}
		out, err = n.snapshot(v, name)
		return err
	})
	return out, err
}

// Release implements request.Barrier.
func (s Set) Release(_ context.Context, h handle.Volume, token string) error {
	return s.on(h, func(_ *Network, v *volume) error {
		if v.hold == token {
			v.hold = ""
		}
		return nil
	})
}

// attachReader makes the device of a sealed volume on this node. The lock is held.
func (a *agent) attachReader(v *volume, readOnly bool, out **agentv1.AttachVolumeResponse) error {
	if v.msg.Sealed != readOnly {
		return status.Errorf(codes.FailedPrecondition, "volume %q: sealed %t, to be read only %t", v.msg.Name, v.msg.Sealed, readOnly)
	}
	if v.readers[a.node] == "" {
		d, err := a.n.devices.AttachReader(v.msg.Id, a.node)
		if err != nil {
			return err
		}
		if v.readers == nil {
			v.readers = map[string]string{}
		}
		v.readers[a.node] = d
	}
	*out = &agentv1.AttachVolumeResponse{Volume: a.n.view(v, a.node), Device: v.readers[a.node]}
	return nil
}

func (a *agent) SealVolume(_ context.Context, r *agentv1.SealVolumeRequest) (*agentv1.Volume, error) {
	var out *agentv1.Volume
	err := a.n.change(a.node, r.Volume, func(v *volume) error {
		if err := v.openKey(r.EncryptionKey); err != nil {
			return err
		}
		if d := v.msg.Device; d != "" {
			if err := a.n.devices.Detach(d); err != nil {
				return err
			}
		}
		v.msg.HolderNode, v.msg.Device, v.msg.Sealed = "", "", true
		out = a.n.view(v, a.node)
		return nil
	})
	return out, err
}

// Ranges sets what a snapshot holds, or, with a base, what changed since, for SnapshotBlocks to tell.
func (n *Network) Ranges(snapshot, base string, ranges ...*agentv1.BlockRange) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ranges[base+">"+snapshot] = ranges
}

func (a *agent) SnapshotBlocks(r *agentv1.SnapshotBlocksRequest, out grpc.ServerStreamingServer[agentv1.SnapshotBlocksResponse]) error {
	var list []*agentv1.BlockRange
	var size int64
	err := a.n.change(a.node, r.Volume, func(v *volume) error {
		i := slices.IndexFunc(v.msg.Snapshots, func(s *agentv1.Snapshot) bool { return s.Id == r.Snapshot })
		if i < 0 {
			return status.Errorf(codes.NotFound, "snapshot %q", r.Snapshot)
		}
		size = v.msg.Snapshots[i].Size
		for _, b := range a.n.ranges[r.Base+">"+r.Snapshot] {
			if b.Offset+b.Length > r.From {
				list = append(list, b)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	most := max(int(r.Most), 1)
	for first := true; first || len(list) > 0; first = false {
		n := min(most, len(list))
		if err := out.Send(&agentv1.SnapshotBlocksResponse{Size: size, Ranges: list[:n]}); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// Break ends whatever hold a volume has, as its time limit would.
func (n *Network) Break(volume string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.volumes[volume].hold = ""
}

// Modify implements request.Modifier.
func (s Set) Modify(_ context.Context, h handle.Volume, c request.Change) error {
	return s.on(h, func(n *Network, v *volume) error {
		if c.Copies != nil && int(*c.Copies) > len(n.clients) {
			return status.Errorf(codes.InvalidArgument, "%d replicas on %d nodes", *c.Copies, len(n.clients))
		}
		if c.Copies != nil {
			v.msg.Replicas = *c.Copies
		}
		if c.Weak != nil {
			v.msg.Weak = *c.Weak
		}
		if c.Compression != nil {
			v.msg.Compression = *c.Compression
		}
		return nil
	})
}
