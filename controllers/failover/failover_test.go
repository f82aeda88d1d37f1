package failover_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/failover"
)

// member is a storage node whose agent can not reach some others.
func member(name, zone string, unreachable ...string) v1alpha1.StorageNode {
	return v1alpha1.StorageNode{ObjectMeta: metav1.ObjectMeta{Name: "main." + name}, Spec: v1alpha1.StorageNodeSpec{Network: "main", NodeName: name},
		Status: v1alpha1.StorageNodeStatus{Zone: zone, LayoutVersion: 1, Agent: &v1alpha1.AgentStatus{Unreachable: unreachable, Stores: []v1alpha1.StoreStatus{{ID: name}}}}}
}

func silent(name string) v1alpha1.StorageNode {
	n := member(name, "z")
	n.Status.Agent = nil
	return n
}

func compute(name string) v1alpha1.StorageNode {
	n := member(name, "z")
	n.Status.LayoutVersion, n.Status.Agent.Stores = 0, nil
	return n
}

func TestDead(t *testing.T) {
	m := member
	for name, c := range map[string]struct {
		nodes []v1alpha1.StorageNode
		want  []string
	}{
		"all well":               {[]v1alpha1.StorageNode{m("a", "z"), m("b", "z"), m("c", "z")}, nil},
		"one of three":           {[]v1alpha1.StorageNode{m("a", "z", "c"), m("b", "z", "c"), m("c", "z")}, []string{"c"}},
		"one word of two":        {[]v1alpha1.StorageNode{m("a", "z", "c"), m("b", "z"), m("c", "z")}, nil},
		"two nodes":              {[]v1alpha1.StorageNode{m("a", "z", "b"), m("b", "z")}, nil},
		"even split":             {[]v1alpha1.StorageNode{m("a", "z", "c", "d"), m("b", "z", "c", "d"), m("c", "z", "a", "b"), m("d", "z", "a", "b")}, nil},
		"two against three":      {[]v1alpha1.StorageNode{m("a", "z", "c", "d", "e"), m("b", "z", "c", "d", "e"), m("c", "z", "a", "b"), m("d", "z", "a", "b"), m("e", "z", "a", "b")}, []string{"a", "b"}},
		"cut off accuses all":    {[]v1alpha1.StorageNode{m("a", "z", "b", "c"), m("b", "z", "a"), m("c", "z", "a")}, []string{"a"}},
		"accuses itself":         {[]v1alpha1.StorageNode{m("a", "z", "a"), m("b", "z"), m("c", "z", "a")}, nil},
		"silence counts against": {[]v1alpha1.StorageNode{m("a", "z", "c"), silent("b"), m("c", "z")}, nil},
		"compute only can die":   {[]v1alpha1.StorageNode{m("a", "z", "x"), m("b", "z", "x"), m("c", "z"), compute("x")}, []string{"x"}},
		"compute has no word": {[]v1alpha1.StorageNode{m("a", "z"), m("b", "z"), m("c", "z"), func() v1alpha1.StorageNode {
			n := compute("x")
			n.Status.Agent.Unreachable = []string{"a", "b"}
			return n
		}()}, nil},
		"words of the dead": {[]v1alpha1.StorageNode{m("a", "z", "e"), m("b", "z", "e", "d"), m("c", "z", "e", "d"), m("d", "z"), m("e", "z", "d")}, []string{"e"}},
	} {
		if got := failover.Suspects(c.nodes); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// In a large network nobody watches all: the majority is of those who do.
func TestDeadInALargeNetwork(t *testing.T) {
	const n, gone = 400, 200
	var nodes []v1alpha1.StorageNode
	for i := range n {
		nodes = append(nodes, member(fmt.Sprintf("n%03d", i), "z"))
	}
	for k := 1; k <= 31; k++ {
		nodes[gone-k].Status.Agent.Unreachable = []string{"n200"}
	}
	if got := failover.Suspects(nodes); got != nil {
		t.Errorf("31 of 64 words: %v", got)
	}
	for k := 1; k <= 33; k++ {
		nodes[gone-k].Status.Agent.Unreachable = []string{"n200"}
	}
	if got := failover.Suspects(nodes); !slices.Equal(got, []string{"n200"}) {
		t.Errorf("33 of 64 words and its own: %v", got)
	}
}

// state has node c dead, and a pod there whose one volume is fenced.
func state() *failover.State {
	c := member("c", "z")
	return &failover.State{
		Network:      &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: v1alpha1.MyNetworkSpec{Failover: v1alpha1.FailoverAutomatic}},
		StorageNodes: []v1alpha1.StorageNode{member("a", "z", "c"), member("b", "z", "c"), c, member("d", "z", "c")},
		Nodes:        []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, {ObjectMeta: metav1.ObjectMeta{Name: "c"}}},
		Pods: []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: "db-0"}, Spec: corev1.PodSpec{NodeName: "c",
			Containers: []corev1.Container{{Name: "db", VolumeMounts: []corev1.VolumeMount{{Name: "data"}, {Name: "host"}}}},
			Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data-db-0"}}}}}}},
		Claims: map[string]map[string]failover.Claim{"app": {"data-db-0": {Ours: true, Record: "vol-1"}, "other": {}, "shared": {ReadOnly: true}}},
		Records: map[string]*v1alpha1.VolumeRecord{"vol-1": {State: v1alpha1.VolumeState{Holder: "c", HolderEpoch: 4}, Fact: v1alpha1.VolumeFact{Epoch: 5},
			Status: v1alpha1.VolumeRecordStatus{FencedNode: "c", FencedEpoch: 5}}},
	}
}

