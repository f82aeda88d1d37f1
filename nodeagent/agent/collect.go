package agent

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/agent/caretaker"
	"mynetwork.io/mynetwork/nodeagent/agent/scrub"
	"mynetwork.io/mynetwork/nodeagent/agent/stores"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/clearing"
	"mynetwork.io/mynetwork/nodeagent/volume"
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
	st.Pressure, st.Lacks = a.health.Pressure(), a.lacks()
	a.copies(&st)
	return st
}

// copies says what copies are here, which of them are the last, and what keeps nodes from leaving.
func (a *Agent) copies(st *v1alpha1.AgentStatus) {
	here := a.held()
	f := a.figuresOf(here)
	st.Copies, st.LastCopies, st.MissingCopies, st.SyncedVersion = f.Copies, f.Last, f.Missing, int64(f.Synced)
	st.LastVolumes = some(f.Volumes)
	up := a.volumes.Upkeep()
	st.InPlaceVersion = int64(a.inPlace(&up))
	if len(st.Stores) > 0 { // a new layout is one report, not two
		st.InPlaceVersion = min(st.InPlaceVersion, st.SyncedVersion)
	}
	self, any := a.members.Leaving()
	if self {
		st.LeavingVolumes = some(slices.Collect(maps.Keys(here)))
	}
	if any {
		st.UnplacedVolumes = some(a.volumes.Unplaced(up.Version))
	}
}

// inPlace is the newest layout with which all volumes that are open here were in place, and which all stores here have acknowledged: under no older one
// an extent is opened here any more that counts on a store which that layout puts nothing on.
func (a *Agent) inPlace(up *volume.Upkeep) uint64 { return min(up.Synced, a.stores.Acknowledge()) }

// maxNamed is how many volumes a list of a status names.
const maxNamed = 8

// some names at most maxNamed volumes, always the same ones of many.
func some(list []block.VolumeID) (out []string) {
	for _, v := range list {
		out = append(out, v.String())
	}
	slices.Sort(out)
	return out[:min(len(out), maxNamed)]
}

// lacks is what the node plugin says that the node lacks to attach volumes; nothing without a plugin, or before it has looked.
func (a *Agent) lacks() []string {
	if a.cfg.Mounter == "" {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(a.cfg.Mounter), v1alpha1.NameLacks))
	if err != nil {
		return nil
	}
	return missing(string(text))
}

// missing are the lines of the plugin's file as the API takes them: at most 8, each once, of at most 1,024 bytes.
func missing(text string) (out []string) {
	for line := range strings.Lines(text) {
		if line = strings.ToValidUTF8(line[:min(len(line), 1024)], ""); strings.TrimSpace(line) != "" {
			out = append(out, strings.TrimSpace(line))
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), 8)]
}

// copyFigures counts the copies here.
func (a *Agent) copyFigures() caretaker.Figures { return a.figuresOf(a.held()) }

// held counts the extents of each volume that are here.
func (a *Agent) held() map[block.VolumeID]int {
	here := map[block.VolumeID]int{}
	for _, s := range a.stores.All() {
		for _, v := range s.Store.Volumes() {
			if v.Extents > 0 {
				here[v.Volume] += v.Extents
			}
		}
	}
	return here
}

// figuresOf judges the copies here.
func (a *Agent) figuresOf(here map[block.VolumeID]int) caretaker.Figures {
	f := a.caretaker.Figures(here)
	for _, n := range here {
		f.Copies += int64(n)
	}
	if a.alone() {
		f.Last, f.Volumes = f.Copies, slices.Collect(maps.Keys(here))
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
		out.Data = resource.NewQuantity(s.Data, resource.BinarySI)
	}
	if stage := a.stores.Clearing(s.ID); stage != clearing.Idle {
		out.Clearing = stage.String()
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
