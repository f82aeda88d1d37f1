package agent

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
	"mynetwork.io/mynetwork/nodeagent/volume"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

const network = "test-network"

// cluster is some agents of one network in this process.
type cluster struct {
	tb   testing.TB
	dir  string
	ca   *identity.CA
	key  ed25519.PrivateKey
	list []Member
	node map[string]*node
	// holders stops the holder of a node.
	holders map[string]func()
}

// node is one agent, running or not.
type node struct {
	*Agent
	c      *cluster
	cfg    Config
	cancel context.CancelFunc
	done   chan error
	conn   *grpc.ClientConn
	api    agentv1.AgentClient
}

// newCluster makes and starts agents a, b, ... . withHolder gives each a holder that survives it.
func newCluster(tb testing.TB, n int, withHolder bool) *cluster {
	tb.Helper()
	return newClusterWith(tb, n, withHolder, func(*Config) {})
}

// newClusterWith is newCluster with another configuration.
func newClusterWith(tb testing.TB, n int, withHolder bool, change func(*Config)) *cluster {
	tb.Helper()
	now := time.Now()
	ca, err := identity.NewCA(network, now)
	check(tb, err)
	_, key, err := ed25519.GenerateKey(nil)
	check(tb, err)
	dir, err := os.MkdirTemp("", "mn") // short: unix sockets have short paths
	check(tb, err)
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	c := &cluster{tb: tb, dir: dir, ca: ca, key: key, node: map[string]*node{}, holders: map[string]func(){}}
	for i := range n {
		c.list = append(c.list, Member{Node: string(rune('a' + i)), Address: freeAddress(tb)})
	}
	for _, m := range c.list {
		cert, key, err := ca.Issue(m.Node, now, time.Hour)
		check(tb, err)
		creds, err := identity.NewCredentials(cert, key, ca.CertPEM(), identity.CredentialOptions{})
		check(tb, err)
		own := filepath.Join(dir, m.Node)
		cfg := Config{Node: m.Node, Network: network, Stores: []StoreConfig{{Path: filepath.Join(own, "disk"), Capacity: 512 << 20, Log: 8 << 20}},
			Format: true, Dir: filepath.Join(own, "run"), Control: filepath.Join(own, "s", "c"), Registry: filepath.Join(dir, "registry"),
			Members: c.list, Credentials: creds, ControlKey: c.key, ScrubPeriod: -1, CacheBytes: 4 << 20, RingBytes: 2 << 20, ProbeInterval: 50 * time.Millisecond,
			Log: slog.New(slog.NewTextHandler(testWriter{tb}, nil)).With("node", m.Node)}
		if withHolder {
			cfg.Holder = filepath.Join(own, "h", "s")
			c.holders[m.Node] = c.startHolder(cfg.Holder)
		}
		change(&cfg)
		c.node[m.Node] = &node{c: c, cfg: cfg}
		c.start(m.Node)
	}
	tb.Cleanup(c.close)
	return c
}

// close detaches what is attached, while there is a quorum for it, and stops all agents.
func (c *cluster) close() {
	for _, force := range []bool{false, true} {
		for _, n := range c.node {
			if n.Agent == nil {
				continue
			}
			for _, v := range n.Volumes().Open() {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				if err := n.Volumes().Detach(ctx, v.ID.String(), force); err != nil {
					c.tb.Logf("detach %s from %s: %v", v.Name, n.cfg.Node, err)
				}
				cancel()
			}
		}
	}
	for _, m := range c.list {
		c.stop(m.Node)
	}
}

// testWriter logs while the test runs.
type testWriter struct{ tb testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	if testing.Verbose() {
		fmt.Fprint(os.Stderr, string(b))
	}
	return len(b), nil
}

// Ports of freeAddress follow each other, from a random one: two agents of a test are never given the same.
var (
	firstPort = rand.Uint32N(20000)
	ports     atomic.Uint32
)

// freeAddress is an address that can be listened on, below those that the kernel gives to connections: while its agent is away, no
// other test's connection takes it.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	var err error
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 12000+(firstPort+ports.Add(1))%20000)); err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	tb.Fatal(err)
	return ""
}

func (c *cluster) startHolder(path string) (stop func()) {
	s, err := holder.NewServer(holder.Options{Socket: path})
	check(c.tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(ctx) })
	stop = func() { cancel(); wg.Wait() }
	c.tb.Cleanup(stop)
	return stop
}

