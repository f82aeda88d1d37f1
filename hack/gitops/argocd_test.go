package gitops

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	lua "github.com/yuin/gopher-lua"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/contentgroup"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/controllers/status"
	"mynetwork.io/mynetwork/controllers/storagenode"
)

const (
	healthy     = "Healthy"
	progressing = "Progressing"
	degraded    = "Degraded"
	suspended   = "Suspended"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// health is what Argo CD would say.
type health struct{ Status, Message string }

// scripts are the health scripts by group_kind.
func scripts(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../config/argocd/health.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var settings corev1.ConfigMap
	if err := yaml.UnmarshalStrict(text, &settings); err != nil {
		t.Fatal(err)
	}
	if settings.Name != "argocd-cm" || settings.Namespace != "" {
		t.Errorf("it patches %s/%s", settings.Namespace, settings.Name)
	}
	out := map[string]string{}
	for key, script := range settings.Data {
		kind, ok := strings.CutPrefix(key, "resource.customizations.health.")
		if !ok {
			t.Errorf("%s is no health script", key)
		}
		out[kind] = script
	}
	return out
}

// run does what Argo CD's util/lua does: base, package and table libraries, and obj as a table of the object's JSON.
func run(script string, object any) (health, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return health{}, err
	}
	var tree map[string]any
	if err := json.Unmarshal(text, &tree); err != nil {
		return health{}, err
	}
	l := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer l.Close()
	for _, lib := range []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}} {
		if err := l.CallByParam(lua.P{Fn: l.NewFunction(lib.open), Protect: true}, lua.LString(lib.name)); err != nil {
			return health{}, err
		}
	}
	l.SetGlobal("obj", value(l, tree))
	if err := l.DoString(script); err != nil {
		return health{}, err
	}
	table, ok := l.Get(-1).(*lua.LTable)
	if !ok {
		return health{}, fmt.Errorf("it answers %v, not a table", l.Get(-1))
	}
	return health{lua.LVAsString(table.RawGetString("status")), lua.LVAsString(table.RawGetString("message"))}, nil
}

// value makes a Lua value of what encoding/json made.
func value(l *lua.LState, v any) lua.LValue {
	switch v := v.(type) {
	case map[string]any:
		t := l.NewTable()
		for key, e := range v {
			t.RawSetString(key, value(l, e))
		}
		return t
	case []any:
		t := l.NewTable()
		for _, e := range v {
			t.Append(value(l, e))
		}
		return t
	case string:
		return lua.LString(v)
	case float64:
		return lua.LNumber(v)
	case bool:
		return lua.LBool(v)
	}
	return lua.LNil
}

// assess runs the script of the object's kind.
func assess(t *testing.T, object any, kind string) health {
	t.Helper()
	h, err := run(scripts(t)[v1alpha1.GroupName+"_"+kind], object)
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	if h.Message == "" {
		t.Errorf("%s is %s, without a message", kind, h.Status)
	}
	return h
}

// Every kind of the API has a script, and no other has.
func TestEveryKindHasAScript(t *testing.T) {
	s := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	have := scripts(t)
	for kind, typ := range s.KnownTypes(v1alpha1.GroupVersion()) {
		if typ.PkgPath() != "mynetwork.io/mynetwork/api/v1alpha1" || strings.HasSuffix(kind, "List") {
			continue
		}
		if have[v1alpha1.GroupName+"_"+kind] == "" {
			t.Errorf("%s has no script", kind)
		}
		delete(have, v1alpha1.GroupName+"_"+kind)
	}
	if len(have) != 0 {
		t.Errorf("scripts for what there is not: %v", have)
	}
}

// conditioned makes an object of a kind that has conditions.
func conditioned(kind string, generation, observed int64, c []metav1.Condition) any {
	meta := metav1.ObjectMeta{Name: "x", Generation: generation}
	switch kind {
	case "MyNetwork":
		return &v1alpha1.MyNetwork{ObjectMeta: meta, Status: v1alpha1.MyNetworkStatus{ObservedGeneration: observed, Conditions: c}}
	case "StorageNode":
		return &v1alpha1.StorageNode{ObjectMeta: meta, Status: v1alpha1.StorageNodeStatus{ObservedGeneration: observed, Conditions: c}}
	}
	return &v1alpha1.ContentGroup{ObjectMeta: meta, Status: v1alpha1.ContentGroupStatus{ObservedGeneration: observed, Conditions: c}}
}

