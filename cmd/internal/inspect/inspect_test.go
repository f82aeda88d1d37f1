package inspect

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

const (
	uid = "11111111-2222-3333-4444-555555555555"
	id  = "0123456789abcdef0123456789abcdef"
)

func now() time.Time { return time.Unix(1_800_000_000, 0) }

// world is a healthy network of three nodes with one volume that a pod on n1 uses. Tests break it.
type world struct {
	network v1alpha1.MyNetwork
	nodes   []v1alpha1.StorageNode
	record  v1alpha1.VolumeRecord
	pv      corev1.PersistentVolume
	pvc     corev1.PersistentVolumeClaim
	class   storagev1.StorageClass
	pod     corev1.Pod
	agent   corev1.Pod
	extra   []client.Object
}

func healthy() *world {
	w := &world{}
	w.network = v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: "main", UID: types.UID(uid)}, Status: v1alpha1.MyNetworkStatus{
		Conditions: []metav1.Condition{{Type: "Ready", Status: "True"}}, Activity: "Serving", Layout: &v1alpha1.LayoutStatus{Version: 3}}}
	for _, n := range []string{"n1", "n2", "n3"} {
		w.nodes = append(w.nodes, v1alpha1.StorageNode{ObjectMeta: metav1.ObjectMeta{Name: "main." + n}, Spec: v1alpha1.StorageNodeSpec{Network: "main", NodeName: n},
			Status: v1alpha1.StorageNodeStatus{Storage: true, MemberGrant: []byte("signed-member-grant"), Conditions: []metav1.Condition{{Type: "Ready", Status: "True"}},
				Agent: &v1alpha1.AgentStatus{Ready: true, Stores: []v1alpha1.StoreStatus{{ID: id, Path: "/data", State: v1alpha1.StoreServing}}}}})
	}
	w.record = v1alpha1.VolumeRecord{ObjectMeta: metav1.ObjectMeta{Name: uid + "." + id}, Spec: v1alpha1.VolumeRecordSpec{Network: "main", NetworkUID: uid, VolumeID: id, Name: "pvc-1",
		Copies: 3, Capacity: resource.MustParse("1Gi"), KeyCheck: []byte("check-of-a-key")}, Fact: v1alpha1.VolumeFact{Epoch: 4, Token: "feedfacecafebeef"},
		State: v1alpha1.VolumeState{Holder: "n1", HolderEpoch: 4, Copies: 3}}
	w.pv = corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pvc-1"}, Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{
		CSI: &corev1.CSIPersistentVolumeSource{Driver: v1alpha1.DriverName, VolumeHandle: uid + "." + id}}}}
	w.pvc = corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pvc-1", StorageClassName: new("mynetwork-main")},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound}}
	w.class = storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "mynetwork-main"}, Provisioner: v1alpha1.DriverName, VolumeBindingMode: new(storagev1.VolumeBindingWaitForFirstConsumer)}
	w.pod = corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db-0"}, Spec: corev1.PodSpec{NodeName: "n1", Volumes: []corev1.Volume{{Name: "data",
		VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "db"}}}}}}
	w.agent = corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "mynetwork-system", Name: "main-agent-x", Labels: map[string]string{v1alpha1.LabelComponent: "agent", v1alpha1.LabelNetwork: "main"}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "agent", RestartCount: 1}}}}
	return w
}

func (w *world) builder(t *testing.T) *fake.ClientBuilder {
	t.Helper()
	s, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	list := append([]client.Object{&w.network, &w.record, &w.pv, &w.pvc, &w.class, &w.pod, &w.agent}, w.extra...)
	for i := range w.nodes {
		list = append(list, &w.nodes[i], &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: w.nodes[i].Spec.NodeName}})
	}
	return fake.NewClientBuilder().WithScheme(s).WithObjects(list...)
}

func (w *world) facts(t *testing.T) *Facts {
	t.Helper()
	f, err := Gather(t.Context(), w.builder(t).Build(), "mynetwork-system", now())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func warning(kind, namespace, name, reason, message string) *corev1.Event {
	return &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: reason}, InvolvedObject: corev1.ObjectReference{Kind: kind, Namespace: namespace, Name: name},
		Type: corev1.EventTypeWarning, Reason: reason, Message: message, LastTimestamp: metav1.NewTime(now().Add(-time.Minute))}
}

