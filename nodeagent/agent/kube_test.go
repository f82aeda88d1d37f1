package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	certv1 "k8s.io/api/certificates/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
	"mynetwork.io/mynetwork/nodeagent/core/warrant"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
)

// kubeTest is agents in a Kubernetes with as much of an operator as they need. Its API is a real one if KUBEBUILDER_ASSETS names the
// directory with kube-apiserver and etcd, else client-go's fake.
type kubeTest struct {
	*cluster
	api    client.WithWatch
	real   bool
	uid    string
	port   int
	down   atomic.Bool // the API
	refuse atomic.Bool // the operator signs no grants
	only   string      // the one node that gets the body of a layout from the operator
}

var errAPI = errors.New("connection refused")

// newKubeTest makes and starts agents a, b, ... that have no store and no layout yet.
func newKubeTest(tb testing.TB, n int) *kubeTest {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	check(tb, err)
	dir, err := os.MkdirTemp("", "mn")
	check(tb, err)
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	k := &kubeTest{cluster: &cluster{tb: tb, dir: dir, key: key, node: map[string]*node{}}, only: "a"}
	k.startAPI()
	net0 := &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: "main", UID: network}}
	check(tb, k.api.Create(tb.Context(), net0))
	k.uid = string(net0.UID)
	k.ca, err = identity.NewCA(k.uid, time.Now())
	check(tb, err)
	_, port, err := net.SplitHostPort(freeAddress(tb))
	check(tb, err)
	k.port, err = strconv.Atoi(port)
	check(tb, err)
	caFile := filepath.Join(dir, "ca.crt")
	check(tb, os.WriteFile(caFile, k.ca.CertPEM(), 0o600))
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s", Labels: map[string]string{discoveryv1.LabelServiceName: "main-agent"}},
		AddressType: discoveryv1.AddressTypeIPv4}
	for i := range n {
		name, ip := string(rune('a'+i)), loopNet+strconv.Itoa(i+2)
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{NodeName: &name, Addresses: []string{podNet + strconv.Itoa(i+2)}})
		check(tb, k.api.Create(tb.Context(), &v1alpha1.StorageNode{ObjectMeta: metav1.ObjectMeta{Name: "main." + name}, Spec: v1alpha1.StorageNodeSpec{Network: "main", NodeName: name}}))
		own := filepath.Join(dir, name)
		k.list = append(k.list, Member{Node: name})
		k.node[name] = &node{c: k.cluster, cfg: Config{Node: name, Network: k.uid, Stores: []StoreConfig{{Path: filepath.Join(own, "disk"), Capacity: 512 << 20, Log: 8 << 20}},
			Dir: filepath.Join(own, "run"), Listen: net.JoinHostPort(ip, port), Control: filepath.Join(own, "s", "c"), CacheBytes: 4 << 20, RingBytes: 2 << 20,
			ProbeInterval: 50 * time.Millisecond, Log: slog.New(slog.NewTextHandler(testWriter{tb}, nil)).With("node", name),
			Cluster: &Cluster{Name: "main", Namespace: "default", Address: ip, CA: caFile, TLS: filepath.Join(own, "tls"), ControlListen: net.JoinHostPort(ip, "0"),
				ControlKeys: []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}, API: k.api}}}
	}
	check(tb, k.api.Create(tb.Context(), slice))
	k.operate()
	for _, m := range k.list {
		k.start(m.Node)
	}
	tb.Cleanup(func() { k.down.Store(false); k.close() })
	return k
}

type operatorKey struct{}

// away fails the calls of agents while the API is away. The operator of the test goes on.
func (k *kubeTest) away(ctx context.Context) error {
	if k.down.Load() && ctx.Value(operatorKey{}) == nil {
		return errAPI
	}
	return nil
}

