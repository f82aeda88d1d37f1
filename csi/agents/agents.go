// Package agents leads to the agents of this node by their control sockets, and to those of other nodes by what it is given.
//
// # Layout
//
//	DIR/NETWORK/control/agent.sock   the agent of that network on this node
//	DIR/NETWORK/name                 the network's name
//
// NETWORK is the network's id, as in handles. A directory without a socket, or of another name, is no network. See also
// api/v1alpha1, which names the places.
//
// # Concurrency
//
// A Sockets is safe for concurrent use. A connection is made once per socket and finds an agent again that was started anew.
package agents

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/csi/handle"
	"mynetwork.io/mynetwork/csi/request"
)

// Names in a network's directory.
const (
	SocketName = v1alpha1.PlaceControl
	NameName   = v1alpha1.PlaceName
)

// Sockets leads to agents. Make one with New.
type Sockets struct {
	dir, node string
	remote    Remote

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn // by network
}

// Remote leads to the agent of a network on another node.
type Remote func(ctx context.Context, network, node string) (agentv1.AgentClient, error)

var _ request.Agents = (*Sockets)(nil)

// New makes a Sockets for a directory of this node. A nil remote knows no other node. Close it.
func New(dir, node string, remote Remote) *Sockets {
	return &Sockets{dir: dir, node: node, remote: remote, conns: map[string]*grpc.ClientConn{}}
}

// Networks implements request.Agents.
func (s *Sockets) Networks(context.Context) (out []request.Network, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	for _, e := range entries {
		if handle.ValidNetwork(e.Name()) && s.exists(e.Name()) {
			out = append(out, request.Network{ID: e.Name(), Name: s.name(e.Name())})
		}
	}
	return out, nil
}

func (s *Sockets) path(network string) string { return filepath.Join(s.dir, network, SocketName) }

// name reads the network's name; without one, its id is its name.
func (s *Sockets) name(network string) string {
	b, err := os.ReadFile(filepath.Join(s.dir, network, NameName))
	if name := strings.TrimSpace(string(b)); err == nil && handle.ValidNetwork(name) {
		return name
	}
	return network
}

func (s *Sockets) exists(network string) bool {
	st, err := os.Stat(s.path(network))
	return err == nil && st.Mode()&fs.ModeSocket != 0
}

// Agent implements request.Agents.
func (s *Sockets) Agent(ctx context.Context, network, node string) (agentv1.AgentClient, error) {
	if !handle.ValidNetwork(network) {
		return nil, fmt.Errorf("network %q: %w", network, request.ErrNetwork)
	}
	if node != "" && node != s.node {
		if s.remote == nil {
			return nil, fmt.Errorf("network %q, node %q: no way to other nodes: %w", network, node, request.ErrNetwork)
		}
		return s.remote(ctx, network, node)
	}
	if !s.exists(network) {
		return nil, fmt.Errorf("network %q: no socket %s: %w", network, s.path(network), request.ErrNetwork)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conns[network]
	if c == nil {
		var err error
		// An agent that is started anew is found within a second.
		quick := grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}, MinConnectTimeout: time.Second}
		c, err = grpc.NewClient("unix://"+s.path(network), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(quick), grpc.WithAuthority("localhost"))
		if err != nil {
			return nil, fmt.Errorf("agent of network %q: %w", network, err)
		}
		s.conns[network] = c
	}
	return agentv1.NewAgentClient(c), nil
}

// Close ends all connections.
func (s *Sockets) Close() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, c := range s.conns {
		err = errors.Join(err, c.Close())
		delete(s.conns, n)
	}
	return err
}
