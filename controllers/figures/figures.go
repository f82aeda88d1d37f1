package figures

import (
	"context"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/metrics"
)

// Families lists what the operator exports.
func Families() []metrics.Family {
	n, node := []string{"network"}, []string{"network", "node"}
	const g = metrics.Gauge
	return []metrics.Family{
		{Name: "operator_leading", Kind: g, Help: "1 for the operator that leads."},
		{Name: "operator_events_total", Kind: metrics.Counter, Labels: []string{"reason", "type"}, Help: "Events that this operator told, by reason: VolumeFenced and PodDeleted are failovers."},
		{Name: "network_info", Kind: g, Labels: []string{"network", "uid"}, Help: "1 for each MyNetwork."},
		{Name: "network_condition", Kind: g, Labels: []string{"network", "condition"}, Help: "1 while a condition of the MyNetwork is True: Ready, Degraded, Rebalancing, CapacityLow, Stalled and others."},
		{Name: "network_nodes", Kind: g, Labels: []string{"network", "state"}, Help: "Nodes: wanted by the selector, ready, with storage, unreachable."},
		{Name: "network_volumes", Kind: g, Labels: []string{"network", "state"}, Help: "Volumes by state: attached, detached, deleting; degraded counts those of the first two with fewer copies than wanted."},
		{Name: "network_capacity_bytes", Kind: g, Labels: n, Help: "Bytes that storage nodes may use, over all copies."},
		{Name: "network_used_bytes", Kind: g, Labels: n, Help: "Bytes that they use."},
		{Name: "network_provisioned_bytes", Kind: g, Labels: n, Help: "Sum of the sizes of all volumes."},
		{Name: "network_stored_bytes", Kind: g, Labels: n, Help: "Bytes that volumes store, counted once."},
		{Name: "network_layout_version", Kind: g, Labels: n, Help: "Version of the present layout."},
		{Name: "network_layout_published_timestamp_seconds", Kind: g, Labels: n, Help: "When it was published, in Unix time."},
		{Name: "network_nodes_behind", Kind: g, Labels: n, Help: "Storage nodes that do not hold all of the present layout yet."},
		{Name: "network_copies_missing", Kind: g, Labels: n, Help: "Copies that nodes report missing."},
		{Name: "node_condition", Kind: g, Labels: []string{"network", "node", "condition"}, Help: "1 while a condition of the StorageNode is True."},
		{Name: "node_pressure", Kind: g, Labels: []string{"network", "node", "resource"}, Help: "1 while the node reports that a resource is above its threshold: cpu, memory, disk, latency or peers."},
		{Name: "node_unreachable", Kind: g, Labels: node, Help: "1 while a majority of its peers can not reach the node."},
		{Name: "node_ready", Kind: g, Labels: node, Help: "1 if the node's agent serves."},
		{Name: "node_weight", Kind: g, Labels: node, Help: "Share of the data relative to other nodes, in GiB."},
		{Name: "node_copies", Kind: g, Labels: node, Help: "Copies of extents that lie on the node."},
		{Name: "node_copies_missing", Kind: g, Labels: node, Help: "Copies that belong there and are not there yet."},
		{Name: "node_copies_last", Kind: g, Labels: node, Help: "Copies there that have no good copy elsewhere."},
		{Name: "node_stores", Kind: g, Labels: []string{"network", "node", "state"}, Help: "Stores of the node by state."},
	}
}

// Source is what is read at a scrape.
type Source struct {
	Reader client.Reader   // the operator's cache
	Leads  <-chan struct{} // closed once this operator leads
	Events *Events
}

// readTimeout bounds the wait for a cache that is not there yet.
const readTimeout = 5 * time.Second