// What controllers/status writes: each outcome after each other, at the same generation and at a new one, before and after it is seen.
func TestOutcomes(t *testing.T) {
	outcomes := map[string]status.Outcome{
		healthy:     status.OutcomeReady("serves"),
		progressing: status.OutcomeProgressing(v1alpha1.ReasonProgressing, "waits for 3 agents"),
		degraded:    status.OutcomeStalled(v1alpha1.ReasonNoNodes, "label a node"),
	}
	for _, kind := range []string{"MyNetwork", "StorageNode", "ContentGroup"} {
		for _, first := range outcomes {
			for want, then := range outcomes {
				for generation := int64(1); generation <= 2; generation++ {
					var c []metav1.Condition
					status.Set(&c, 1, first, epoch)
					observed := status.Observed(0, 1, first)
					if generation == 2 {
						h := assess(t, conditioned(kind, 2, observed, c), kind)
						if h.Status != progressing {
							t.Errorf("%s: %v of an older generation is %v", kind, first, h)
						}
					}
					status.Set(&c, generation, then, epoch)
					observed = status.Observed(observed, generation, then)
					if h := assess(t, conditioned(kind, generation, observed, c), kind); h != (health{want, then.Message}) {
						t.Errorf("%s: %v then %v is %v, want %s", kind, first, then, h, want)
					}
				}
			}
		}
	}
}

// Statuses that this operator does not write, or not at once.
func TestOtherStatuses(t *testing.T) {
	is := func(kind string, s metav1.ConditionStatus) metav1.Condition {
		return metav1.Condition{Type: kind, Status: s, Reason: "R", Message: "why " + kind, ObservedGeneration: 1}
	}
	for name, c := range map[string]struct {
		conditions []metav1.Condition
		want       health
	}{
		"none":               {nil, health{progressing, "not ready yet"}},
		"unknown":            {[]metav1.Condition{is("Ready", "Unknown")}, health{progressing, "not ready yet"}},
		"not ready, no why":  {[]metav1.Condition{is("Ready", "False")}, health{progressing, "not ready yet"}},
		"stalled is False":   {[]metav1.Condition{is("Ready", "True"), is("Stalled", "False")}, health{healthy, "why Ready"}},
		"ready, but stalled": {[]metav1.Condition{is("Ready", "True"), is("Stalled", "True")}, health{degraded, "why Stalled"}},
		"copies are missing": {[]metav1.Condition{is("Ready", "True"), is("Degraded", "True"), is("CapacityLow", "False")}, health{healthy, "why Ready; Degraded: why Degraded"}},
		"space is low":       {[]metav1.Condition{is("Ready", "True"), is("CapacityLow", "True")}, health{healthy, "why Ready; CapacityLow: why CapacityLow"}},
	} {
		if h := assess(t, conditioned("MyNetwork", 1, 1, c.conditions), "MyNetwork"); h != c.want {
			t.Errorf("%s: %v, want %v", name, h, c.want)
		}
	}
	for _, kind := range []string{"MyNetwork", "StorageNode", "ContentGroup"} {
		bare := map[string]any{"metadata": map[string]any{"generation": 1}, "spec": map[string]any{}}
		if h := assess(t, bare, kind); h.Status != progressing {
			t.Errorf("%s without a status is %v", kind, h)
		}
	}
}

