package agent

import (
	"net"
	"strconv"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/agent/caretaker"
	"mynetwork.io/mynetwork/nodeagent/agent/scrub"
	"mynetwork.io/mynetwork/nodeagent/agent/stores"
	"mynetwork.io/mynetwork/nodeagent/core/block"
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
		st.Stores = append(st.Stores, a.storeStatus(&s))
	}
	st.Pressure = a.health.Pressure()
	f := a.copyFigures()
	st.Copies, st.LastCopies, st.MissingCopies, st.SyncedVersion = f.Copies, f.Last, f.Missing, int64(f.Synced)
	return st
}

// copyFigures counts the copies here.
func (a *Agent) copyFigures() caretaker.Figures {
	here := map[block.VolumeID]int{}
	copies := int64(0)
	for _, s := range a.stores.All() {
		for _, v := range s.Store.Volumes() {
			if v.Extents > 0 {
				here[v.Volume] += v.Extents
				copies += int64(v.Extents)
			}
		}
	}
	f := a.caretaker.Figures(here)
	if f.Copies = copies; a.alone() {
		f.Last = copies
	}
	return f
}

// alone tells that no other storage node answers: any copy here may be the last.
func (a *Agent) alone() bool {
	for _, s := range a.members.States() {
		if s.Name != a.cfg.Node && s.Alive && len(s.Stores) > 0 {
			return false
		}
	}
	return true
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

func (a *Agent) storeStatus(s *stores.Status) v1alpha1.StoreStatus {
	out := v1alpha1.StoreStatus{ID: s.ID.String(), Path: s.Path, State: v1alpha1.StoreState(s.State)}
	if s.State != stores.Serving {
		out.Message = s.Message[:min(len(s.Message), maxMessage)]
	}
	if s.Capacity > 0 {
		out.Capacity, out.Used = resource.NewQuantity(s.Capacity, resource.BinarySI), resource.NewQuantity(s.Used, resource.BinarySI)
	}
	if sc, ok := a.scrubbed(s.ID); ok {
		out.ErrorsFound, out.ErrorsRepaired = int64(sc.Found), int64(sc.Repaired)
		if !sc.Finished.IsZero() {
			out.LastScrubbed = metav1.NewTime(sc.Finished)
		}
	}
	return out
}

// scrubbed tells how far the scrub of a store is; ok is false if it has none.
func (a *Agent) scrubbed(id block.StoreID) (scrub.Status, bool) {
	if a.scrubber == nil {
		return scrub.Status{}, false
	}
	return a.scrubber.Status(id)
}