func claim(name, claim string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}
}

func TestPods(t *testing.T) {
	add := func(v corev1.Volume) func(*failover.State) {
		return func(s *failover.State) { s.Pods[0].Spec.Volumes = append(s.Pods[0].Spec.Volumes, v) }
	}
	host := corev1.Volume{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv"}}}
	for name, c := range map[string]struct {
		change func(*failover.State)
		delete bool
		kept   string
	}{
		"all is fenced":      {func(*failover.State) {}, true, ""},
		"empty dir too":      {add(corev1.Volume{Name: "e", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}), true, ""},
		"read-only claim":    {add(claim("s", "shared")), true, ""},
		"read-only hostPath": {func(s *failover.State) { add(host)(s); s.Pods[0].Spec.Containers[0].VolumeMounts[1].ReadOnly = true }, true, ""},
		"not fenced yet":     {func(s *failover.State) { s.Records["vol-1"].Status = v1alpha1.VolumeRecordStatus{} }, false, ""},
		"fenced long ago":    {func(s *failover.State) { s.Records["vol-1"].State.HolderEpoch = 5 }, false, ""},
		"another was fenced": {func(s *failover.State) { s.Records["vol-1"].Status.FencedNode = "a" }, false, ""},
		"given back":         {func(s *failover.State) { s.Records["vol-1"] = &v1alpha1.VolumeRecord{} }, true, ""},
		"taken over": {func(s *failover.State) {
			s.Records["vol-1"] = &v1alpha1.VolumeRecord{State: v1alpha1.VolumeState{Holder: "a"}}
		}, true, ""},
		"no record":         {func(s *failover.State) { s.Records = nil }, false, ""},
		"writable hostPath": {add(host), false, "hostPath"},
		"another's claim":   {add(claim("o", "other")), false, "not of this network"},
		"unknown claim":     {add(claim("o", "nobody knows")), false, "not known"},
		"NFS":               {add(corev1.Volume{Name: "n", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}}), false, "can not be fenced"},
		"annotated": {func(s *failover.State) {
			s.Pods[0].Annotations = map[string]string{v1alpha1.AnnotationFailover: "never"}
		}, false, "annotated"},
		"manual":       {func(s *failover.State) { s.Network.Spec.Failover = v1alpha1.FailoverManual }, false, "Manual"},
		"another node": {func(s *failover.State) { s.Pods[0].Spec.NodeName = "a" }, false, ""},
		"daemon set": {func(s *failover.State) {
			s.Pods[0].OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Controller: new(true)}}
		}, false, ""},
		"static pod":       {func(s *failover.State) { s.Pods[0].Annotations = map[string]string{"kubernetes.io/config.mirror": "x"} }, false, ""},
		"finished":         {func(s *failover.State) { s.Pods[0].Status.Phase = corev1.PodSucceeded }, false, ""},
		"none of ours":     {func(s *failover.State) { s.Claims["app"]["data-db-0"] = failover.Claim{} }, false, ""},
		"node lives":       {func(s *failover.State) { s.StorageNodes[0] = member("a", "z"); s.StorageNodes[1] = member("b", "z") }, false, ""},
		"no volume at all": {func(s *failover.State) { s.Pods[0].Spec.Volumes = nil }, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := state()
			c.change(s)
			p := failover.Judge(s)
			if got := len(p.Delete) == 1; got != c.delete {
				t.Errorf("deleted %v, want %v: %+v", got, c.delete, p)
			}
			if (c.kept != "") != (len(p.Kept) == 1) || c.kept != "" && !strings.Contains(p.Kept[0].Reason, c.kept) {
				t.Errorf("kept %+v, want %q", p.Kept, c.kept)
			}
			for _, k := range p.Kept {
				if !strings.Contains(k.Command, "kubectl delete pod --namespace app db-0") {
					t.Errorf("command %q", k.Command)
				}
			}
			if !reflect.DeepEqual(p, failover.Judge(s)) {
				t.Error("a second look says otherwise")
			}
		})
	}
}