// TestExplain: each way in which a volume, claim or pod is not well is said, with what to do; the same question about the healthy world finds nothing bad.
func TestExplain(t *testing.T) {
	for name, c := range map[string]struct {
		what  string
		spoil func(w *world)
		says  []string
	}{
		"copies":    {"pvc-1", func(w *world) { w.record.State.Copies = 2 }, []string{"2 of 3 copies"}},
		"node away": {"pvc-1", func(w *world) { w.nodes[1].Status.Fencing = &v1alpha1.FencingStatus{} }, []string{"storage nodes are away: n2", "bring them back"}},
		"holder unreachable": {"pvc-1", func(w *world) {
			w.nodes[0].Status.Fencing = &v1alpha1.FencingStatus{Since: metav1.NewTime(now().Add(-9 * time.Second))}
		}, []string{"its holder, node n1, is unreachable since 9s", "fences the volume"}},
		"fenced": {"pvc-1", func(w *world) {
			w.record.Status.FencedNode, w.record.Status.FencedEpoch, w.record.Fact.Epoch = "n1", 5, 5
		}, []string{"taken from node n1", "delete it"}},
		"no grant": {"pvc-1", func(w *world) {
			w.record.Requests = []v1alpha1.VolumeRequest{{Node: "n2", ID: "0123456789abcdef", Attach: true, At: metav1.NewTime(now())}}
			w.record.Status.Answers = []v1alpha1.VolumeAnswer{{Node: "n2", ID: "0123456789abcdef", Refused: "pod shop/db-0 on node n1 uses it"}}
		}, []string{"node n2 has no right to attach it: pod shop/db-0 on node n1 uses it"}},
		"no answer": {"pvc-1", func(w *world) {
			w.record.Requests = []v1alpha1.VolumeRequest{{Node: "n2", ID: "0123456789abcdef", Attach: true, At: metav1.NewTime(now().Add(-time.Minute))}}
		}, []string{"1m0s ago, and got no answer", "component=operator"}},
		"full":      {"pvc-1", func(w *world) { w.nodes[2].Status.Agent.Stores[0].State = v1alpha1.StoreFull }, []string{"stores are full: n3:/data", "add nodes"}},
		"disk":      {"pvc-1", func(w *world) { w.nodes[2].Status.Agent.Stores[0].State = v1alpha1.StoreQuarantined }, []string{"n3:/data (Quarantined)", "replace it"}},
		"few nodes": {"pvc-1", func(w *world) { w.nodes[1].Status.Storage, w.nodes[2].Status.Storage = false, false }, []string{"wants 3 copies", "1 storage nodes"}},
		"weak": {"pvc-1", func(w *world) {
			w.record.Spec.Writes, w.nodes[1].Status.Fencing = v1alpha1.WriteWeak, &v1alpha1.FencingStatus{}
		}, []string{"it is weak", "newest writes"}},
		"data loss": {"pvc-1", func(w *world) { w.record.State.DataLoss = "x" }, []string{"DataLoss", "volume tails"}},
		"stalled network": {"pvc-1", func(w *world) {
			w.network.Status.Conditions = append(w.network.Status.Conditions, metav1.Condition{Type: "Stalled", Status: "True", Reason: "TooManyDead", Message: "half of the nodes"})
		}, []string{"Stalled (TooManyDead): half of the nodes"}},
		"no network": {"pvc-1", func(w *world) { w.network.UID = "other" }, []string{"its network main"}},
		"no class": {"pvc/db", func(w *world) {
			w.pvc.Spec.VolumeName, w.pvc.Status.Phase, w.pvc.Spec.StorageClassName = "", corev1.ClaimPending, new("mynet")
		}, []string{"there is no StorageClass mynet"}},
		"quota": {"pvc/db", func(w *world) {
			w.extra = append(w.extra, warning("PersistentVolumeClaim", "shop", "db", "ProvisioningFailed", "exceeded quota: storage"))
		}, []string{"exceeded quota", "ResourceQuota"}},
		"no record":      {"pvc/db", func(w *world) { w.pv.Spec.CSI.VolumeHandle = uid + ".ffff" }, []string{"no VolumeRecord", "adopt"}},
		"held elsewhere": {"pod/db-0", func(w *world) { w.pod.Spec.NodeName = "n2" }, []string{"held by node n1, this pod is on n2", "waits for node n1"}},
		"stranger node":  {"pod/db-0", func(w *world) { w.pod.Spec.NodeName = "n9" }, []string{"n9 does not belong to network main", "node n9 does not exist"}},
		"agent":          {"pod/db-0", func(w *world) { w.nodes[0].Status.Agent.Ready = false }, []string{"agent of network main on node n1 is not ready"}},
		"unscheduled": {"pod/db-0", func(w *world) {
			w.pod.Spec.NodeName = ""
			w.pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/3 nodes are available"}}
		}, []string{"not scheduled: 0/3 nodes"}},
		"no claim": {"pod/db-0", func(w *world) { w.pvc.Name = "other" }, []string{"no claim db"}},
		"mount": {"pod/db-0", func(w *world) {
			w.extra = append(w.extra, warning("Pod", "shop", "db-0", "FailedMount", "MountVolume.SetUp failed"))
		}, []string{"FailedMount, 1m0s ago: MountVolume.SetUp failed"}},
	} {
		t.Run(name, func(t *testing.T) {
			whole, err := healthy().facts(t).Explain(c.what, "shop")
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range whole {
				if x.Bad {
					t.Errorf("of the healthy world: %+v", x)
				}
			}
			w := healthy()
			c.spoil(w)
			got, err := w.facts(t).Explain(c.what, "shop")
			if err != nil {
				t.Fatal(err)
			}
			var text strings.Builder
			bad := false
			for _, x := range got {
				text.WriteString(x.What + " -> " + x.Do + "\n")
				bad = bad || x.Bad
				if x.Bad && x.Do == "" {
					t.Errorf("says not what to do: %+v", x)
				}
			}
			if !bad {
				t.Error("nothing bad is found")
			}
			for _, want := range c.says {
				if !strings.Contains(text.String(), want) {
					t.Errorf("no %q in\n%s", want, text.String())
				}
			}
		})
	}
}

