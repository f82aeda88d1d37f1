package node

import (
	"context"
	"fmt"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/handle"
	"mynetwork.io/mynetwork/csi/request"
)

// NodeGetVolumeHealth implements csi.NodeServer.
func (d *Node) NodeGetVolumeHealth(ctx context.Context, r *csi.NodeGetVolumeHealthRequest) (*csi.NodeGetVolumeHealthResponse, error) {
	if r.VolumeId == "" {
		return nil, request.Invalid("no volume id")
	}
	h, err := handle.ParseVolume(r.VolumeId)
	if err != nil {
		return nil, err
	}
	a, err := d.local(ctx, h.Network)
	if err != nil {
		return nil, err
	}
	v, err := request.Inspect(ctx, a, h.ID)
	if err != nil {
		return nil, err
	}
	out := request.HealthOf(v)
	if v.State == agentv1.VolumeState_VOLUME_STATE_ELSEWHERE || v.State == agentv1.VolumeState_VOLUME_STATE_DETACHED {
		table, err := d.cfg.Mounter.List()
		if err != nil {
			return nil, err
		}
		for _, path := range []string{r.StagingTargetPath, r.VolumePublishPath} {
			if _, on := at(table, path); on {
				out = append(out, &csi.VolumeHealth_VolumeHealthEntry{Status: csi.VolumeHealthErrorType_INACCESSIBLE, Reason: request.ReasonNotAttached,
					Message: fmt.Sprintf("the volume is mounted here, but not attached any more (holder: %q); delete the pod, so that it starts again", v.HolderNode)})
				break
			}
		}
	}
	return &csi.NodeGetVolumeHealthResponse{VolumeHealth: &csi.VolumeHealth{VolumeId: h.String(), HealthStatuses: out}}, nil
}

// NodeGetStorageHealth implements csi.NodeServer.
func (d *Node) NodeGetStorageHealth(ctx context.Context, _ *csi.NodeGetStorageHealthRequest) (*csi.NodeGetStorageHealthResponse, error) {
	networks, err := d.cfg.Agents.Networks(ctx)
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	var away, bad []string
	for _, n := range networks {
		s, err := request.Status(ctx, d.cfg.Agents, n.ID, d.cfg.Name)
		if err != nil {
			away = append(away, fmt.Sprintf("network %s: %v", n.Name, err))
			continue
		}
		for _, st := range s.Stores {
			if st.Quarantined != "" {
				bad = append(bad, fmt.Sprintf("network %s, store %s: %s", n.Name, st.Id, st.Quarantined))
			}
		}
	}
	out := &csi.NodeGetStorageHealthResponse{}
	add := func(list []string, s csi.StorageHealthErrorType, reason string) {
		if len(list) > 0 {
			out.BackendHealth = append(out.BackendHealth, &csi.NodeGetStorageHealthResponse_StorageBackendHealth{Status: s, Reason: reason, Message: strings.Join(list, "; ")})
		}
	}
	add(away, csi.StorageHealthErrorType_STORAGE_UNREACHABLE, request.ReasonAgentUnreachable)
	add(bad, csi.StorageHealthErrorType_STORAGE_DEGRADED, request.ReasonStoreQuarantined)
	return out, nil
}
