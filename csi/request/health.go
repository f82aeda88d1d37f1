package request

import (
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
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

// HealthOf is what the agent that has a volume open knows against its health.
func HealthOf(v *agentv1.Volume) (out []*csi.VolumeHealth_VolumeHealthEntry) {
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