func TestFenceComesFirst(t *testing.T) {
	s := state()
	s.Records["vol-1"].Status = v1alpha1.VolumeRecordStatus{}
	if p := failover.Judge(s); !slices.Equal(p.Fence, []string{"vol-1"}) || len(p.Delete) != 0 || !slices.Equal(p.Taint, []string{"c"}) {
		t.Errorf("%+v", p)
	}
}

func TestTooManyDead(t *testing.T) {
	zone := func(i int) string { return string(rune('x' + i%3)) }
	build := func(n, dead int, zone func(int) string) *failover.State {
		s := state()
		s.StorageNodes = nil
		var gone []string
		for i := range dead {
			gone = append(gone, fmt.Sprintf("n%02d", i))
		}
		for i := range n {
			m := member(fmt.Sprintf("n%02d", i), zone(i))
			if i >= dead {
				m.Status.Agent.Unreachable = gone
			}
			s.StorageNodes = append(s.StorageNodes, m)
			s.Nodes = append(s.Nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.Spec.NodeName}})
		}
		return s
	}
	one := func(int) string { return "x" }
	for name, c := range map[string]struct {
		s    *failover.State
		many bool
	}{
		"one of three":          {build(3, 1, zone), false},
		"three of ten, a zone":  {build(10, 3, one), false},
		"four of ten":           {build(10, 4, one), true},
		"two zones":             {build(10, 2, zone), true},
		"two of ten, same zone": {build(10, 2, one), false},
	} {
		p := failover.Judge(c.s)
		if (p.TooMany != "") != c.many || c.many && len(p.Taint)+len(p.Delete)+len(p.Fence) > 0 || !c.many && len(p.Taint) != len(p.Dead) {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestBack(t *testing.T) {
	s := state()
	s.StorageNodes = []v1alpha1.StorageNode{member("a", "z"), member("b", "z"), member("c", "z"), member("d", "z")}
	s.Nodes[1].Spec.Taints = []corev1.Taint{failover.Taint()}
	if p := failover.Judge(s); !slices.Equal(p.Untaint, []string{"c"}) || len(p.Delete)+len(p.Taint)+len(p.Fence) != 0 {
		t.Errorf("%+v", p)
	}
}

func TestOnlyOurTaint(t *testing.T) {
	if got := failover.Taint(); got.Key != "storage.mynetwork.io/unreachable" || got.Effect != corev1.TaintEffectNoSchedule {
		t.Errorf("%+v", got)
	}
}

// An agent that is restarted is no death, as long as the kubelet renews its Lease; and not for ever.
func TestKubelet(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for name, c := range map[string]struct {
		renewed time.Duration // ago; negative: no Lease
		since   time.Duration // suspected for; negative: not noted yet
		dead    bool
	}{
		"just renewed":             {time.Second, 5 * time.Second, false},
		"just suspected":           {time.Second, -1, false},
		"renewed in time":          {11 * time.Second, 5 * time.Second, false},
		"too late":                 {13 * time.Second, 5 * time.Second, true},
		"no Lease":                 {-1, 5 * time.Second, true},
		"the agent is away long":   {time.Second, 3 * time.Minute, true},
		"a clock that is in front": {-time.Second * 60, 5 * time.Second, false},
	} {
		s := state()
		s.Now = now
		if c.renewed != -1 {
			s.Kubelets = map[string]failover.Kubelet{"c": {Renewed: now.Add(-c.renewed), Lasts: 40 * time.Second}}
		}
		if c.since >= 0 {
			s.StorageNodes[2].Status.Fencing = &v1alpha1.FencingStatus{Since: metav1.NewTime(now.Add(-c.since))}
		}
		p := failover.Judge(s)
		if !slices.Equal(p.Suspect, []string{"c"}) || (len(p.Dead) == 1) != c.dead || (len(p.Delete) == 1) != c.dead || (len(p.Taint) == 1) != c.dead {
			t.Errorf("%s: %+v", name, p)
		}
		// The taint stays until the agent is back, though the kubelet is.
		s.Nodes[1].Spec.Taints = []corev1.Taint{failover.Taint()}
		if p := failover.Judge(s); len(p.Untaint) != 0 {
			t.Errorf("%s: untainted", name)
		}
	}
}
