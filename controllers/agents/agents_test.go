package agents_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/agents"
	"mynetwork.io/mynetwork/controllers/authority"
	"mynetwork.io/mynetwork/controllers/mynetwork"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

const (
	uid       = "6a1f0e9c-0000-4000-8000-000000000001"
	namespace = "mynetwork-system"
)

var network = &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: "main", UID: uid}}

// agent is the control port of a node in memory.
type agent struct {
	agentv1.UnimplementedAgentServer
	mu     sync.Mutex
	bodies map[[32]byte][]byte
	lies   []byte // what it gives for any layout
	fails  error
	fences []*agentv1.FenceVolumeRequest
	answer *agentv1.FenceVolumeResponse
	names  []string // of its clients

	modified []*agentv1.ModifyVolumeRequest
}

func (a *agent) client(ctx context.Context) {
	if p, ok := peer.FromContext(ctx); ok {
		a.names = append(a.names, p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0].URIs[0].String())
	}
}

func (a *agent) PutLayout(ctx context.Context, r *agentv1.PutLayoutRequest) (*agentv1.PutLayoutResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.client(ctx)
	l, err := placement.Decode(r.Body)
	if err != nil || a.fails != nil {
		return nil, errors.Join(err, a.fails)
	}
	a.bodies[[32]byte(l.Hash())] = r.Body
	return &agentv1.PutLayoutResponse{}, nil
}

func (a *agent) GetLayout(_ context.Context, r *agentv1.GetLayoutRequest) (*agentv1.GetLayoutResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lies != nil {
		return &agentv1.GetLayoutResponse{Body: a.lies}, nil
	}
	if b, ok := a.bodies[[32]byte(r.Hash)]; ok && a.fails == nil {
		return &agentv1.GetLayoutResponse{Body: b}, nil
	}
	return nil, grpcstatus.Error(codes.NotFound, "no such layout")
}

func (a *agent) FenceVolume(_ context.Context, r *agentv1.FenceVolumeRequest) (*agentv1.FenceVolumeResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fences = append(a.fences, r)
	return a.answer, a.fails
}

// world has agents of nodes a to d; tests change them before they are asked.
type world struct {
	*agents.Agents
	nodes map[string]*agent
}

// newWorld gives each node the certificate of the node that as names, or its own.
func newWorld(t *testing.T, as map[string]string) *world {
	t.Helper()
	data, err := authority.New(uid, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	other, err := authority.New(uid, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	objects := []client.Object{&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: authority.SecretName("main"), Namespace: namespace}, Data: data}}
	w := &world{nodes: map[string]*agent{}}
	for _, node := range []string{"a", "b", "c", "d"} {
		name := node
		if n, ok := as[node]; ok {
			name = n
		}
		w.nodes[node] = &agent{bodies: map[[32]byte][]byte{}}
		port := w.serve(t, w.nodes[node], certificate(t, data, other, name), data["ca.crt"])
		objects = append(objects, &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Name: "main-agent-" + node, Namespace: namespace, Labels: map[string]string{discoveryv1.LabelServiceName: "main-agent"}},
			Ports:      []discoveryv1.EndpointPort{{Name: new("peer"), Port: new(int32(1))}, {Name: new("control"), Port: new(int32(port))}},
			Endpoints:  []discoveryv1.Endpoint{{NodeName: new(node), Addresses: []string{"127.0.0.1"}}}})
	}
	w.Agents = &agents.Agents{Client: fake.NewClientBuilder().WithScheme(s).WithObjects(objects...).Build(), Namespace: namespace, Now: time.Now}
	return w
}

// certificate is that of a node, or, for the name "foreign", of node a by another authority of the same network.
func certificate(t *testing.T, own, other map[string][]byte, name string) tls.Certificate {
	t.Helper()
	if name == "foreign" {
		own, name = other, "a"
	}
	ca, err := authority.Load(own, uid)
	if err != nil {
		t.Fatal(err)
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Certify(name, pub, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(cert)
	return tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
}

// serve gives the port that an agent serves on, with mutual TLS.
func (w *world) serve(t *testing.T, a *agent, cert tls.Certificate, bundle []byte) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots})))
	agentv1.RegisterAgentServer(g, a)
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(ln) }()
	t.Cleanup(func() { g.Stop(); <-ended })
	return ln.Addr().(*net.TCPAddr).Port
}