// operate runs the operator until the test ends.
func (k *kubeTest) operate() {
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), operatorKey{}, true))
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			for _, f := range []func(context.Context) error{k.sign, k.grantNodes, k.answer, k.publish} {
				if err := f(ctx); err != nil && ctx.Err() == nil {
					k.tb.Logf("operator: %v", err)
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	k.tb.Cleanup(func() { cancel(); wg.Wait() })
}

// sign signs certificate requests.
func (k *kubeTest) sign(ctx context.Context) error {
	var list certv1.CertificateSigningRequestList
	if err := k.api.List(ctx, &list); err != nil {
		return err
	}
	for i := range list.Items {
		o := &list.Items[i]
		if len(o.Status.Certificate) > 0 {
			continue
		}
		b, _ := pem.Decode(o.Spec.Request)
		req, err := x509.ParseCertificateRequest(b.Bytes)
		if err != nil {
			return err
		}
		id, err := identity.ParseIdentity(req.URIs[0].String())
		if err != nil {
			return err
		}
		if o.Status.Certificate, err = k.ca.Certify(id.Node, req.PublicKey.(ed25519.PublicKey), time.Now(), time.Hour); err != nil {
			return err
		}
		if k.real {
			cert := o.Status.Certificate
			o.Status.Certificate = nil
			o.Status.Conditions = []certv1.CertificateSigningRequestCondition{{Type: certv1.CertificateApproved, Status: "True", Reason: "Test"}}
			if err := k.api.SubResource("approval").Update(ctx, o); err != nil {
				return err
			}
			o.Status.Certificate = cert
		}
		if err := k.api.Status().Update(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// grantNodes grants the first store of each node, and to each storage node to keep copies.
func (k *kubeTest) grantNodes(ctx context.Context) error {
	var list v1alpha1.StorageNodeList
	if err := k.api.List(ctx, &list); err != nil {
		return err
	}
	for i := range list.Items {
		n := &list.Items[i]
		if n.Status.Agent == nil || len(n.Status.Agent.Stores) != 1 || len(n.Status.MemberGrant) > 0 {
			continue
		}
		st := n.Status.Agent.Stores[0]
		if st.State == v1alpha1.StoreNew && n.Status.FormatGrant == st.ID {
			continue
		}
		if st.State == v1alpha1.StoreNew {
			n.Status.FormatGrant = st.ID
		} else {
			var err error
			g := warrant.Grant{Node: n.Spec.NodeName, Verbs: warrant.EveryVolume, NotAfter: time.Now().Add(time.Hour).Unix()}
			if n.Status.MemberGrant, err = g.Encode(k.uid, k.key); err != nil {
				return err
			}
		}
		if err := k.api.Status().Update(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// answer answers requests in records.
func (k *kubeTest) answer(ctx context.Context) error {
	var list v1alpha1.VolumeRecordList
	if err := k.api.List(ctx, &list); err != nil {
		return err
	}
	for i := range list.Items {
		o := &list.Items[i]
		changed := false
		for _, r := range o.Requests {
			if slices.ContainsFunc(o.Status.Answers, func(a v1alpha1.VolumeAnswer) bool { return a.Node == r.Node && a.ID == r.ID }) {
				continue
			}
			v, err := block.ParseVolumeID(o.Spec.VolumeID)
			if err != nil {
				return err
			}
			a := v1alpha1.VolumeAnswer{Node: r.Node, ID: r.ID}
			switch {
			case k.refuse.Load():
				a.Refused = "a pod on node x uses it"
			case r.Deletion != nil:
				a.Deletion = warrant.Deletion{Volume: v, Epoch: uint64(r.Deletion.Epoch), At: r.Deletion.At}.Encode(k.uid, k.key)
			default:
				a.Grant, err = warrant.Grant{Volume: v, Node: r.Node, Verbs: warrant.Writer, NotAfter: time.Now().Add(time.Hour).Unix()}.Encode(k.uid, k.key)
			}
			if err != nil {
				return err
			}
			o.Status.Answers = append(slices.DeleteFunc(o.Status.Answers, func(a v1alpha1.VolumeAnswer) bool { return a.Node == r.Node }), a)
			changed = true
		}
		if changed {
			if err := k.api.Status().Update(ctx, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// publish publishes one layout, once every node has a store: its body goes to one agent alone, over control.
func (k *kubeTest) publish(ctx context.Context) error {
	var nodes v1alpha1.StorageNodeList
	var net v1alpha1.MyNetwork
	if err := errors.Join(k.api.List(ctx, &nodes), k.api.Get(ctx, client.ObjectKey{Name: "main"}, &net)); err != nil || net.Status.Layout != nil {
		return err
	}
	var in []placement.Node
	to := ""
	for _, n := range nodes.Items {
		a := n.Status.Agent
		if a == nil || len(a.Stores) != 1 || a.Stores[0].State != v1alpha1.StoreServing || a.Stores[0].Capacity == nil || !a.Ready {
			return nil
		}
		in = append(in, placement.Node{ID: n.Spec.NodeName, Weight: uint64(a.Stores[0].Capacity.Value())})
		if n.Spec.NodeName == k.only {
			to = a.ControlAddress
		}
	}
	l, err := placement.Compute(in, placement.Params{Replicas: min(3, len(in)), Shards: 256}, nil)
	if err != nil {
		return err
	}
	body, err := l.AppendBinary(nil)
	if err != nil {
		return err
	}
	api, done := k.control(to, "operator")
	defer done()
	if _, err := api.PutLayout(ctx, &agentv1.PutLayoutRequest{Body: body}); err != nil {
		return err
	}
	h := l.Hash()
	net.Status.Layout = &v1alpha1.LayoutStatus{Version: int64(l.Version()), Hash: hex.EncodeToString(h[:]), MembersDigest: hex.EncodeToString(h[:])}
	return k.api.Status().Update(ctx, &net)
}

// control speaks to an agent's control port as control/NAME, or as a node if name is one.
func (k *kubeTest) control(address, name string) (agentv1.AgentClient, func()) {
	issue := k.ca.IssueControl
	if k.node[name] != nil {
		issue = k.ca.Issue
	}
	crt, key, err := issue(name, time.Now(), time.Hour)
	check(k.tb, err)
	pair, err := tls.X509KeyPair(crt, key)
	check(k.tb, err)
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	check(k.tb, err)
	return agentv1.NewAgentClient(conn), func() { _ = conn.Close() }
}

// ready waits until all agents have the layout and the grant to keep copies.
func (k *kubeTest) ready() {
	k.tb.Helper()
	eventually(k.tb, "all nodes have the layout", func() error {
		for _, m := range k.list {
			st, err := k.node[m.Node].api.Status(k.tb.Context(), &agentv1.StatusRequest{})
			if err != nil {
				return err
			}
			var n v1alpha1.StorageNode
			ctx := context.WithValue(k.tb.Context(), operatorKey{}, true)
			check(k.tb, k.api.Get(ctx, client.ObjectKey{Name: "main." + m.Node}, &n))
			if st.LayoutVersion == 0 || len(st.Stores) != 1 || len(n.Status.MemberGrant) == 0 {
				return fmt.Errorf("node %s: layout %d, %d stores: %w", m.Node, st.LayoutVersion, len(st.Stores), errNot)
			}
		}
		return nil
	})
}

// TestKubernetes: from empty directories to a volume that moves, and is deleted; all that is needed comes by the API.
func TestKubernetes(t *testing.T) {
	k := newKubeTest(t, 3)
	k.ready()
	k.create("a", "vol", 8*mib)
	m := newModel(t, 1, 8*mib)
	e := k.attach("a", "vol")
	m.write(e, 50)
	k.detach("a", "vol")
	e = k.attach("b", "vol")
	m.verify(e)
	k.refuse.Store(true)
	_, err := k.tryAttach("c", "vol", true)
	wantCode(t, err, codes.FailedPrecondition, "a pod on node x uses it")
	k.refuse.Store(false)
	k.detach("b", "vol")
	_, err = k.node["c"].api.DeleteVolume(t.Context(), &agentv1.DeleteVolumeRequest{Volume: "vol"})
	check(t, err)
}

// TestWithoutLayout: an agent without a layout serves peers and control, and says why it attaches nothing.
func TestWithoutLayout(t *testing.T) {
	k := newKubeTest(t, 1)
	k.ready()
	k.create1("vol")
	k.stop("a")
	check(t, os.RemoveAll(filepath.Join(k.node["a"].cfg.Dir, "layouts"))) // and the API does not answer
	check(t, os.Remove(filepath.Join(k.node["a"].cfg.Dir, "directory.json")))
	var n v1alpha1.MyNetwork
	check(t, k.api.Get(t.Context(), client.ObjectKey{Name: "main"}, &n))
	n.Status.Layout.Hash = hex.EncodeToString(make([]byte, 32)) // a body that nobody has
	check(t, k.api.Status().Update(t.Context(), &n))
	k.start("a")
	st, err := k.node["a"].api.Status(t.Context(), &agentv1.StatusRequest{})
	if err != nil || st.LayoutVersion != 0 || len(st.Stores) != 1 {
		t.Fatalf("%v, %v", st, err)
	}
	_, err = k.tryAttach("a", "vol", false)
	wantCode(t, err, codes.Unavailable, "no layout")
}

func (k *kubeTest) create1(name string) {
	k.tb.Helper()
	_, err := k.node["a"].api.CreateVolume(k.tb.Context(), &agentv1.CreateVolumeRequest{Name: name, Size: 4 * mib, Replicas: 1, ExtentSize: 4 << 20})
	check(k.tb, err)
}

// TestControlPort: control over TLS is for who has a control certificate; nodes are refused there, and control is refused by peers.
func TestControlPort(t *testing.T) {
	k := newKubeTest(t, 2)
	k.ready()
	api, done := k.control(k.node["a"].controlAddress(), "csi")
	defer done()
	if _, err := api.Info(t.Context(), &agentv1.InfoRequest{}); err != nil {
		t.Fatal(err)
	}
	other, done := k.control(k.node["a"].controlAddress(), "b") // a node
	defer done()
	_, err := other.Info(t.Context(), &agentv1.InfoRequest{})
	wantCode(t, err, codes.Unavailable, "")
	h, err := hex.DecodeString(k.layoutHash())
	check(t, err)
	got, err := api.GetLayout(t.Context(), &agentv1.GetLayoutRequest{Hash: h})
	if err != nil || len(got.Body) == 0 {
		t.Errorf("the layout: %v", err)
	}
	_, err = api.GetLayout(t.Context(), &agentv1.GetLayoutRequest{Hash: make([]byte, 32)})
	wantCode(t, err, codes.NotFound, "")
	_, err = api.PutLayout(t.Context(), &agentv1.PutLayoutRequest{Body: []byte("x")})
	wantCode(t, err, codes.InvalidArgument, "")

	crt, key, err := k.ca.IssueControl("operator", time.Now(), time.Hour)
	check(t, err)
	pair, err := tls.X509KeyPair(crt, key)
	check(t, err)
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}, NextProtos: []string{"mynetwork-peer"}}
	conn, err := tls.Dial("tcp", k.node["a"].cfg.Listen, cfg)
	if err == nil { // the verdict comes after the handshake
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	if err == nil {
		t.Error("peers speak to a control certificate")
	}
	eventually(t, "the refusal is counted", func() error {
		if k.node["a"].refused.Load() == 0 {
			return errNot
		}
		return nil
	})
}

func (k *kubeTest) layoutHash() string {
	var n v1alpha1.MyNetwork
	check(k.tb, k.api.Get(k.tb.Context(), client.ObjectKey{Name: "main"}, &n))
	return n.Status.Layout.Hash
}

// TestWithoutAPI: while the API is away an agent is stopped and started, and one more node dies; what is attached goes on, and
// the volume that was attached on the stopped agent is attached there again, by what is on its disk.
func TestWithoutAPI(t *testing.T) {
	k := newKubeTest(t, 3)
	k.ready()
	k.create("a", "vol", 8*mib)
	k.create("a", "other", 8*mib)
	m := newModel(t, 1, 8*mib)
	e := k.attach("a", "vol")
	k.attach("b", "other")
	m.write(e, 20)
	k.down.Store(true)
	k.stop("b")
	n := k.start("b")
	st, err := n.api.Status(t.Context(), &agentv1.StatusRequest{})
	if err != nil || st.LayoutVersion == 0 || len(st.Stores) != 1 {
		t.Fatalf("b without the API: %v, %v", st, err)
	}
	eventually(t, "b knows the others", func() error {
		st, err := n.api.Status(t.Context(), &agentv1.StatusRequest{})
		for _, p := range st.GetPeers() {
			if !p.Alive {
				return errNot
			}
		}
		return err
	})
	k.stop("c")
	m.write(e, 20)
	m.verify(e)
	k.down.Store(false)
	k.start("c")
	_, err = k.tryAttach("b", "other", false)
	check(t, err)
	eventually(t, "all report that all answer", func() error {
		for _, x := range k.list {
			var o v1alpha1.StorageNode
			check(t, k.api.Get(t.Context(), client.ObjectKey{Name: "main." + x.Node}, &o))
			if len(o.Status.Agent.Unreachable) > 0 || !o.Status.Agent.Ready {
				return fmt.Errorf("%s: %+v: %w", x.Node, o.Status.Agent, errNot)
			}
		}
		return nil
	})
}