// TestExplainNotes: what is not bad and worth to be known is said, and only where it is so.
func TestExplainNotes(t *testing.T) {
	spoil := map[string]func(w *world){
		"3 copies are wanted, of 3 to 5; it has not changed by itself yet": func(w *world) { w.record.Spec.MinCopies, w.record.Spec.MaxCopies = 3, 5 },
		"it last changed by itself 1m0s ago: ReadHot": func(w *world) {
			w.record.Spec.MinCopies, w.record.Spec.MaxCopies, w.record.State.CopiesReason = 3, 5, "ReadHot"
			w.record.State.CopiesChanged = metav1.NewTime(now().Add(-time.Minute))
		},
		"store /data of node n3 is short of space, and gets some back: Unreferenced": func(w *world) { w.nodes[2].Status.Agent.Stores[0].Clearing = "Unreferenced" },
	}
	for want, f := range spoil {
		said := func(w *world) (found bool) {
			list, err := w.facts(t).Explain("pvc-1", "shop")
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range list {
				found = found || strings.Contains(x.What, want)
				if x.Bad {
					t.Errorf("%q: %+v", want, x)
				}
			}
			return found
		}
		w := healthy()
		f(w)
		if said(healthy()) || !said(w) {
			t.Errorf("%q is not said, or also where it is not so", want)
		}
	}
}

// TestNames: a volume is found by all of its names, and what is not there is said to be not there.
func TestNames(t *testing.T) {
	f := healthy().facts(t)
	for _, name := range []string{"pvc-1", id, uid + "." + id, "volume/pvc-1", "pv/pvc-1", "pvc/db", "db", "pod/db-0", "db-0"} {
		if _, err := f.Explain(name, "shop"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"nothing", "pvc/pvc-1", "pod/db", "secret/x"} {
		if _, err := f.Explain(name, "shop"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, network, err := f.VolumeID("db", "shop"); got != id || network != "main" || err != nil {
		t.Error(got, network, err)
	}
}

// TestStatus: the healthy world is, and what is broken is listed once.
func TestStatus(t *testing.T) {
	if s := healthy().facts(t).Status(); !s.Healthy() || len(s.Networks) != 1 || len(s.Nodes) != 3 {
		t.Errorf("%+v", s)
	}
	w := healthy()
	w.record.State.Copies = 1
	w.nodes[0].Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "False", Reason: "Unreachable", Message: "gone"}}
	if s := w.facts(t).Status(); len(s.Findings) != 2 {
		t.Errorf("%+v", s.Findings)
	}
}

// TestForbidden: what the user may not read is said, and the rest shown.
func TestForbidden(t *testing.T) {
	c := healthy().builder(t).WithInterceptorFuncs(interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, o ...client.ListOption) error {
		if _, ok := l.(*corev1.NodeList); ok {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "", errors.New("no"))
		}
		return c.List(ctx, l, o...)
	}}).Build()
	f, err := Gather(t.Context(), c, "mynetwork-system", now())
	if err != nil || len(f.Hidden) != 1 || !strings.Contains(f.Hidden[0], "nodes") || len(f.Records) != 1 {
		t.Errorf("%v %v", f, err)
	}
	if s := f.Status(); len(s.Hidden) != 1 || !s.Healthy() {
		t.Errorf("%+v", s)
	}
}

