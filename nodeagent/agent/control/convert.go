package control

import (
	"fmt"
	"strings"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/agent/events"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

func kindOf(k agentv1.DeviceKind) volumes.Kind {
	switch k {
	case agentv1.DeviceKind_DEVICE_KIND_UNSPECIFIED:
		return ""
	case agentv1.DeviceKind_DEVICE_KIND_NONE:
		return volumes.None
	case agentv1.DeviceKind_DEVICE_KIND_FUSE:
		return volumes.Fuse
	case agentv1.DeviceKind_DEVICE_KIND_NBD:
		return volumes.NBD
	}
	return volumes.Kind(fmt.Sprintf("kind %d", k))
}

func fromKind(k volumes.Kind) agentv1.DeviceKind {
	switch k {
	case volumes.None:
		return agentv1.DeviceKind_DEVICE_KIND_NONE
	case volumes.Fuse:
		return agentv1.DeviceKind_DEVICE_KIND_FUSE
	case volumes.NBD:
		return agentv1.DeviceKind_DEVICE_KIND_NBD
	}
	return agentv1.DeviceKind_DEVICE_KIND_UNSPECIFIED
}

func fromState(s volumes.State) agentv1.VolumeState {
	switch s {
	case volumes.Attached:
		return agentv1.VolumeState_VOLUME_STATE_ATTACHED
	case volumes.Elsewhere:
		return agentv1.VolumeState_VOLUME_STATE_ELSEWHERE
	case volumes.Failed:
		return agentv1.VolumeState_VOLUME_STATE_FAILED
	case volumes.Deleted:
		return agentv1.VolumeState_VOLUME_STATE_DELETED
	}
	return agentv1.VolumeState_VOLUME_STATE_DETACHED
}

func (s *Server) volume(i *volumes.Info) *agentv1.Volume {
	v := &agentv1.Volume{
		Id: i.ID.String(), Name: i.Name, Size: i.Size, Replicas: int32(i.Replicas), Weak: i.Weak, ExtentSize: i.Extent,
		Compression: agentv1.Compression(i.Compression), Encrypted: i.Encrypted, State: fromState(i.State), HolderNode: i.Holder,
		Device: i.Device, DeviceKind: fromKind(i.Kind), DeviceTransport: i.Transport, Epoch: i.Fact.Epoch.String(), CreatedUnix: i.Created,
		ClaimNamespace: i.Claim.Namespace, ClaimName: i.Claim.Name, ClaimSize: i.Claim.Size, MaxIops: i.Limits.IOPS, MaxBytesPerSecond: i.Limits.BytesPerSecond,
		Used: i.Used, Copies: int32(i.Copies), DataLossPossible: i.Lost,
		MinReplicas: int32(i.Adaptive.Least), MaxReplicas: int32(i.Adaptive.Most), ReplicasReason: i.Adaptive.Why, ReplicasChangedUnix: i.Adaptive.Changed,
	}
	if d, ok := s.parts.Demand(i.ID); ok {
		v.ReplicasVerdict = d.Words()
	}
	if !i.Parent.IsZero() {
		v.Parent, v.ParentSnapshot = i.Parent.String(), fmt.Sprintf("%x", i.Snapshot)
	}
	if i.Err != nil {
		v.Failure = i.Err.Error()
	}
	_, v.Sealed = i.Sealed()
	for _, n := range i.Snapshots {
		if n.Name == registry.SealName {
			continue // it is how the volume is, and nobody's snapshot
		}
		v.Snapshots = append(v.Snapshots, &agentv1.Snapshot{Id: fmt.Sprintf("%x", n.ID), Name: n.Name, Volume: v.Id, CreatedUnix: n.Created, Size: n.Size, Kept: n.Kept})
	}
	if st := i.Status; st != nil {
		v.HolderNode = s.parts.Node
		v.Epoch = st.Epoch.String()
		v.Snapshots = nil
		for j := range st.Snapshots {
			if st.Snapshots[j].Name == registry.SealName {
				continue
			}
			n := snapshot(&st.Snapshots[j], i.ID)
			if known, ok := i.FindSnapshot(n.Id); ok {
				n.Kept = known.Kept
			}
			v.Snapshots = append(v.Snapshots, n)
		}
		v.Open = s.open(st)
	}
	return v
}

func (s *Server) open(st *volume.Status) *agentv1.OpenVolume {
	o := &agentv1.OpenVolume{Committed: st.Committed, Appended: st.Appended, Extent: st.Extent.String(), Extents: int32(st.Extents),
		Degraded: int32(st.Degraded), RingUsed: st.RingUsed, Full: st.Full, CacheHitRate: s.parts.Cache.Metrics().HitRate()}
	for _, m := range st.Members {
		node, _ := s.parts.Members.Owner(m.Store)
		o.Replicas = append(o.Replicas, &agentv1.Replica{Store: m.Store.String(), Node: node, Durable: m.Durable, Failed: m.Failed})
	}
	c := &st.Stats
	o.Counters = map[string]uint64{"writes": c.Writes, "reads": c.Reads, "flushes": c.Flushes, "writtenBytes": c.WrittenBytes,
		"readBytes": c.ReadBytes, "journalBytes": c.JournalBytes, "checkpoints": c.Checkpoints, "rolls": c.Rolls,
		"recoveries": c.Recoveries, "repaired": c.Repaired, "badPages": c.BadPages, "cleaned": c.Cleaned, "freed": c.Freed,
		"copiesNamed": c.Named, "copiesDropped": c.Dropped, "copiedBytes": c.Copied, "demoted": c.Demoted, "hedgedReads": c.Hedged, "hedgesWon": c.HedgesWon}
	return o
}

func snapshot(r *journal.SnapshotRoot, v block.VolumeID) *agentv1.Snapshot {
	return &agentv1.Snapshot{Id: fmt.Sprintf("%x", r.ID), Name: r.Name, Volume: v.String(), CreatedUnix: r.Created, Size: int64(r.Pages) * block.PageSize}
}

func event(e *events.Event) *agentv1.Event {
	return &agentv1.Event{UnixNanos: e.At.UnixNano(), Number: e.Number, Level: strings.ToLower(e.Level.String()),
		Reason: e.Reason, Volume: e.Volume, Message: e.Message}
}
