package driver

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/handle"
)

// Reasons of a volume's or a node's health.
const (
	// ReasonEngineEnded: the volume's device answers EIO on the node that has it; the pod must be started again.
	ReasonEngineEnded = "EngineEnded"
	// ReasonCopiesMissing: some extents have fewer copies than wanted; they are being made.
	ReasonCopiesMissing = "CopiesMissing"
	// ReasonFull: the network takes no more writes of this volume until space is freed or added.
	ReasonFull = "NetworkFull"
	// ReasonNotAttached: the volume is mounted here, but this node is not its writer any more.
	ReasonNotAttached = "NotAttached"
	// ReasonStoreQuarantined: a store of this node takes nothing any more; its data are made again elsewhere.
	ReasonStoreQuarantined = "StoreQuarantined"
	// ReasonAgentUnreachable: the network's agent on this node does not answer.
	ReasonAgentUnreachable = "AgentUnreachable"
)

// healthOf is what the agent that has a volume open knows against its health.
func healthOf(v *agentv1.Volume) (out []*csi.VolumeHealth_VolumeHealthEntry) {
	add := func(s csi.VolumeHealthErrorType, reason, format string, args ...any) {
		out = append(out, &csi.VolumeHealth_VolumeHealthEntry{Status: s, Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
	if v.State == agentv1.VolumeState_VOLUME_STATE_FAILED {
		add(csi.VolumeHealthErrorType_INACCESSIBLE, ReasonEngineEnded, "the volume serves no more on node %s: %s; delete the pod, so that it starts again", v.HolderNode, v.Failure)
	}
	if n := v.GetOpen().GetDegraded(); n > 0 {
		add(csi.VolumeHealthErrorType_DEGRADED, ReasonCopiesMissing, "%d of %d extents have fewer than %d copies", n, v.Open.Extents, v.Replicas)
	}
	if v.GetOpen().GetFull() {
		add(csi.VolumeHealthErrorType_DEGRADED, ReasonFull, "the network has no space left for it: writes are refused, deletes work")
	}
	return out
}

// ControllerGetVolumeHealth implements csi.ControllerServer.
func (d *Driver) ControllerGetVolumeHealth(ctx context.Context, r *csi.ControllerGetVolumeHealthRequest) (*csi.ControllerGetVolumeHealthResponse, error) {
	if r.VolumeId == "" {
		return nil, invalid("no volume id")
	}
	h, err := handle.ParseVolume(r.VolumeId)
	if err != nil {
		return nil, err
	}
	_, v, err := d.find(ctx, h)
	if err != nil {
		return nil, err
	}
	return &csi.ControllerGetVolumeHealthResponse{VolumeHealth: &csi.VolumeHealth{VolumeId: h.String(), HealthStatuses: healthOf(v)}}, nil
}

// ControllerListVolumeHealth implements csi.ControllerServer. It lists volumes with something against their health.
func (d *Driver) ControllerListVolumeHealth(ctx context.Context, r *csi.ControllerListVolumeHealthRequest) (*csi.ControllerListVolumeHealthResponse, error) {
	if r.StartingToken != "" {
		if _, err := handle.ParseVolume(r.StartingToken); err != nil {
			return nil, fmt.Errorf("starting token %q: %w", r.StartingToken, errToken)
		}
	}
	networks, err := d.cfg.Agents.Networks(ctx)
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	var all []*csi.VolumeHealth
	for _, n := range networks {
		states, _, err := d.survey(ctx, n)
		if err != nil {
			return nil, err
		}
		for _, s := range states {
			for _, v := range s.Volumes {
				if bad := healthOf(v); len(bad) > 0 {
					all = append(all, &csi.VolumeHealth{VolumeId: handle.Volume{Network: n, ID: v.Id}.String(), HealthStatuses: bad})
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b *csi.VolumeHealth) int { return strings.Compare(a.VolumeId, b.VolumeId) })
	// Two nodes may both have had it open: the first, which is enough to look closer.
	all = slices.CompactFunc(all, func(a, b *csi.VolumeHealth) bool { return a.VolumeId == b.VolumeId })
	part, next, err := paged(all, (*csi.VolumeHealth).GetVolumeId, r.MaxEntries, r.StartingToken)
	if err != nil {
		return nil, err
	}
	return &csi.ControllerListVolumeHealthResponse{Entries: part, NextToken: next}, nil
}

// NodeGetVolumeHealth implements csi.NodeServer.
func (d *Driver) NodeGetVolumeHealth(ctx context.Context, r *csi.NodeGetVolumeHealthRequest) (*csi.NodeGetVolumeHealthResponse, error) {
	if r.VolumeId == "" {
		return nil, invalid("no volume id")
	}
	h, err := handle.ParseVolume(r.VolumeId)
	if err != nil {
		return nil, err
	}
	a, err := d.local(ctx, h.Network)
	if err != nil {
		return nil, err
	}
	v, err := inspect(ctx, a, h.ID)
	if err != nil {
		return nil, err
	}
	out := healthOf(v)
	if v.State == agentv1.VolumeState_VOLUME_STATE_ELSEWHERE || v.State == agentv1.VolumeState_VOLUME_STATE_DETACHED {
		table, err := d.cfg.Mounter.List()
		if err != nil {
			return nil, err
		}
		for _, path := range []string{r.StagingTargetPath, r.VolumePublishPath} {
			if _, on := at(table, path); on {
				out = append(out, &csi.VolumeHealth_VolumeHealthEntry{Status: csi.VolumeHealthErrorType_INACCESSIBLE, Reason: ReasonNotAttached,
					Message: fmt.Sprintf("the volume is mounted here, but not attached any more (holder: %q); delete the pod, so that it starts again", v.HolderNode)})
				break
			}
		}
	}
	return &csi.NodeGetVolumeHealthResponse{VolumeHealth: &csi.VolumeHealth{VolumeId: h.String(), HealthStatuses: out}}, nil
}

// NodeGetStorageHealth implements csi.NodeServer.
func (d *Driver) NodeGetStorageHealth(ctx context.Context, _ *csi.NodeGetStorageHealthRequest) (*csi.NodeGetStorageHealthResponse, error) {
	networks, err := d.cfg.Agents.Networks(ctx)
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	var away, bad []string
	for _, n := range networks {
		s, err := d.status(ctx, n, d.cfg.Node)
		if err != nil {
			away = append(away, fmt.Sprintf("network %s: %v", n, err))
			continue
		}
		for _, st := range s.Stores {
			if st.Quarantined != "" {
				bad = append(bad, fmt.Sprintf("network %s, store %s: %s", n, st.Id, st.Quarantined))
			}
		}
	}
	out := &csi.NodeGetStorageHealthResponse{}
	add := func(list []string, s csi.StorageHealthErrorType, reason string) {
		if len(list) > 0 {
			out.BackendHealth = append(out.BackendHealth, &csi.NodeGetStorageHealthResponse_StorageBackendHealth{Status: s, Reason: reason, Message: strings.Join(list, "; ")})
		}
	}
	add(away, csi.StorageHealthErrorType_STORAGE_UNREACHABLE, ReasonAgentUnreachable)
	add(bad, csi.StorageHealthErrorType_STORAGE_DEGRADED, ReasonStoreQuarantined)
	return out, nil
}
