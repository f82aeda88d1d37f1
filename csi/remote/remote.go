// Package remote leads to the agents of all nodes over the network: to their control ports, by mutual TLS.
//
// # Files
//
// A Secret is mounted as a directory, which the kubelet keeps up to date; files are read at each new connection.
//
//	UID.crt, UID.key   the certificate mynetwork://UID/control/csi and its key
//	UID.ca             certificates of the network's authorities
//
// A network is one whose three files are there.
//
// # Invariants
//
//  1. The other end of a connection has a certificate of this network's authority, valid now, with the one name
//     mynetwork://UID/node/NODE, and NODE is who was asked for.
//  2. An agent that has another address since is found at the next call.
//
// # Concurrency
//
// An Agents is safe for concurrent use. There is one connection per node, and one per network for calls that any agent may
// answer: that goes on to the next agent when one does not answer.
package remote

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/handle"
	"mynetwork.io/mynetwork/csi/request"
)

// Places says where agents are.
type Places interface {
	// Name is the name of the network of a uid; ok is false if there is none.
	Name(ctx context.Context, uid string) (name string, ok bool, err error)
	// Addresses gives host:port of the control port of each node's agent.
	Addresses(ctx context.Context, name string) (map[string]string, error)
}

// Agents leads to agents. Make one with New.
type Agents struct {
	dir    string
	places Places

	mu    sync.Mutex
	conns map[target]*conn
}

// target is what a connection leads to. Node is empty for any agent of the network.
type target struct{ uid, node string }

type conn struct {
	*grpc.ClientConn
	resolver  *manual.Resolver
	addresses []string // ascending
}

var _ request.Agents = (*Agents)(nil)

// New makes an Agents for the directory with certificates. Close it.
func New(dir string, p Places) *Agents {
	return &Agents{dir: dir, places: p, conns: map[target]*conn{}}
}

// Networks implements request.Agents.
func (a *Agents) Networks(ctx context.Context) (out []request.Network, err error) {
	files, err := filepath.Glob(filepath.Join(a.dir, "*.crt"))
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	for _, f := range files {
		uid := strings.TrimSuffix(filepath.Base(f), ".crt")
		if !handle.ValidNetwork(uid) || !a.complete(uid) {
			continue
		}
		name, ok, err := a.places.Name(ctx, uid)
		if err != nil {
			return nil, fmt.Errorf("name of network %s: %w", uid, err)
		}
		if ok {
			out = append(out, request.Network{ID: uid, Name: name})
		}
	}
	return out, nil
}

func (a *Agents) complete(uid string) bool {
	for _, ext := range []string{".crt", ".key", ".ca"} {
		if _, err := os.Stat(filepath.Join(a.dir, uid+ext)); err != nil {
			return false
		}
	}
	return true
}

// Agent implements request.Agents.
func (a *Agents) Agent(ctx context.Context, network, node string) (agentv1.AgentClient, error) {
	if !handle.ValidNetwork(network) || !a.complete(network) {
		return nil, fmt.Errorf("network %q: its certificates are not in %s: %w", network, a.dir, request.ErrNetwork)
	}
	name, ok, err := a.places.Name(ctx, network)
	if err == nil && !ok {
		err = fmt.Errorf("there is no MyNetwork of this uid: %w", request.ErrNetwork)
	}
	if err != nil {
		return nil, fmt.Errorf("network %q: %w", network, err)
	}
	all, err := a.places.Addresses(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("addresses of network %s: %w", name, err)
	}
	var list []string
	for n, address := range all {
		if node == "" || n == node {
			list = append(list, address)
		}
	}
	if len(list) == 0 && node == "" {
		return nil, fmt.Errorf("network %s: none of its agents runs: %w", name, request.ErrNetwork)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("network %s: no agent runs on node %q: %w", name, node, request.ErrNetwork)
	}
	return a.connect(target{network, node}, list)
}

func (a *Agents) connect(t target, list []string) (agentv1.AgentClient, error) {
	slices.Sort(list)
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.conns[t]
	if c != nil {
		if !slices.Equal(c.addresses, list) {
			c.addresses = list
			c.resolver.UpdateState(state(list))
		}
		return agentv1.NewAgentClient(c), nil
	}
	c = &conn{resolver: manual.NewBuilderWithScheme("mynetwork"), addresses: list}
	c.resolver.InitialState(state(list))
	quick := grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second}, MinConnectTimeout: 3 * time.Second}
	var err error
	c.ClientConn, err = grpc.NewClient("mynetwork:///agents", grpc.WithResolvers(c.resolver), grpc.WithConnectParams(quick),
		grpc.WithTransportCredentials(credentials.NewTLS(a.tls(t))), grpc.WithAuthority("agent"), grpc.WithContextDialer(dial))
	if err != nil {
		return nil, fmt.Errorf("connect to network %s: %w", t.uid, err)
	}
	a.conns[t] = c
	return agentv1.NewAgentClient(c), nil
}

// silence is how long a node may leave what was sent to it unacknowledged, before it counts as dead and the next one is asked.
const silence = 8 * time.Second

func dial(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
		})
		return errors.Join(cerr, err)
	}}
	return d.DialContext(ctx, "tcp", address)
}

// state lists addresses in an order of chance: not all clients should ask the same agent.
func state(list []string) resolver.State {
	var s resolver.State
	for _, i := range rand.Perm(len(list)) {
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: list[i]}}})
	}
	return s
}

// Close ends all connections.
func (a *Agents) Close() (err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for t, c := range a.conns {
		err = errors.Join(err, c.Close())
		delete(a.conns, t)
	}
	return err
}
