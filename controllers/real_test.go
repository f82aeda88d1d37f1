//go:build envtest

package controllers_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers"
)

const namespace = "mynetwork-system"

// patience is how long anything is waited for.
const patience = 60 * time.Second

// api is a real API server with what config/ installs, and an operator with its own rights alone.
type api struct {
	t      *testing.T
	config *rest.Config
	admin  client.Client
	stop   func() // the operator
}

func newAPI(t *testing.T) *api {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Fatal("KUBEBUILDER_ASSETS names no directory with kube-apiserver and etcd: hack/cluster builds them, see its README.md")
	}
	env := &envtest.Environment{CRDDirectoryPaths: []string{"../config/crd"}, ErrorIfCRDPathMissing: true}
	config, err := env.Start()
	if err != nil {
		t.Fatal(err)
	}
	a := &api{t: t, config: config, stop: func() {}}
	t.Cleanup(func() {
		a.stop()
		if err := env.Stop(); err != nil {
			t.Error(err)
		}
	})
	a.admin = a.as("", nil)
	a.install("../config/default/namespace.yaml")
	for _, dir := range []string{"agent", "operator", "admission"} {
		files, err := filepath.Glob("../config/" + dir + "/*.yaml")
		if err != nil || len(files) < 2 {
			t.Fatalf("%v, %v", files, err)
		}
		for _, f := range files {
			if filepath.Base(f) != "kustomization.yaml" {
				a.install(f)
			}
		}
	}
	return a
}

// install makes the objects of a file.
func (a *api) install(file string) {
	a.t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		a.t.Fatal(err)
	}
	d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(b), 4096)
	for {
		u := &unstructured.Unstructured{}
		if err := d.Decode(&u.Object); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			a.t.Fatalf("%s: %v", file, err)
		}
		if err := a.admin.Create(a.t.Context(), u); err != nil {
			a.t.Fatalf("%s: %v", file, err)
		}
	}
}

// as is a client with the rights of an account of the namespace, whose token is bound to a node; an empty account is the admin.
func (a *api) as(account string, extra map[string][]string) client.Client {
	a.t.Helper()
	s, err := controllers.Scheme()
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := client.New(a.identity(account, extra), client.Options{Scheme: s})
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

func (a *api) identity(account string, extra map[string][]string) *rest.Config {
	c := rest.CopyConfig(a.config)
	if account != "" {
		c.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + namespace + ":" + account,
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"}, Extra: extra}
	}
	return c
}

func (a *api) agent(node string) client.Client {
	return a.as("mynetwork-agent", map[string][]string{"authentication.kubernetes.io/node-name": {node}})
}

// operate starts an operator, in the place of the one before.
func (a *api) operate() {
	a.t.Helper()
	a.stop()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- controllers.Run(ctx, a.identity("mynetwork-operator", nil), controllers.Options{Namespace: namespace, Image: "example.org/mynetwork:1",
			LeaderElection: true, MetricsAddress: "0", ProbeAddress: "0"}, slog.New(slog.NewTextHandler(a.t.Output(), nil)))
	}()
	a.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			a.t.Error(err)
		}
		a.stop = func() {}
	}
}

// until waits for what may take a while.
func (a *api) until(what string, f func(ctx context.Context) bool) {
	a.t.Helper()
	err := wait.PollUntilContextTimeout(a.t.Context(), 50*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) { return f(ctx), nil })
	if err != nil {
		a.t.Fatalf("%s: %v", what, err)
	}
}

func (a *api) there(o client.Object, ns, name string) bool {
	return a.admin.Get(a.t.Context(), client.ObjectKey{Namespace: ns, Name: name}, o) == nil
}

// refused fails unless an error is the API server's refusal, with these words.
func (a *api) refused(what string, err error, words string) {
	a.t.Helper()
	if !(apierrors.IsForbidden(err) || apierrors.IsInvalid(err)) || !strings.Contains(err.Error(), words) {
		a.t.Errorf("%s: %v, wanted a refusal with %q", what, err, words)
	}
}

func (a *api) must(what string, err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatalf("%s: %v", what, err)
	}
}

