package mynetwork_test

import (
	"encoding/hex"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/yaml"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/apply"
	"mynetwork.io/mynetwork/controllers/authority"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

func (w *world) layout(name string) *placement.Layout {
	w.t.Helper()
	st := w.network(name).Status.Layout
	if st == nil {
		w.t.Fatal("no layout")
	}
	raw, err := hex.DecodeString(st.Hash)
	if err != nil {
		w.t.Fatal(err)
	}
	body, ok := w.bodies[[32]byte(raw)]
	if !ok {
		w.t.Fatalf("the status names layout %d, and its body is nowhere", st.Version)
	}
	l, err := placement.Decode(body)
	if err != nil || int64(l.Version()) != st.Version {
		w.t.Fatalf("layout %d: %v", st.Version, err)
	}
	return l
}

// node edits a StorageNode, spec and status.
func (w *world) edit(name string, change func(*v1alpha1.StorageNode)) {
	w.t.Helper()
	n := &v1alpha1.StorageNode{}
	get(w, "", name, n)
	change(n)
	st := n.Status
	if err := w.client.Update(w.t.Context(), n); err != nil {
		w.t.Fatal(err)
	}
	n.Status = st
	if err := w.client.Status().Update(w.t.Context(), n); err != nil {
		w.t.Fatal(err)
	}
}

func TestLayout(t *testing.T) {
	w := served(t)
	if l := w.layout("main"); l.Len() != 3 || l.Width() != 3 {
		t.Fatalf("%d members, width %d", l.Len(), l.Width())
	}
	// A fourth node takes its share; within MinLayoutPeriod nothing is published.
	if err := w.client.Create(t.Context(), node("d")); err != nil {
		t.Fatal(err)
	}
	w.settle("main")
	w.now = w.network("main").Status.Layout.Published.Time.Add(time.Second)
	w.agents("main")
	res, err := w.reconcile("main")
	if err != nil || res.RequeueAfter <= 0 || res.RequeueAfter > mynetwork.MinLayoutPeriod || w.layout("main").Version() != 1 {
		t.Fatalf("%v %v, layout %d", res, err, w.layout("main").Version())
	}
	w.now = w.now.Add(res.RequeueAfter)
	if _, err := w.reconcile("main"); err != nil {
		t.Fatal(err)
	}
	if l := w.layout("main"); l.Version() != 2 || l.Len() != 4 {
		t.Fatalf("version %d, %d members", l.Version(), l.Len())
	}
	w.condition("main", v1alpha1.ConditionRebalancing, metav1.ConditionTrue, v1alpha1.ReasonMovingData)
	w.agents("main")
	w.settle("main")
	w.condition("main", v1alpha1.ConditionRebalancing, metav1.ConditionFalse, v1alpha1.ReasonBalanced)

	// Drained, it gives everything away and stays a member.
	w.now = w.now.Add(time.Minute)
	w.edit("main.d", func(n *v1alpha1.StorageNode) { n.Spec.Scheduling = v1alpha1.SchedulingDrained })
	w.settle("main")
	if l := w.layout("main"); l.Version() != 3 || l.Member(3).State != placement.Draining {
		t.Fatalf("version %d, %v", l.Version(), l.Members())
	}
}

// missed has all other nodes report that they can not reach some, since now.
func (w *world) missed(names ...string) {
	w.t.Helper()
	var list v1alpha1.StorageNodeList
	if err := w.client.List(w.t.Context(), &list); err != nil {
		w.t.Fatal(err)
	}
	for i := range list.Items {
		missed := slices.Contains(names, list.Items[i].Spec.NodeName)
		w.edit(list.Items[i].Name, func(n *v1alpha1.StorageNode) {
			n.Status.Fencing = nil
			if missed {
				n.Status.Fencing = &v1alpha1.FencingStatus{Since: metav1.NewTime(w.now)}
			} else {
				n.Status.Agent.Unreachable = names
			}
		})
	}
}

func (w *world) state(node string) placement.State {
	w.t.Helper()
	for _, m := range w.layout("main").Members() {
		if m.ID == node {
			return m.State
		}
	}
	w.t.Fatalf("node %s is not in the layout", node)
	return 0
}

// told tells whether an event with a reason came.
func (w *world) told(reason string) bool {
	found := false
	for {
		select {
		case e := <-w.events.Events:
			found = found || strings.Contains(e, reason)
		default:
			return found
		}
	}
}

// TestUnreachableNodeIsWaitedFor: a node is taken out of the layout when a majority has not reached it for the time that the network says, and
// taken back when it is there again; one that is reached again, whatever its status still says, is not taken out.
func TestUnreachableNodeIsWaitedFor(t *testing.T) {
	for _, grace := range []time.Duration{0, 30 * time.Minute} {
		w := served(t)
		want := mynetwork.DownAfter
		if grace > 0 {
			want = grace
			n := w.network("main")
			n.Spec.Nodes.DownAfter = &metav1.Duration{Duration: grace}
			if err := w.client.Update(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			w.settle("main")
		}
		w.now = w.now.Add(time.Hour)
		w.missed("c")
		res, err := w.reconcile("main")
		if err != nil || res.RequeueAfter != want || w.layout("main").Version() != 1 {
			t.Fatalf("%v %v, version %d", res, err, w.layout("main").Version())
		}
		w.condition("main", v1alpha1.ConditionDegraded, metav1.ConditionTrue, v1alpha1.ReasonNodesDown)
		w.now = w.now.Add(want - time.Second)
		w.settle("main")
		if w.state("c") != placement.Active {
			t.Fatal("the node was taken out too early")
		}
		w.now = w.now.Add(time.Second)
		w.edit("main.a", func(n *v1alpha1.StorageNode) { n.Status.Agent.Unreachable = nil })
		w.settle("main")
		if w.state("c") != placement.Active {
			t.Fatal("a node that one of two reaches was taken out")
		}
		w.edit("main.a", func(n *v1alpha1.StorageNode) { n.Status.Agent.Unreachable = []string{"c"} })
		w.settle("main")
		if w.state("c") != placement.Down || !w.told(v1alpha1.EventNodeTakenOut) {
			t.Fatalf("version %d, %v", w.layout("main").Version(), w.layout("main").Members())
		}
		w.now = w.now.Add(time.Hour)
		w.missed()
		w.settle("main")
		if w.state("c") != placement.Active || !w.told(v1alpha1.EventNodeTakenBack) {
			t.Fatalf("version %d, %v", w.layout("main").Version(), w.layout("main").Members())
		}
	}
}

// TestTooManyDeadMoveNothing: more dead nodes than a fault of the network could leave behind change no layout; who was out already stays out.
func TestTooManyDeadMoveNothing(t *testing.T) {
	w := served(t, node("d"), node("e"), node("f"))
	w.now = w.now.Add(time.Hour)
	w.missed("a")
	w.now = w.now.Add(mynetwork.DownAfter)
	w.settle("main")
	if w.state("a") != placement.Down {
		t.Fatal("one of six was not taken out")
	}
	version := w.layout("main").Version()
	w.now = w.now.Add(time.Hour)
	w.missed("a", "b")
	w.now = w.now.Add(mynetwork.DownAfter)
	w.settle("main")
	if w.state("a") != placement.Down || w.state("b") != placement.Active || w.layout("main").Version() != version {
		t.Fatalf("version %d, %v", w.layout("main").Version(), w.layout("main").Members())
	}
	w.condition("main", v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonTooManyDead)
	w.missed("a") // b is back
	w.now = w.now.Add(mynetwork.DownAfter)
	w.settle("main")
	if w.state("a") != placement.Down || w.state("b") != placement.Active {
		t.Fatalf("%v", w.layout("main").Members())
	}
}

func TestWithoutTheBodyNoLayoutIsMade(t *testing.T) {
	w := served(t)
	clear(w.bodies)
	w.now = w.now.Add(time.Hour)
	w.edit("main.c", func(n *v1alpha1.StorageNode) { n.Spec.Weight = new(int64(7)) })
	for range 3 {
		if _, err := w.reconcile("main"); err != nil {
			t.Fatal(err)
		}
	}
	w.condition("main", v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonLayoutUnavailable)
	if v := w.network("main").Status.Layout.Version; v != 1 || len(w.bodies) != 0 {
		t.Errorf("layout %d was made from nothing", v)
	}
}

func TestCapacityLow(t *testing.T) {
	for used, want := range map[string]string{"50Gi": v1alpha1.ReasonEnoughSpace, "91Gi": v1alpha1.ReasonAboveWarning, "96Gi": v1alpha1.ReasonAboveCritical} {
		w := served(t)
		for _, n := range []string{"main.a", "main.b", "main.c"} {
			w.edit(n, func(n *v1alpha1.StorageNode) { n.Status.Agent.Stores[0].Used = new(resource.MustParse(used)) })
		}
		w.settle("main")
		value := metav1.ConditionTrue
		if want == v1alpha1.ReasonEnoughSpace {
			value = metav1.ConditionFalse
		}
		w.condition("main", v1alpha1.ConditionCapacityLow, value, want)
	}
}

func TestStrictZones(t *testing.T) {
	w := served(t)
	w.now = w.now.Add(time.Hour)
	n := w.network("main")
	n.Spec.Volumes.Zones = v1alpha1.ZonesStrict
	if err := w.client.Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	w.settle("main")
	w.condition("main", v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonTooFewZones)
	if w.layout("main").Version() != 1 {
		t.Error("the layout changed")
	}
}

func plannable() *mynetwork.State {
	s := &mynetwork.State{Now: start, Network: net("main"), Options: mynetwork.Options{Namespace: namespace, Image: "i:1"}}
	s.Network.Spec.Nodes.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"}}
	for _, name := range []string{"a", "b", "c"} {
		n := node(name)
		n.Labels = s.Network.Spec.Nodes.Selector.MatchLabels
		s.Nodes = append(s.Nodes, *n)
	}
	data, err := authority.New(string(s.Network.UID), start)
	if err != nil {
		panic(err)
	}
	s.Authority = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{apply.AnnotationUID: string(s.Network.UID)}}, Data: data}
	return s
}

