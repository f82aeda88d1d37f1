package agenttest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
)

// agent is the agent of one node.
type agent struct {
	agentv1.UnimplementedAgentServer
	n    *Network
	node string
}

// view is a volume as a node sees it. The lock is held.
func (n *Network) view(v *volume, node string) *agentv1.Volume {
	m := proto.Clone(v.msg).(*agentv1.Volume)
	switch {
	case v.deleted:
		m.State = agentv1.VolumeState_VOLUME_STATE_DELETED
	case v.readers[node] != "":
		m.State, m.Device = agentv1.VolumeState_VOLUME_STATE_ATTACHED, v.readers[node]
	case m.HolderNode == "":
		m.State = agentv1.VolumeState_VOLUME_STATE_DETACHED
	case m.HolderNode != node:
		m.State = agentv1.VolumeState_VOLUME_STATE_ELSEWHERE
		m.Device = ""
	default:
		m.State = agentv1.VolumeState_VOLUME_STATE_ATTACHED
		m.Open = &agentv1.OpenVolume{Extents: 10, Degraded: v.degraded}
		if v.failed != "" {
			m.State, m.Failure = agentv1.VolumeState_VOLUME_STATE_FAILED, v.failed
		}
	}
	return m
}

func (a *agent) Info(context.Context, *agentv1.InfoRequest) (*agentv1.InfoResponse, error) {
	return &agentv1.InfoResponse{Node: a.node, Version: "test"}, nil
}

func (a *agent) Status(context.Context, *agentv1.StatusRequest) (*agentv1.StatusResponse, error) {
	n := a.n
	n.mu.Lock()
	defer n.mu.Unlock()
	out := &agentv1.StatusResponse{Node: a.node, Stores: []*agentv1.Store{{Id: "store-" + a.node, Capacity: StoreSize}}}
	for name := range n.clients {
		if name != a.node {
			out.Peers = append(out.Peers, &agentv1.Peer{Node: name, Alive: !n.dead[name]})
		}
	}
	for _, v := range n.volumes {
		if v.msg.HolderNode == a.node && !v.deleted {
			out.Volumes = append(out.Volumes, n.view(v, a.node))
		}
	}
	return out, nil
}

func validName(s string) bool {
	ok := len(s) > 0 && len(s) <= 200
	for i, c := range []byte(s) {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = ok && (alnum || i > 0 && strings.IndexByte("._-", c) >= 0)
	}
	return ok
}

// add makes a volume, or gives the one of that name if same says so. The lock is held.
func (n *Network) add(m *agentv1.Volume, key []byte, same func(have *volume) bool) (*volume, error) {
	if !validName(m.Name) || m.Size <= 0 || m.Size%4096 != 0 || len(key) != 0 && len(key) != 32 {
		return nil, status.Errorf(codes.InvalidArgument, "volume %q of %d bytes, key of %d bytes", m.Name, m.Size, len(key))
	}
	if have, err := n.find(m.Name); err == nil {
		if !same(have) {
			return nil, status.Errorf(codes.AlreadyExists, "volume %q exists and differs", m.Name)
		}
		return have, nil
	}
	n.clock++
	m.Id, m.CreatedUnix, m.Encrypted = newID(), n.clock, len(key) > 0
	v := &volume{msg: m, key: key}
	n.volumes[m.Id] = v
	return v, nil
}

func (a *agent) CreateVolume(_ context.Context, r *agentv1.CreateVolumeRequest) (*agentv1.Volume, error) {
	n := a.n
	n.mu.Lock()
	defer n.mu.Unlock()
	m := &agentv1.Volume{Name: r.Name, Size: r.Size, Replicas: r.Replicas, Weak: r.Weak, ExtentSize: r.ExtentSize, Compression: r.Compression,
		ClaimSize: r.ClaimSize}
	if m.Replicas == 0 {
		m.Replicas = 3
	}
	if int(m.Replicas) > len(n.clients) {
		return nil, status.Errorf(codes.InvalidArgument, "%d replicas on %d nodes", m.Replicas, len(n.clients))
	}
	before := len(n.volumes)
	v, err := n.add(m, r.EncryptionKey, func(have *volume) bool {
		h := have.msg
		return h.Parent == "" && h.Size == m.Size && h.Replicas == m.Replicas && h.Weak == m.Weak && h.ExtentSize == m.ExtentSize &&
			h.Compression == m.Compression && have.checkKey(r.EncryptionKey) == nil
	})
	if err != nil {
		return nil, err
	}
	if len(n.volumes) > before {
		v.claim = r.ClaimNamespace + "/" + r.ClaimName
		if err := n.devices.Create(v.msg.Id, r.Size); err != nil {
			return nil, err
		}
	}
	return n.view(v, a.node), nil
}