// With a real API server, with the rights that the chart gives and no others: a network of three lines gets all it needs, requests are
// answered, who may not is refused, and an operator that is ended and started anew goes on.
func TestReal(t *testing.T) {
	a := newAPI(t)
	for _, n := range []string{"a", "b", "c"} {
		a.must("node", a.admin.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n}}))
	}
	a.operate()
	main := &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: "main"}}
	a.must("network", a.admin.Create(t.Context(), main))
	a.until("agents", func(context.Context) bool {
		return a.there(&appsv1.DaemonSet{}, namespace, "main-agent") && a.there(&v1alpha1.StorageNode{}, "", "main.c")
	})
	second := &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: "second"}}
	a.refused("a second network on the path", a.admin.Create(t.Context(), second), "is used by MyNetwork main")
	a.reports()
	a.operate() // another one takes over
	a.until("grants of members", func(context.Context) bool {
		n := &v1alpha1.StorageNode{}
		return a.there(n, "", "main.b") && len(n.Status.MemberGrant) > 0 && a.there(&corev1.Secret{}, namespace, v1alpha1.ControlSecret)
	})
	a.records(main)
	a.until("the volume is counted", func(context.Context) bool { return a.there(main, "", "main") && main.Status.Volumes == 1 })
	a.refused("deletion", a.admin.Delete(t.Context(), main), "still has 1 volumes")
	a.refused("a pod with a directory of the node", a.admin.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: namespace},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}},
			Volumes: []corev1.Volume{{Name: "h", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}}}), "directories of the node")
}

// reports has an agent report for its own node, for another, and what is not its own.
func (a *api) reports() {
	a.t.Helper()
	patch := func(c client.Client, name string, change func(*v1alpha1.StorageNodeStatus)) error {
		n := &v1alpha1.StorageNode{}
		a.must(name, a.admin.Get(a.t.Context(), client.ObjectKey{Name: name}, n))
		before := n.DeepCopy()
		change(&n.Status)
		return c.Status().Patch(a.t.Context(), n, client.MergeFrom(before))
	}
	report := func(st *v1alpha1.StorageNodeStatus) { st.Agent = &v1alpha1.AgentStatus{Ready: true} }
	a.must("its own report", patch(a.agent("a"), "main.a", report))
	a.refused("another's report", patch(a.agent("a"), "main.b", report), "for the node that it runs on")
	a.refused("its own grant", patch(a.agent("a"), "main.a", func(st *v1alpha1.StorageNodeStatus) { st.FormatGrant = strings.Repeat("0", 32) }), "formatGrant")
	a.refused("its own death", patch(a.agent("a"), "main.a", func(st *v1alpha1.StorageNodeStatus) { st.Zone = "x" }), "zone")
}

// records has an agent make a record, ask on it, and overstep.
func (a *api) records(n *v1alpha1.MyNetwork) {
	a.t.Helper()
	ctx, c := a.t.Context(), a.agent("a")
	a.must("network", a.admin.Get(ctx, client.ObjectKey{Name: n.Name}, n))
	id := strings.Repeat("0a", 16)
	rec := &v1alpha1.VolumeRecord{ObjectMeta: metav1.ObjectMeta{Name: string(n.UID) + "." + id}, Spec: v1alpha1.VolumeRecordSpec{Network: "main", NetworkUID: string(n.UID),
		VolumeID: id, Name: "v", Capacity: resource.MustParse("1Gi"), Copies: 3}}
	a.must("record", c.Create(ctx, rec))
	rec.Requests = []v1alpha1.VolumeRequest{{Node: "a", ID: strings.Repeat("1", 16), Attach: true, At: metav1.Now()}}
	a.must("request", c.Update(ctx, rec))
	a.until("answer", func(context.Context) bool {
		return a.there(rec, "", rec.Name) && len(rec.Status.Answers) == 1 && len(rec.Status.Answers[0].Grant) > 0
	})
	other := rec.DeepCopy()
	other.Requests = append(other.Requests, v1alpha1.VolumeRequest{Node: "b", ID: strings.Repeat("2", 16), Attach: true, At: metav1.Now()})
	a.refused("a request for another", c.Update(ctx, other), "asks for another node")
	other = rec.DeepCopy()
	other.State.Holder = "b"
	a.refused("another as holder", c.Update(ctx, other), "as the holder")
	a.refused("removal of a live record", c.Delete(ctx, rec), "live volume")
	a.refused("a token without a node", a.as("mynetwork-agent", nil).Update(ctx, rec), "not bound to a node")
	if err := c.Status().Patch(ctx, rec, client.RawPatch("application/merge-patch+json", []byte(`{"status":{"fencedEpoch":9}}`))); !apierrors.IsForbidden(err) {
		a.t.Errorf("an agent wrote the operator's answers: %v", err)
	}
}