// TestSnapshotClasses: a network has the classes of those snapshot APIs that the cluster serves, in the version that it serves, and they end with it.
func TestSnapshotClasses(t *testing.T) {
	for _, c := range []struct {
		single bool
		groups string
		want   []string
	}{
		{false, "", nil},
		{true, "", []string{"snapshot.storage.k8s.io/v1 VolumeSnapshotClass"}},
		{true, "v1beta2", []string{"snapshot.storage.k8s.io/v1 VolumeSnapshotClass", "groupsnapshot.storage.k8s.io/v1beta2 VolumeGroupSnapshotClass"}},
	} {
		s := plannable()
		s.SnapshotAPI, s.GroupSnapshotAPI = c.single, c.groups
		named := func(list []client.Object) (out []string) {
			for _, o := range list {
				if u, ok := o.(*unstructured.Unstructured); ok {
					out = append(out, u.GetAPIVersion()+" "+u.GetKind())
					if u.GetName() != "mynetwork-main" || u.Object["driver"] != v1alpha1.DriverName || u.Object["deletionPolicy"] != "Delete" {
						t.Errorf("class %v", u.Object)
					}
				}
			}
			return out
		}
		p, err := mynetwork.Compute(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := named(p.Apply); !slices.Equal(got, c.want) {
			t.Errorf("classes %q, want %q", got, c.want)
		}
		s.Network.DeletionTimestamp = &metav1.Time{Time: start}
		if p, err = mynetwork.Compute(s); err != nil {
			t.Fatal(err)
		}
		if got := named(p.Delete); !slices.Equal(got, c.want) {
			t.Errorf("classes that end %q, want %q", got, c.want)
		}
	}
}

func TestPlanIsPure(t *testing.T) {
	s := plannable()
	before, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var first string
	for i := range 20 {
		p, err := mynetwork.Compute(s)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = string(b)
		} else if string(b) != first {
			t.Fatalf("plan %d differs:\n%s\n%s", i, b, first)
		}
	}
	if after, _ := json.Marshal(s); string(after) != string(before) {
		t.Error("the plan changed its state")
	}
}

