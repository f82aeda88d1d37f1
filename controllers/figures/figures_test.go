package figures

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

func quantity(n int64) *resource.Quantity { return resource.NewQuantity(n, resource.BinarySI) }

// world is a network with one node and three volumes.
func world(t *testing.T) client.Client {
	s := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	record := func(name string, st v1alpha1.VolumeState) *v1alpha1.VolumeRecord {
		return &v1alpha1.VolumeRecord{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.VolumeRecordSpec{Network: "main", NetworkUID: "u", Capacity: *quantity(1 << 30), Copies: 3}, State: st}
	}
	return fake.NewClientBuilder().WithScheme(s).WithObjects(
		&v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: "main", UID: "u"}, Status: v1alpha1.MyNetworkStatus{
			Conditions: []metav1.Condition{{Type: "Ready", Status: "True"}, {Type: "Degraded", Status: "False"}}, Nodes: v1alpha1.NodeCounts{Wanted: 3, Ready: 2, Storage: 3},
			Capacity: v1alpha1.CapacityStatus{Total: quantity(1000), Used: quantity(10)}, Layout: &v1alpha1.LayoutStatus{Version: 4, Published: metav1.Unix(1700000000, 0)}}},
		&v1alpha1.StorageNode{ObjectMeta: metav1.ObjectMeta{Name: "main.n1"}, Spec: v1alpha1.StorageNodeSpec{Network: "main", NodeName: "n1"}, Status: v1alpha1.StorageNodeStatus{
			Conditions: []metav1.Condition{{Type: "Ready", Status: "True"}}, Weight: 9, Fencing: &v1alpha1.FencingStatus{}, Agent: &v1alpha1.AgentStatus{Ready: true, Copies: 5, MissingCopies: 2, SyncedVersion: 3,
				Pressure: []string{"disk"}, Stores: []v1alpha1.StoreStatus{{State: v1alpha1.StoreFull}}}}},
		record("a", v1alpha1.VolumeState{Holder: "n1", Copies: 2, Used: quantity(7)}), record("b", v1alpha1.VolumeState{Copies: 3}), record("c", v1alpha1.VolumeState{Deletion: &v1alpha1.VolumeDeletion{}}),
	).Build()
}

func leading(is bool) <-chan struct{} {
	c := make(chan struct{})
	if is {
		close(c)
	}
	return c
}

func registry(t *testing.T, leads bool) *prometheus.Registry {
	e := NewEvents(events.NewFakeRecorder(10))
	e.Eventf(&v1alpha1.MyNetwork{}, nil, "Warning", v1alpha1.EventVolumeFenced, "Fence", "node %s", "n1")
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(New(Source{Reader: world(t), Leads: leading(leads), Events: e}))
	return r
}

// TestComplete: each family of the table is exported, with what the API says.
func TestComplete(t *testing.T) {
	r := registry(t, true)
	got, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range got {
		names = append(names, f.GetName())
	}
	for _, f := range Families() {
		if !slices.Contains(names, f.FullName()) {
			t.Errorf("%s is in the table and not exported", f.FullName())
		}
	}
	want := `# HELP mynetwork_network_volumes Volumes by state: attached, detached, deleting; degraded counts those of the first two with fewer copies than wanted.
# TYPE mynetwork_network_volumes gauge
mynetwork_network_volumes{network="main",state="attached"} 1
mynetwork_network_volumes{network="main",state="degraded"} 1
mynetwork_network_volumes{network="main",state="deleting"} 1
mynetwork_network_volumes{network="main",state="detached"} 1
# HELP mynetwork_network_nodes_behind Storage nodes that do not hold all of the present layout yet.
# TYPE mynetwork_network_nodes_behind gauge
mynetwork_network_nodes_behind{network="main"} 1
# HELP mynetwork_operator_events_total Events that this operator told, by reason: VolumeFenced and PodDeleted are failovers.
# TYPE mynetwork_operator_events_total counter
mynetwork_operator_events_total{reason="VolumeFenced",type="Warning"} 1
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "mynetwork_network_volumes", "mynetwork_network_nodes_behind", "mynetwork_operator_events_total"); err != nil {
		t.Error(err)
	}
}

// TestLint: names, types and helps are as Prometheus wants them.
func TestLint(t *testing.T) {
	got, err := registry(t, true).Gather()
	if err != nil {
		t.Fatal(err)
	}
	found, err := promlint.NewWithMetricFamilies(got).Lint()
	if err != nil || len(found) != 0 {
		t.Error(found, err)
	}
}

// TestFollower: who does not lead exports its own events, and no network.
func TestFollower(t *testing.T) {
	r := registry(t, false)
	if n, err := testutil.GatherAndCount(r, "mynetwork_network_info", "mynetwork_node_ready"); n != 0 || err != nil {
		t.Error(n, err)
	}
	if n, err := testutil.GatherAndCount(r, "mynetwork_operator_events_total"); n != 1 || err != nil {
		t.Error(n, err)
	}
}
