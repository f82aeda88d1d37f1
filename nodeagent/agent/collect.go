package agent

import (
	"net"
	"strconv"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/agent/stores"
)

// tell has what changed reported.
func (a *Agent) tell() {
	if a.kube != nil {
		a.kube.Changed()
	}
}

// collect says how this node is.
func (a *Agent) collect() v1alpha1.AgentStatus {
	st := v1alpha1.AgentStatus{Version: a.cfg.Version, Address: a.peerAddress(), ControlAddress: a.controlAddress(), Unreachable: a.members.Unreachable(),
		CertificateEnds: metav1.NewTime(a.trust.creds.Self().NotAfter)}
	select {
	case <-a.ready:
		st.Ready = true
	default:
	}
	for _, s := range a.stores.Statuses() {
		st.Stores = append(st.Stores, storeStatus(&s))
	}
	st.Pressure = a.health.Pressure()
	for _, s := range a.stores.Announce() {
		st.Copies += int64(s.Extents)
	}
	for _, v := range a.volumes.Open() {
		if v.Status != nil {
			st.MissingCopies += int64(v.Status.Degraded)
		}
	}
	st.LastCopies = a.lastCopies(st.Copies)
	if st.MissingCopies == 0 {
		st.SyncedVersion = int64(a.members.Version())
	}
	return st
}

// lastCopies is how many of this node's copies may be the last: all of them while no other storage node answers. Which extents
// other nodes have is not asked.
func (a *Agent) lastCopies(copies int64) int64 {
	for _, s := range a.members.States() {
		if s.Name != a.cfg.Node && s.Alive && len(s.Stores) > 0 {
			return 0
		}
	}
	return copies
}

// peerAddress is what other nodes reach this one by.
func (a *Agent) peerAddress() string {
	addr, ok := a.peerAddr.(*net.TCPAddr)
	if !ok {
		return ""
	}
	return net.JoinHostPort(a.cfg.Cluster.Address, strconv.Itoa(addr.Port))
}

// maxMessage is the most bytes of a message in a status.
const maxMessage = 1024

func storeStatus(s *stores.Status) v1alpha1.StoreStatus {
	out := v1alpha1.StoreStatus{ID: s.ID.String(), Path: s.Path, State: v1alpha1.StoreState(s.State)}
	if s.State != stores.Serving {
		out.Message = s.Message[:min(len(s.Message), maxMessage)]
	}
	if s.Capacity > 0 {
		out.Capacity, out.Used = resource.NewQuantity(s.Capacity, resource.BinarySI), resource.NewQuantity(s.Used, resource.BinarySI)
	}
	return out
}