func TestTaintedNodesDoNotBelong(t *testing.T) {
	s := plannable()
	s.Nodes[0].Spec.Taints = []corev1.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule}}
	s.Nodes[1].Spec.Taints = []corev1.Taint{{Key: v1alpha1.TaintUnreachable, Effect: corev1.TaintEffectNoSchedule},
		{Key: "node.kubernetes.io/not-ready", Effect: corev1.TaintEffectNoExecute}, {Key: "soft", Effect: corev1.TaintEffectPreferNoSchedule}}
	p, err := mynetwork.Compute(s)
	if err != nil || p.Status.Nodes.Wanted != 2 {
		t.Errorf("%v, %+v", err, p.Status.Nodes)
	}
	s.Network.Spec.Nodes.Tolerations = []corev1.Toleration{{Key: "node-role.kubernetes.io/control-plane", Operator: corev1.TolerationOpExists}}
	if p, err = mynetwork.Compute(s); err != nil || p.Status.Nodes.Wanted != 3 {
		t.Errorf("%v, %+v", err, p.Status.Nodes)
	}
}

func TestNodeChanged(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*corev1.Node)
		want   bool
	}{
		"a heartbeat": {func(n *corev1.Node) { n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady}} }, false},
		"a label":     {func(n *corev1.Node) { n.Labels["new"] = "x" }, true},
		"a taint":     {func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "k"}} }, true},
		"another":     {func(n *corev1.Node) { n.UID = "second" }, true},
	} {
		n := node("a")
		c.change(n)
		if got := mynetwork.NodeChanged().Update(event.UpdateEvent{ObjectOld: node("a"), ObjectNew: n}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What the ConfigMap sets is what the program reads: the keys are compared with the source of its list of settings.
func TestSettingsAreKnown(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "../../cmd/internal/settings/keys.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
			if s, err := strconv.Unquote(l.Value); err == nil {
				known[s] = true
			}
		}
		return true
	})
	p, err := mynetwork.Compute(plannable())
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, o := range p.Apply {
		c, ok := o.(*corev1.ConfigMap)
		if !ok {
			continue
		}
		if ca := c.Data["ca.crt"]; !strings.Contains(ca, "BEGIN CERTIFICATE") || strings.Contains(ca+c.Data["mynetwork.yaml"], "PRIVATE") {
			t.Errorf("bundle %q", ca)
		}
		var groups map[string]map[string]any
		if err := yaml.Unmarshal([]byte(c.Data["mynetwork.yaml"]), &groups); err != nil {
			t.Fatal(err)
		}
		for g, keys := range groups {
			for k := range keys {
				found++
				if !known[g+"."+k] {
					t.Errorf("the program has no setting %s.%s", g, k)
				}
			}
		}
	}
	if found < 5 || known["agent.nonsense"] {
		t.Errorf("%d settings compared", found)
	}
}

func TestPodsHaveNoRights(t *testing.T) {
	w := newWorld(t, three("main")...)
	w.settle("main")
	p, err := mynetwork.Compute(plannable())
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(p.Apply)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{`"privileged":true`, `"hostPID":true`, `"hostNetwork":true`, `"allowPrivilegeEscalation":true`} {
		if strings.Contains(string(b), bad) {
			t.Errorf("a pod has %s", bad)
		}
	}
	if strings.Count(string(b), `"drop":["ALL"]`) != 2 || strings.Count(string(b), `"runAsNonRoot":true`) != 2 {
		t.Error("agent and holder do not drop all capabilities, or may run as root")
	}
}