func layout(t *testing.T, down string) *placement.Layout {
	t.Helper()
	var nodes []placement.Node
	for _, n := range []string{"a", "b", "c"} {
		m := placement.Node{ID: n, Zone: n, Weight: 1}
		if n == down {
			m.State = placement.Down
		}
		nodes = append(nodes, m)
	}
	l, err := placement.Compute(nodes, placement.Params{Replicas: 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// fresh is an operator that remembers nothing.
func (w *world) fresh() *agents.Agents {
	return &agents.Agents{Client: w.Client, Namespace: w.Namespace, Now: w.Now}
}

var errDisk = grpcstatus.Error(codes.ResourceExhausted, "no space")

func TestStore(t *testing.T) {
	for name, c := range map[string]struct {
		fail []string
		down string
		ok   bool
	}{
		"all":                 {nil, "", true},
		"one of three fails":  {[]string{"b"}, "", true},
		"two of three fail":   {[]string{"b", "c"}, "", false},
		"one down, one fails": {[]string{"b"}, "c", false},
		"one down":            {[]string{"c"}, "c", true},
		"who is no member":    {[]string{"d"}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			for _, n := range c.fail {
				w.nodes[n].fails = errDisk
			}
			l := layout(t, c.down)
			err := w.Store(t.Context(), network, l)
			if (err == nil) != c.ok || !c.ok && grpcstatus.Code(errors.Unwrap(err)) == codes.OK {
				t.Fatalf("%v, wanted success %v", err, c.ok)
			}
			have := 0
			for _, n := range w.nodes {
				n.mu.Lock()
				if n.bodies[[32]byte(l.Hash())] != nil {
					have++
				}
				for _, name := range n.names {
					if name != "mynetwork://"+uid+"/control/operator" {
						t.Errorf("an agent heard of %s", name)
					}
				}
				n.mu.Unlock()
			}
			if c.ok && have < 2 {
				t.Errorf("success with %d copies", have)
			}
		})
	}
}

func TestFetch(t *testing.T) {
	w := newWorld(t, nil)
	l := layout(t, "")
	hash := [32]byte(l.Hash())
	if _, err := w.Fetch(t.Context(), network, hash); !errors.Is(err, mynetwork.ErrNoBody) {
		t.Fatalf("before there is any: %v", err)
	}
	body, err := l.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.nodes["d"].bodies[hash] = body // one has it, one is mute, one lies
	w.nodes["a"].fails = errDisk
	if w.nodes["b"].lies, err = layout(t, "b").AppendBinary(nil); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Fetch(t.Context(), network, hash); err != nil || string(got) != string(body) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	delete(w.nodes["d"].bodies, hash)
	if got, err := w.Fetch(t.Context(), network, hash); err != nil || string(got) != string(body) {
		t.Errorf("what was fetched was forgotten: %v", err)
	}
	if _, err := w.fresh().Fetch(t.Context(), network, hash); !errors.Is(err, mynetwork.ErrNoBody) {
		t.Errorf("from a liar alone: %v", err)
	}
	if _, err := w.Fetch(t.Context(), &v1alpha1.MyNetwork{ObjectMeta: metav1.ObjectMeta{Name: "other", UID: "x"}}, hash); !errors.Is(err, mynetwork.ErrNoBody) {
		t.Errorf("of another network: %v", err)
	}
}

func TestOnlyTheNodeItself(t *testing.T) {
	for name, as := range map[string]map[string]string{
		"another node":      {"a": "b", "b": "c", "c": "a"},
		"another authority": {"a": "foreign", "b": "foreign", "c": "foreign"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, as)
			if err := w.Store(t.Context(), network, layout(t, "")); err == nil {
				t.Fatal("strangers were told")
			}
			for n, a := range w.nodes {
				if len(a.bodies) > 0 || len(a.names) > 0 {
					t.Errorf("%s was told", n)
				}
			}
		})
	}
}

func (a *agent) ModifyVolume(_ context.Context, r *agentv1.ModifyVolumeRequest) (*agentv1.Volume, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.modified = append(a.modified, r)
	return &agentv1.Volume{}, a.fails
}

// TestModify: who has the volume is asked, and nobody else; of a volume that nobody has, others are asked when one is away; what is refused is refused.
func TestModify(t *testing.T) {
	w := newWorld(t, nil)
	c := agents.Copies{Min: new(int32(3)), Max: new(int32(5))}
	if err := w.Modify(t.Context(), network, "v1", "b", c); err != nil || len(w.nodes["b"].modified) != 1 || len(w.nodes["a"].modified) != 0 {
		t.Fatalf("%v, %v", err, w.nodes["b"].modified)
	}
	if r := w.nodes["b"].modified[0]; r.Volume != "v1" || *r.MinReplicas != 3 || *r.MaxReplicas != 5 || r.Replicas != nil {
		t.Errorf("%v", r)
	}
	w.nodes["a"].fails = errDisk
	if err := w.Modify(t.Context(), network, "v1", "", c); err != nil || len(w.nodes["a"].modified) != 1 || len(w.nodes["b"].modified) != 2 {
		t.Errorf("%v", err)
	}
	if err := w.Modify(t.Context(), network, "v1", "a", c); err == nil || errors.Is(err, agents.ErrRefused) {
		t.Errorf("the holder fails: %v", err)
	}
	w.nodes["a"].fails = grpcstatus.Error(codes.InvalidArgument, "5 copies on 4 nodes")
	if err := w.Modify(t.Context(), network, "v1", "", c); !errors.Is(err, agents.ErrRefused) || len(w.nodes["b"].modified) != 2 {
		t.Errorf("%v", err)
	}
}

func TestFence(t *testing.T) {
	w := newWorld(t, nil)
	for _, a := range w.nodes {
		a.answer = &agentv1.FenceVolumeResponse{Fenced: true, EpochNumber: 8}
	}
	w.nodes["b"].fails = errDisk
	epoch, err := w.Fence(t.Context(), network, "v1", "a", 7, []string{"a"})
	if err != nil || epoch != 8 {
		t.Fatalf("%d, %v", epoch, err)
	}
	if len(w.nodes["a"].fences) != 0 || len(w.nodes["c"].fences) != 1 || w.nodes["c"].fences[0].EpochNumber != 7 || w.nodes["c"].fences[0].Node != "a" {
		t.Errorf("a was asked %d times, c %v", len(w.nodes["a"].fences), w.nodes["c"].fences)
	}
	for _, a := range w.nodes {
		a.answer, a.fails = &agentv1.FenceVolumeResponse{EpochNumber: 9}, nil
	}
	if _, err := w.Fence(t.Context(), network, "v1", "a", 7, nil); err == nil {
		t.Error("a volume that moved on was called fenced")
	}
	for _, a := range w.nodes {
		a.fails = errDisk
	}
	if _, err := w.Fence(t.Context(), network, "v1", "a", 7, nil); err == nil || !errors.Is(err, agents.ErrNoAgent) {
		t.Errorf("nobody could: %v", err)
	}
}
