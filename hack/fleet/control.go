package fleet

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/controllers/authority"
	"mynetwork.io/mynetwork/hack/apiserver"
	"mynetwork.io/mynetwork/nodeagent/core/placement"
)

// server is the control port of all nodes. Which node is spoken to, the connection's own address tells.
type server struct {
	agentv1.UnimplementedAgentServer
	f    *Fleet
	grpc *grpc.Server
	in   *pipes

	mu     sync.Mutex
	uid    string // of the network that certs and roots are of
	roots  *x509.CertPool
	ca     *authority.CA
	certs  map[string]*tls.Certificate
	hashes map[string][32]byte // of bodies, by their bytes: each is decoded once
}

func newServer(f *Fleet) *server {
	s := &server{f: f, in: &pipes{conns: make(chan net.Conn), over: make(chan struct{})}, hashes: map[string][32]byte{}}
	s.grpc = grpc.NewServer(grpc.MaxRecvMsgSize(80<<20), grpc.MaxSendMsgSize(80<<20), grpc.Creds(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			return s.config(h.Context(), h.Conn.LocalAddr().String())
		}})))
	agentv1.RegisterAgentServer(s.grpc, s)
	go func() { _ = s.grpc.Serve(s.in) }()
	return s
}

func (s *server) stop() {
	s.in.once.Do(func() { close(s.in.over) })
	s.grpc.Stop()
}

// Serve takes connections from a listener that all nodes' addresses lead to, until the fleet ends.
func (f *Fleet) Serve(l net.Listener) error { return f.serving.grpc.Serve(l) }

// Dial reaches a node's control port inside of the process.
func (f *Fleet) Dial(ctx context.Context, address string) (net.Conn, error) {
	if n := f.at(address); n == nil || n.down {
		return nil, fmt.Errorf("dial %s: no route to host", address)
	}
	a, b := net.Pipe()
	select {
	case f.serving.in.conns <- addressed{b, address}:
		return a, nil
	case <-f.serving.in.over:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// at is a copy of the node with an address host:port.
func (f *Fleet) at(address string) *node {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.places[host]; n != nil {
		copied := *n
		return &copied
	}
	return nil
}

// config is what a node presents and trusts.
func (s *server) config(ctx context.Context, address string) (*tls.Config, error) {
	n := s.f.at(address)
	if n == nil || n.down {
		return nil, fmt.Errorf("nobody is at %s", address)
	}
	s.f.mu.Lock()
	uid := s.f.uid
	s.f.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.uid != uid || s.ca == nil {
		secret := &corev1.Secret{}
		if err := s.f.s.Admin.Get(ctx, client.ObjectKey{Namespace: apiserver.Namespace, Name: authority.SecretName(s.f.o.Network)}, secret); err != nil {
			return nil, err
		}
		ca, err := authority.Load(secret.Data, uid)
		if err != nil {
			return nil, err
		}
		s.uid, s.ca, s.certs, s.roots = uid, ca, map[string]*tls.Certificate{}, x509.NewCertPool()
		s.roots.AppendCertsFromPEM(ca.Bundle())
	}
	if s.certs[n.name] == nil {
		cert, err := certify(s.ca, n.name)
		if err != nil {
			return nil, err
		}
		s.certs[n.name] = cert
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*s.certs[n.name]}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: s.roots,
		NextProtos: []string{"h2"}}, nil
}

func certify(ca *authority.CA, name string) (*tls.Certificate, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	text, err := ca.Certify(name, pub, time.Now())
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	return &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}, nil
}

// asked calls what with the node that a call is for, with the fleet locked.
func (s *server) asked(ctx context.Context, what func(n *node) error) error {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return errors.New("a call without a connection")
	}
	n := s.f.at(p.LocalAddr.String())
	if n == nil {
		return fmt.Errorf("nobody is at %s", p.LocalAddr)
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	return what(s.f.nodes[n.name])
}

// PutLayout keeps a body.
func (s *server) PutLayout(ctx context.Context, r *agentv1.PutLayoutRequest) (*agentv1.PutLayoutResponse, error) {
	s.mu.Lock()
	hash, known := s.hashes[string(r.Body)]
	if !known {
		l, err := placement.Decode(r.Body)
		if err != nil {
			s.mu.Unlock()
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		hash = [32]byte(l.Hash())
		s.hashes[string(r.Body)] = hash
	}
	s.mu.Unlock()
	return &agentv1.PutLayoutResponse{}, s.asked(ctx, func(n *node) error { n.bodies[hash] = r.Body; return nil })
}

// GetLayout gives a body back.
func (s *server) GetLayout(ctx context.Context, r *agentv1.GetLayoutRequest) (out *agentv1.GetLayoutResponse, err error) {
	err = s.asked(ctx, func(n *node) error {
		b, ok := n.bodies[[32]byte(r.Hash)]
		if !ok {
			return status.Error(codes.NotFound, "no such layout")
		}
		out = &agentv1.GetLayoutResponse{Body: b}
		return nil
	})
	return out, err
}

// FenceVolume takes the next epoch, at once.
func (s *server) FenceVolume(ctx context.Context, r *agentv1.FenceVolumeRequest) (*agentv1.FenceVolumeResponse, error) {
	return &agentv1.FenceVolumeResponse{Fenced: true, EpochNumber: r.EpochNumber + 1},
		s.asked(ctx, func(n *node) error { n.fences = append(n.fences, r.Volume); return nil })
}

// pipes is a listener for connections inside of the process.
type pipes struct {
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.over:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.over) }); return nil }
func (p *pipes) Addr() net.Addr { return place("fleet") }

// addressed is a connection that was made to an address.
type addressed struct {
	net.Conn
	to string
}

func (a addressed) LocalAddr() net.Addr { return place(a.to) }

type place string

func (place) Network() string  { return "pipe" }
func (p place) String() string { return string(p) }