func (a *agent) ListVolumes(_ context.Context, r *agentv1.ListVolumesRequest) (*agentv1.ListVolumesResponse, error) {
	n := a.n
	n.mu.Lock()
	defer n.mu.Unlock()
	out := &agentv1.ListVolumesResponse{}
	for _, v := range n.volumes {
		if !v.deleted || r.Deleted {
			out.Volumes = append(out.Volumes, n.view(v, a.node))
		}
	}
	return out, nil
}

func (a *agent) InspectVolume(_ context.Context, r *agentv1.InspectVolumeRequest) (*agentv1.Volume, error) {
	a.n.mu.Lock()
	defer a.n.mu.Unlock()
	v, err := a.n.find(r.Volume)
	if err != nil {
		return nil, err
	}
	return a.n.view(v, a.node), nil
}

func (a *agent) AttachVolume(_ context.Context, r *agentv1.AttachVolumeRequest) (*agentv1.AttachVolumeResponse, error) {
	n := a.n
	var out *agentv1.AttachVolumeResponse
	err := n.change("", r.Volume, func(v *volume) error {
		m := v.msg
		if err := v.checkKey(r.EncryptionKey); err != nil {
			return err
		}
		if m.Sealed || r.ReadOnly {
			return a.attachReader(v, r.ReadOnly, &out)
		}
		if m.HolderNode != "" && m.HolderNode != a.node {
			if !n.dead[m.HolderNode] && !r.Force {
				return status.Errorf(codes.FailedPrecondition, "volume %q is attached on node %s; detach it there, or force", m.Name, m.HolderNode)
			}
			m.HolderNode, m.Device = "", ""
		}
		if m.HolderNode == "" {
			device, err := n.devices.Attach(m.Id)
			if err != nil {
				return err
			}
			m.HolderNode, m.Device = a.node, device
		}
		out = &agentv1.AttachVolumeResponse{Volume: n.view(v, a.node), Device: m.Device}
		return nil
	})
	return out, err
}

func (a *agent) DetachVolume(_ context.Context, r *agentv1.DetachVolumeRequest) (*agentv1.DetachVolumeResponse, error) {
	return &agentv1.DetachVolumeResponse{}, a.n.change(a.node, r.Volume, func(v *volume) error {
		if d := v.readers[a.node]; d != "" {
			delete(v.readers, a.node)
			return a.n.devices.Detach(d)
		}
		if v.msg.HolderNode == "" {
			return nil
		}
		if err := a.n.devices.Detach(v.msg.Device); err != nil {
			return err
		}
		v.msg.HolderNode, v.msg.Device, v.failed = "", "", ""
		return nil
	})
}

func (a *agent) ResizeVolume(_ context.Context, r *agentv1.ResizeVolumeRequest) (*agentv1.Volume, error) {
	var out *agentv1.Volume
	err := a.n.change(a.node, r.Volume, func(v *volume) error {
		if err := v.openKey(r.EncryptionKey); err != nil {
			return err
		}
		if v.msg.Sealed {
			return status.Errorf(codes.FailedPrecondition, "volume %q is sealed", v.msg.Name)
		}
		if r.Size < v.msg.Size || r.Size%4096 != 0 {
			return status.Errorf(codes.InvalidArgument, "volume %q has %d bytes, not %d", v.msg.Name, v.msg.Size, r.Size)
		}
		if err := a.n.devices.Resize(v.msg.Id, v.msg.Device, r.Size); err != nil {
			return err
		}
		v.msg.Size, v.msg.ClaimSize = r.Size, r.ClaimSize
		out = a.n.view(v, a.node)
		return nil
	})
	return out, err
}

func (a *agent) CreateSnapshot(_ context.Context, r *agentv1.CreateSnapshotRequest) (*agentv1.Snapshot, error) {
	var out *agentv1.Snapshot
	err := a.n.change(a.node, r.Volume, func(v *volume) (err error) {
		if err := v.openKey(r.EncryptionKey); err != nil {
			return err
		}
		out, err = a.n.snapshot(v, r.Name)
		return err
	})
	return out, err
}

// snapshot makes a snapshot, or gives the one of that name. The lock is held.
func (n *Network) snapshot(v *volume, name string) (*agentv1.Snapshot, error) {
	if name == "" || len(name) > 128 {
		return nil, status.Errorf(codes.InvalidArgument, "snapshot name %q", name)
	}
	for _, s := range v.msg.Snapshots {
		if s.Name == name && s.Kept {
			return nil, status.Errorf(codes.AlreadyExists, "snapshot %q is kept for its clones", name)
		}
		if s.Name == name {
			return s, nil
		}
	}
	n.clock++
	s := &agentv1.Snapshot{Id: newID(), Name: name, Volume: v.msg.Id, CreatedUnix: n.clock, Size: v.msg.Size}
	if err := n.devices.Copy(v.msg.Id, s.Id, s.Size); err != nil {
		return nil, err
	}
	v.msg.Snapshots = append(v.msg.Snapshots, s)
	return s, nil
}

