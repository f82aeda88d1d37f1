package driver

import (
	"github.com/container-storage-interface/spec/lib/go/csi"
)

// TopologyPrefix begins the label of a node on which the agent of a network is ready; the network's id ends it.
const TopologyPrefix = "topology.mynetwork.io/"

const topologyValue = "true"

// checkTopology reports errRange if a volume is asked for where no node of its network is.
func (d *Driver) checkTopology(network string, r *csi.TopologyRequirement) error {
	if !d.cfg.Topology || len(r.GetRequisite()) == 0 {
		return nil
	}
	for _, t := range r.Requisite {
		if t.GetSegments()[TopologyPrefix+network] == topologyValue {
			return nil
		}
	}
	return invalid("no topology that is asked for has %s%s=%s", TopologyPrefix, network, topologyValue)
}

// accessible is where a volume can be used: on each node with its network's agent, whatever its zone. Nothing is said
// unless it was asked for.
func (d *Driver) accessible(network string, r *csi.TopologyRequirement) []*csi.Topology {
	if !d.cfg.Topology || r == nil {
		return nil
	}
	return []*csi.Topology{{Segments: map[string]string{TopologyPrefix + network: topologyValue}}}
}