// New makes the collector.
func New(s Source) *metrics.Collector {
	return metrics.New(Families(), func(e *metrics.Emitter) {
		s.Events.put(e)
		leads := false
		select {
		case <-s.Leads:
			leads = true
		default:
		}
		e.Flag("operator_leading", leads)
		if !leads {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
		defer cancel()
		var networks v1alpha1.MyNetworkList
		var nodes v1alpha1.StorageNodeList
		var records v1alpha1.VolumeRecordList
		for _, list := range []client.ObjectList{&networks, &nodes, &records} {
			if err := s.Reader.List(ctx, list); err != nil {
				return // of a cache that has not begun, or an operator that ends
			}
		}
		for i := range networks.Items {
			network(e, &networks.Items[i], nodes.Items, records.Items)
		}
		for i := range nodes.Items {
			node(e, &nodes.Items[i])
		}
	})
}

func conditions(list []metav1.Condition, put func(kind string, is bool)) {
	for _, c := range list {
		put(c.Type, c.Status == metav1.ConditionTrue)
	}
}

func network(e *metrics.Emitter, n *v1alpha1.MyNetwork, nodes []v1alpha1.StorageNode, records []v1alpha1.VolumeRecord) {
	name, st := n.Name, &n.Status
	e.Put("network_info", 1, name, string(n.UID))
	conditions(st.Conditions, func(kind string, is bool) { e.Flag("network_condition", is, name, kind) })
	var version int64
	if l := st.Layout; l != nil {
		version = l.Version
		e.Put("network_layout_version", float64(version), name)
		e.Put("network_layout_published_timestamp_seconds", float64(l.Published.Unix()), name)
	}
	var unreachable, behind int
	var missing int64
	for i := range nodes {
		o := &nodes[i]
		if o.Spec.Network != name {
			continue
		}
		if o.Status.Fencing != nil {
			unreachable++
		}
		if a := o.Status.Agent; a != nil {
			missing += a.MissingCopies
			if len(a.Stores) > 0 && a.SyncedVersion < version {
				behind++
			}
		}
	}
	e.Put("network_nodes", float64(st.Nodes.Wanted), name, "wanted")
	e.Put("network_nodes", float64(st.Nodes.Ready), name, "ready")
	e.Put("network_nodes", float64(st.Nodes.Storage), name, "storage")
	e.Put("network_nodes", float64(unreachable), name, "unreachable")
	e.Put("network_nodes_behind", float64(behind), name)
	e.Put("network_copies_missing", float64(missing), name)
	if c := st.Capacity; c.Total != nil && c.Used != nil {
		e.Put("network_capacity_bytes", float64(c.Total.Value()), name)
		e.Put("network_used_bytes", float64(c.Used.Value()), name)
	}
	volumes(e, n, records)
}

func volumes(e *metrics.Emitter, n *v1alpha1.MyNetwork, records []v1alpha1.VolumeRecord) {
	counts := map[string]int{"attached": 0, "detached": 0, "deleting": 0, "degraded": 0}
	var size, stored int64
	for i := range records {
		r := &records[i]
		if r.Spec.NetworkUID != string(n.UID) {
			continue
		}
		switch {
		case r.State.Deletion != nil:
			counts["deleting"]++
			continue
		case r.State.Holder != "":
			counts["attached"]++
		default:
			counts["detached"]++
		}
		if c := r.State.Copies; c > 0 && c < r.Spec.Copies {
			counts["degraded"]++
		}
		size += r.Spec.Capacity.Value()
		if r.State.Used != nil {
			stored += r.State.Used.Value()
		}
	}
	for state, count := range counts {
		e.Put("network_volumes", float64(count), n.Name, state)
	}
	e.Put("network_provisioned_bytes", float64(size), n.Name)
	e.Put("network_stored_bytes", float64(stored), n.Name)
}

func node(e *metrics.Emitter, n *v1alpha1.StorageNode) {
	network, name := n.Spec.Network, n.Spec.NodeName
	conditions(n.Status.Conditions, func(kind string, is bool) { e.Flag("node_condition", is, network, name, kind) })
	e.Flag("node_unreachable", n.Status.Fencing != nil, network, name)
	e.Put("node_weight", float64(n.Status.Weight), network, name)
	a := n.Status.Agent
	if a == nil {
		return
	}
	e.Flag("node_ready", a.Ready, network, name)
	for _, r := range []string{"cpu", "memory", "disk", "latency", "peers"} {
		e.Flag("node_pressure", slices.Contains(a.Pressure, r), network, name, r)
	}
	e.Put("node_copies", float64(a.Copies), network, name)
	e.Put("node_copies_missing", float64(a.MissingCopies), network, name)
	e.Put("node_copies_last", float64(a.LastCopies), network, name)
	states := map[v1alpha1.StoreState]int{}
	for _, s := range a.Stores {
		states[s.State]++
	}
	for _, s := range []v1alpha1.StoreState{v1alpha1.StoreNew, v1alpha1.StoreServing, v1alpha1.StoreFull, v1alpha1.StoreMissing, v1alpha1.StoreQuarantined} {
		e.Put("node_stores", float64(states[s]), network, name, string(s))
	}
}