// clones lists the live clones of a volume, of one of its snapshots if one is given. The lock is held.
func (n *Network) clones(volume, snapshot string) (names []string) {
	for _, v := range n.volumes {
		if !v.deleted && v.msg.Parent == volume && (snapshot == "" || v.msg.ParentSnapshot == snapshot) {
			names = append(names, v.msg.Name)
		}
	}
	return names
}

func (a *agent) DeleteSnapshot(_ context.Context, r *agentv1.DeleteSnapshotRequest) (*agentv1.DeleteSnapshotResponse, error) {
	return &agentv1.DeleteSnapshotResponse{}, a.n.change(a.node, r.Volume, func(v *volume) error {
		if err := v.openKey(r.EncryptionKey); err != nil {
			return err
		}
		i := slices.IndexFunc(v.msg.Snapshots, func(s *agentv1.Snapshot) bool { return s.Id == r.Snapshot || s.Name == r.Snapshot })
		if i < 0 {
			return nil
		}
		c := a.n.clones(v.msg.Id, v.msg.Snapshots[i].Id)
		if r.Keep && len(c) > 0 {
			v.msg.Snapshots[i].Kept = true
			return nil
		}
		if len(c) > 0 {
			return status.Errorf(codes.FailedPrecondition, "snapshot %q has the clones %q", r.Snapshot, c)
		}
		v.msg.Snapshots = slices.Delete(v.msg.Snapshots, i, i+1)
		return nil
	})
}

func (a *agent) CloneVolume(_ context.Context, r *agentv1.CloneVolumeRequest) (*agentv1.Volume, error) {
	n := a.n
	var out *agentv1.Volume
	err := n.change(a.node, r.Volume, func(v *volume) error {
		if err := v.checkKey(r.EncryptionKey); err != nil {
			return err
		}
		i := slices.IndexFunc(v.msg.Snapshots, func(s *agentv1.Snapshot) bool { return s.Id == r.Snapshot || s.Name == r.Snapshot })
		if i < 0 {
			return status.Errorf(codes.NotFound, "snapshot %q of volume %q", r.Snapshot, v.msg.Name)
		}
		s := v.msg.Snapshots[i]
		if s.Kept {
			return status.Errorf(codes.NotFound, "snapshot %q of volume %q is kept for its clones", r.Snapshot, v.msg.Name)
		}
		size := max(r.Size, 0)
		if size == 0 {
			size = s.Size
		}
		if size < s.Size {
			return status.Errorf(codes.InvalidArgument, "clone of %d bytes, the snapshot has %d", size, s.Size)
		}
		p := v.msg
		m := &agentv1.Volume{Name: r.Name, Size: size, Replicas: p.Replicas, Weak: p.Weak, ExtentSize: p.ExtentSize, Compression: p.Compression, Parent: p.Id, ParentSnapshot: s.Id,
			ClaimSize: r.ClaimSize}
		before := len(n.volumes)
		c, err := n.add(m, v.key, func(have *volume) bool {
			return have.msg.Parent == m.Parent && have.msg.ParentSnapshot == m.ParentSnapshot && have.msg.Size == m.Size
		})
		if err != nil {
			return err
		}
		if len(n.volumes) > before {
			if err := n.devices.Copy(s.Id, c.msg.Id, size); err != nil {
				return err
			}
		}
		out = n.view(c, a.node)
		return nil
	})
	return out, err
}

func (a *agent) DeleteVolume(_ context.Context, r *agentv1.DeleteVolumeRequest) (*agentv1.DeleteVolumeResponse, error) {
	err := a.n.change("", r.Volume, func(v *volume) error {
		if h := v.msg.HolderNode; h != "" && !a.n.dead[h] {
			return status.Errorf(codes.FailedPrecondition, "volume %q is attached on node %q; detach it first", v.msg.Name, h)
		}
		if c := a.n.clones(v.msg.Id, ""); len(c) > 0 {
			return status.Errorf(codes.FailedPrecondition, "volume %q has the clones %q", v.msg.Name, c)
		}
		v.deleted = true
		return nil
	})
	if status.Code(err) == codes.NotFound {
		err = nil
	}
	return &agentv1.DeleteVolumeResponse{}, err
}

// String names the agent in messages of tests.
func (a *agent) String() string { return fmt.Sprintf("agent of network %s on node %s", a.n.id, a.node) }
