package agenttest

import (
	"context"
	"fmt"

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
