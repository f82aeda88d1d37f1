package controller

import (
	"github.com/container-storage-interface/spec/lib/go/csi"
	"mynetwork.io/mynetwork/csi/request"
)

// checkTopology reports request.ErrRange if a volume is asked for where no node of its network is.
func (d *Controller) checkTopology(n request.Network, r *csi.TopologyRequirement) error {
	if !d.cfg.Topology || len(r.GetRequisite()) == 0 {
		return nil
	}
	for _, t := range r.Requisite {
		if t.GetSegments()[request.TopologyPrefix+n.Name] == request.TopologyValue {
			return nil
		}
	}
	return request.Invalid("no topology that is asked for has %s%s=%s", request.TopologyPrefix, n.Name, request.TopologyValue)
}

// accessible is where a volume can be used: on each node with its network's agent, whatever its zone. Nothing is said
// unless it was asked for.
func (d *Controller) accessible(n request.Network, r *csi.TopologyRequirement) []*csi.Topology {
	if !d.cfg.Topology || r == nil {
		return nil
	}
	return []*csi.Topology{{Segments: map[string]string{request.TopologyPrefix + n.Name: request.TopologyValue}}}
}