// pods is what pods say: too much.
type pods struct{}

const (
	pem  = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIPRIVATEPRIVATE\n-----END PRIVATE KEY-----"
	jwt  = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzZWNyZXQifQ.c2lnbmF0dXJlc2lnbmF0dXJl"
	hex  = "00112233445566778899aabbccddeeff00112233445566778899aabbccddee77"
	word = "hunter2hunter2"
)

func (pods) Logs(context.Context, string, string, string, bool) ([]byte, error) {
	return []byte("level=INFO msg=started\nAuthorization: Bearer " + jwt + "\n" + pem + "\nkey " + hex + "\npassword=" + word + "\nlast line\n"), nil
}

func (pods) Run(_ context.Context, _, _, _ string, command ...string) ([]byte, error) {
	if command[1] == "report" {
		return nil, errors.New("no such command")
	}
	return []byte("mynetwork_agent_info 1\n"), nil
}

// TestBundle: it has what helps, and nothing that is secret: of each secret that was planted no trace is in it.
func TestBundle(t *testing.T) {
	w := healthy()
	w.record.Status.Answers = []v1alpha1.VolumeAnswer{{Node: "n1", ID: "0123456789abcdef", Grant: []byte("signed-attach-grant")}}
	w.agent.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": word}
	w.agent.Spec.Containers = []corev1.Container{{Name: "agent", Env: []corev1.EnvVar{{Name: "MYNETWORK_ENCRYPTION_KEY", Value: word}}, Args: []string{"--token=" + jwt}}}
	w.extra = append(w.extra, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "mynetwork-system", Name: "ca"}, Data: map[string][]byte{"tls.key": []byte(word), "x": []byte(pem)}},
		warning("Pod", "mynetwork-system", "main-agent-x", "Leak", "the token is "+jwt))
	c := w.builder(t).Build()
	f, err := Gather(t.Context(), c, "mynetwork-system", now())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Bundle(t.Context(), &out, f, c, pods{}); err != nil {
		t.Fatal(err)
	}
	files := unpack(t, &out)
	for _, want := range []string{"status.json", "events.txt", "missing.txt", "objects/mynetworks.yaml", "objects/volumerecords.yaml", "pods/main-agent-x/agent.log", "pods/main-agent-x/agent.previous.log", "pods/main-agent-x/metrics.txt"} {
		if files["mynetwork-support/"+want] == "" {
			t.Errorf("no %s", want)
		}
	}
	if !strings.Contains(files["mynetwork-support/missing.txt"], "report.json: no such command") || !strings.Contains(files["mynetwork-support/pods/main-agent-x/agent.log"], "last line") {
		t.Error("what is missing is not said, or too much is taken out")
	}
	encoded := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	all := ""
	for name, text := range files {
		all += text
		for _, s := range []string{word, jwt, hex, "PRIVATEPRIVATE", "feedfacecafebeef", encoded("signed-attach-grant"), encoded("signed-member-grant"), encoded("check-of-a-key")} {
			if strings.Contains(text, s) {
				t.Errorf("%s has %s", name, s)
			}
		}
	}
	if !strings.Contains(all, "pvc-1") || !strings.Contains(all, Gone) {
		t.Error("the bundle is empty, or nothing was taken out")
	}
}

// TestTakenOut: what looks like a secret goes, and what only looks a little like one stays.
func TestTakenOut(t *testing.T) {
	r := NewRedactor()
	for _, s := range []string{pem, "x " + jwt + " y", "Bearer " + word, "token: " + word, hex, "-----BEGIN EC PRIVATE KEY-----\nnever ends"} {
		if got := r.Text(s); !strings.Contains(got, Gone) || strings.Contains(got, word) || strings.Contains(got, "never ends") {
			t.Errorf("%q became %q", s, got)
		}
	}
	for _, s := range []string{"epoch 4.0/feedfacecafebeef", id, "no token was given", "-----BEGIN CERTIFICATE-----", "node n1 has the key to it"} {
		if got := r.Text(s); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
	o := r.Object(map[string]any{"hash": hex, "text": hex, "grant": "AAAA", "list": []any{map[string]any{"name": "DB_PASSWORD", "value": word}, map[string]any{"name": "LEVEL", "value": "info"}}}).(map[string]any)
	if o["hash"] != hex || o["text"] != Gone || o["grant"] != Gone || o["list"].([]any)[0].(map[string]any)["value"] != Gone || o["list"].([]any)[1].(map[string]any)["value"] != "info" {
		t.Errorf("%v", o)
	}
}

func unpack(t *testing.T, in io.Reader) map[string]string {
	t.Helper()
	z, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = string(b)
	}
}