// What the controllers' own pure functions say of real objects.
func TestControllersStatuses(t *testing.T) {
	n := &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: "main", UID: "u", Generation: 1}}
	network := func() health {
		p, err := mynetwork.Compute(&mynetwork.State{Options: mynetwork.Options{Namespace: "s"}, Now: epoch, Network: n})
		if err != nil {
			t.Fatal(err)
		}
		n.Status = p.Status
		return assess(t, n, "MyNetwork")
	}
	if h := network(); h.Status != degraded {
		t.Errorf("a network without nodes is %v", h)
	}
	n.Spec.Paused, n.Generation = true, 2
	if h := assess(t, n, "MyNetwork"); h.Status != suspended {
		t.Errorf("a network that was just paused is %v", h)
	}
	if h := network(); h.Status != suspended {
		t.Errorf("a paused network is %v", h)
	}
	n.Spec.Paused, n.Generation = false, 3
	if h := assess(t, n, "MyNetwork"); h.Status != progressing {
		t.Errorf("a network that is paused no more, which nobody saw yet, is %v", h)
	}
	s := v1alpha1.StorageNode{ObjectMeta: metav1.ObjectMeta{Name: "main.a", Generation: 1}, Spec: v1alpha1.StorageNodeSpec{Network: "main", NodeName: "a"}}
	for want, state := range map[string]storagenode.State{
		degraded:    {Name: "main", Now: epoch, StorageNodes: []v1alpha1.StorageNode{s}},
		progressing: {Name: "main", Now: epoch, StorageNodes: []v1alpha1.StorageNode{s}, Network: n, Nodes: map[string]*corev1.Node{"a": {ObjectMeta: metav1.ObjectMeta{Name: "a"}}}},
	} {
		s.Status = storagenode.Compute(&state).Statuses[s.Name]
		if h := assess(t, &s, "StorageNode"); h.Status != want {
			t.Errorf("a node is %v, want %s", h, want)
		}
	}
	g := &v1alpha1.ContentGroup{ObjectMeta: metav1.ObjectMeta{Name: "data", Namespace: "default", Generation: 1}, Spec: v1alpha1.ContentGroupSpec{Network: "main", Claim: "data"}}
	g.Status = contentgroup.Compute(g, true, []v1alpha1.VolumeRecord{*record()}, contentgroup.Asked{}, epoch)
	if h := assess(t, g, "ContentGroup"); h.Status != healthy || !strings.Contains(h.Message, "Degraded: a part of the volume has 2 of 3 copies") {
		t.Errorf("a group whose volume misses copies is %v", h)
	}
	g.Status = contentgroup.Compute(g, false, nil, contentgroup.Asked{}, epoch)
	if h := assess(t, g, "ContentGroup"); h.Status != degraded {
		t.Errorf("a group of no network is %v", h)
	}
}

// record is of a volume of which a copy is missing.
func record() *v1alpha1.VolumeRecord {
	return &v1alpha1.VolumeRecord{ObjectMeta: metav1.ObjectMeta{Name: "v", Generation: 5}, State: v1alpha1.VolumeState{Holder: "a", Copies: 2},
		Spec: v1alpha1.VolumeRecordSpec{Network: "main", Copies: 3, Claim: &v1alpha1.ClaimReference{Namespace: "default", Name: "data"}}}
}

func TestVolumeRecords(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*v1alpha1.VolumeRecord)
		want   health
	}{
		"missing copies": {func(*v1alpha1.VolumeRecord) {}, health{healthy, "a part of the volume has 2 of 3 copies"}},
		"attached":       {func(r *v1alpha1.VolumeRecord) { r.State.Copies = 3 }, health{healthy, "attached to a"}},
		"fresh":          {func(r *v1alpha1.VolumeRecord) { r.State = v1alpha1.VolumeState{} }, health{healthy, "not attached"}},
		"deleted": {func(r *v1alpha1.VolumeRecord) { r.State.Deletion = &v1alpha1.VolumeDeletion{} },
			health{progressing, "the volume is deleted, its stores free what it used"}},
	} {
		r := record()
		c.change(r)
		if h := assess(t, r, "VolumeRecord"); h != c.want {
			t.Errorf("%s: %v, want %v", name, h, c.want)
		}
	}
}

// Negative controls: a script that is broken, or that needs what Argo CD does not give, is seen to be.
func TestBrokenScriptsAreSeen(t *testing.T) {
	for name, script := range map[string]string{
		"syntax":     "return {",
		"no table":   "return 7",
		"no field":   "return {status = obj.status.no.such}",
		"no library": `return {status = string.upper("healthy")}`,
	} {
		if h, err := run(script, map[string]any{"status": map[string]any{}}); err == nil {
			t.Errorf("%s: %v", name, h)
		}
	}
}
