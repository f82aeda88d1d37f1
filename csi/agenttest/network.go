package agenttest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/request"
)

// Devices makes the content of volumes and devices on it. All sizes are bytes.
type Devices interface {
	Create(volume string, size int64) error
	Copy(from, to string, size int64) error // of a volume or snapshot; the copy may be larger
	Attach(volume string) (device string, err error)
	AttachReader(volume, node string) (device string, err error) // one that cannot be written
	Detach(device string) error
	Resize(volume, device string, size int64) error // device is empty if it is not attached
}

// names are devices that are only names.
type names struct{ network string }

func (names) Create(string, int64) error             { return nil }
func (names) Copy(string, string, int64) error       { return nil }
func (n names) Attach(volume string) (string, error) { return "/dev/" + n.network + "/" + volume, nil }
func (n names) AttachReader(volume, node string) (string, error) {
	return "/dev/" + n.network + "/" + volume + "-" + node, nil
}
func (names) Detach(string) error                         { return nil }
func (names) Resize(volume, device string, n int64) error { return nil }

// StoreSize is the size of each node's store in bytes.
const StoreSize = 1 << 40

// Network is a network with one agent per node. Make one with New.
type Network struct {
	id      string
	devices Devices
	clients map[string]agentv1.AgentClient
	stop    []func()

	// Called is the network's name; empty: its id. Set it before the first call.
	Called string

	// Fault may fail a call, before it does anything or after. nil: none. Set it before the first call.
	Fault func(ctx context.Context, node, method, volume string, after bool) error

	mu      sync.Mutex
	dead    map[string]bool
	volumes map[string]*volume
	ranges  map[string][]*agentv1.BlockRange
	clock   int64
}

type volume struct {
	busy     sync.Mutex
	msg      *agentv1.Volume // state, holder and device are those of the holder
	key      []byte
	deleted  bool
	degraded int32
	failed   string
	hold     string            // token of a hold; empty: none
	claim    string            // namespace/name
	readers  map[string]string // devices of a sealed volume, by node
}

// New makes a network. nil devices are only names. Close it.
func New(id string, devices Devices, nodes ...string) *Network {
	n := &Network{id: id, devices: devices, clients: map[string]agentv1.AgentClient{}, dead: map[string]bool{}, volumes: map[string]*volume{}, ranges: map[string][]*agentv1.BlockRange{}, clock: 1_700_000_000}
	if devices == nil {
		n.devices = names{id}
	}
	for _, name := range nodes {
		ln := bufconn.Listen(1 << 16)
		s := grpc.NewServer(grpc.ChainUnaryInterceptor(n.intercept(name)))
		agentv1.RegisterAgentServer(s, &agent{n: n, node: name})
		go func() { _ = s.Serve(ln) }()
		conn, err := grpc.NewClient("passthrough:"+name, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))
		if err != nil {
			panic(err) // only for a target that is not well-formed
		}
		n.clients[name] = agentv1.NewAgentClient(conn)
		n.stop = append(n.stop, func() { _ = conn.Close() }, s.Stop)
	}
	return n
}

// Name is the network's name: the one that was set, else its id.
func (n *Network) Name() string {
	if n.Called != "" {
		return n.Called
	}
	return n.id
}

// Close ends all agents.
func (n *Network) Close() {
	for _, f := range n.stop {
		f()
	}
}

// Kill makes a node die: its agent answers no more, and what it held may be taken over.
func (n *Network) Kill(node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dead[node] = true
}

// Size gives the size of an attached device that is only a name.
func (n *Network) Size(device string) (int64, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, v := range n.volumes {
		if v.msg.Device == device && !v.deleted {
			return v.msg.Size, true
		}
		for _, d := range v.readers {
			if d == device {
				return v.msg.Size, true
			}
		}
	}
	return 0, false
}

// Claim is the claim that a volume was made for, as namespace/name.
func (n *Network) Claim(volume string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if v := n.volumes[volume]; v != nil {
		return v.claim
	}
	return ""
}

// Hurt sets what is wrong with a volume: extents without enough copies, and why its engine ended.
func (n *Network) Hurt(volume string, degraded int32, failed string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.volumes[volume].degraded, n.volumes[volume].failed = degraded, failed
}

// Volumes lists the volumes that are not deleted, as their holder sees them, ascending by name.
func (n *Network) Volumes() (out []*agentv1.Volume) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, v := range n.volumes {
		if !v.deleted {
			out = append(out, n.view(v, v.msg.HolderNode))
		}
	}
	slices.SortFunc(out, func(a, b *agentv1.Volume) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Set leads to the agents of networks.
type Set []*Network

var _ request.Agents = (Set)(nil)

// Networks implements request.Agents.
func (s Set) Networks(context.Context) (out []request.Network, err error) {
	for _, n := range s {
		out = append(out, request.Network{ID: n.id, Name: n.Name()})
	}
	return out, nil
}

// Agent implements request.Agents.
func (s Set) Agent(_ context.Context, network, node string) (agentv1.AgentClient, error) {
	for _, n := range s {
		if n.id != network {
			continue
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, name := range slices.Sorted(maps.Keys(n.clients)) {
			if name == node || node == "" && !n.dead[name] {
				return n.clients[name], nil
			}
		}
	}
	return nil, fmt.Errorf("network %q, node %q: %w", network, node, request.ErrNetwork)
}

func (n *Network) intercept(node string) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		n.mu.Lock()
		dead := n.dead[node]
		n.mu.Unlock()
		if dead {
			return nil, status.Errorf(codes.Unavailable, "node %s is dead", node)
		}
		var volume string
		if r, ok := req.(interface{ GetVolume() string }); ok {
			volume = r.GetVolume()
		}
		method := info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:]
		if n.Fault == nil {
			return next(ctx, req)
		}
		if err := n.Fault(ctx, node, method, volume, false); err != nil {
			return nil, err
		}
		resp, err := next(ctx, req)
		if err == nil {
			err = n.Fault(ctx, node, method, volume, true)
		}
		return resp, err
	}
}

func newID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// find finds a volume by name or id, a deleted one only by id. The lock is held.
func (n *Network) find(name string) (*volume, error) {
	if v := n.volumes[name]; v != nil {
		return v, nil
	}
	for _, v := range n.volumes {
		if v.msg.Name == name && !v.deleted {
			return v, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "no volume %q", name)
}

// change runs f on a live volume, held by nobody else than node if wanted, while no other operation is at it.
func (n *Network) change(node, name string, f func(v *volume) error) error {
	n.mu.Lock()
	v, err := n.find(name)
	n.mu.Unlock()
	if err != nil {
		return err
	}
	if !v.busy.TryLock() {
		return status.Errorf(codes.Aborted, "volume %q: another operation is under way", name)
	}
	defer v.busy.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if v.deleted {
		return status.Errorf(codes.NotFound, "volume %q is deleted", name)
	}
	if h := v.msg.HolderNode; h != "" && h != node && node != "" {
		return status.Errorf(codes.FailedPrecondition, "volume %q is attached on node %s; ask its agent", v.msg.Name, h)
	}
	return f(v)
}

func (v *volume) checkKey(key []byte) error {
	if !bytes.Equal(v.key, key) {
		return status.Errorf(codes.InvalidArgument, "volume %q: this is not its key", v.msg.Name)
	}
	return nil
}

// openKey checks the key unless the volume is open.
func (v *volume) openKey(key []byte) error {
	if v.msg.HolderNode != "" {
		return nil
	}
	return v.checkKey(key)
}