func (c *cluster) start(name string) *node {
	c.tb.Helper()
	n := c.node[name]
	a, err := New(n.cfg)
	check(c.tb, err)
	n.Agent = a
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.done = cancel, make(chan error, 1)
	go func() { n.done <- a.Run(ctx) }()
	select {
	case <-a.Ready():
	case err := <-n.done:
		c.tb.Fatalf("agent %s: %v", name, err)
	}
	n.conn, err = grpc.NewClient("unix:"+n.cfg.Control, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(c.tb, err)
	n.api = agentv1.NewAgentClient(n.conn)
	return n
}

// stop ends an agent and waits for its end.
func (c *cluster) stop(name string) {
	n := c.node[name]
	if n == nil || n.Agent == nil {
		return
	}
	_ = n.conn.Close()
	n.cancel()
	if err := <-n.done; err != nil {
		c.tb.Errorf("agent %s: %v", name, err)
	}
	n.Agent = nil
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func (c *cluster) create(on, name string, size int64) *agentv1.Volume {
	c.tb.Helper()
	v, err := c.node[on].api.CreateVolume(c.tb.Context(), &agentv1.CreateVolumeRequest{Name: name, Size: size, Replicas: 3, ExtentSize: 4 << 20})
	check(c.tb, err)
	return v
}

func (c *cluster) attach(on, name string) *volume.Engine {
	c.tb.Helper()
	_, err := c.tryAttach(on, name, false)
	check(c.tb, err)
	return c.engine(on, name)
}

func (c *cluster) tryAttach(on, name string, force bool) (*agentv1.AttachVolumeResponse, error) {
	ctx, cancel := context.WithTimeout(c.tb.Context(), 2*time.Minute)
	defer cancel()
	return c.node[on].api.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: name, Kind: agentv1.DeviceKind_DEVICE_KIND_NONE, Force: force})
}

func (c *cluster) engine(on, name string) *volume.Engine {
	c.tb.Helper()
	e := c.node[on].Volumes().Engine(name)
	if e == nil {
		c.tb.Fatalf("volume %s is not open on %s", name, on)
	}
	return e
}

func (c *cluster) detach(on, name string) {
	c.tb.Helper()
	_, err := c.node[on].api.DetachVolume(c.tb.Context(), &agentv1.DetachVolumeRequest{Volume: name})
	check(c.tb, err)
}

// model is what a volume must hold.
type model struct {
	tb   testing.TB
	rand *rand.Rand
	want []byte
}

func newModel(tb testing.TB, seed uint64, size int64) *model {
	tb.Helper()
	tb.Logf("seed %d", seed)
	return &model{tb, rand.New(rand.NewPCG(seed, 1)), make([]byte, size)}
}

func (m *model) clone() *model {
	return &model{m.tb, m.rand, bytes.Clone(m.want)}
}

// write writes n random ranges to the engine and to the model, and flushes.
func (m *model) write(e *volume.Engine, n int) {
	m.tb.Helper()
	for range n {
		pages := 1 + m.rand.IntN(8)
		off := m.rand.IntN(len(m.want)/4096-pages+1) * 4096
		p := m.want[off : off+pages*4096]
		for i := 0; i < len(p); i += 8 {
			v := m.rand.Uint64()
			for j := range 8 {
				p[i+j] = byte(v >> (8 * j))
			}
		}
		check(m.tb, e.Write(ring.ID{}, p, int64(off)))
	}
	check(m.tb, e.Flush())
}

// verify reads all of the engine.
func (m *model) verify(e *volume.Engine) {
	m.tb.Helper()
	got := make([]byte, len(m.want))
	for off := 0; off < len(got); off += 256 << 10 {
		check(m.tb, e.Read(got[off:min(off+256<<10, len(got))], int64(off)))
	}
	if !bytes.Equal(got, m.want) {
		for i := 0; i < len(got); i += 4096 {
			if !bytes.Equal(got[i:i+4096], m.want[i:i+4096]) {
				m.tb.Fatalf("page %d differs", i/4096)
			}
		}
	}
}

// eventually waits until f holds.
func eventually(tb testing.TB, what string, f func() error) {
	tb.Helper()
	within(tb, 40*time.Second, what, f)
}

// within is eventually with another limit.
func within(tb testing.TB, limit time.Duration, what string, f func() error) {
	tb.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			tb.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

var errNot = errors.New("not yet")
