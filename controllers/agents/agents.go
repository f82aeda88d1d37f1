package agents

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/authority"
	"mynetwork.io/mynetwork/controllers/mynetwork"
)

// ErrNoAgent tells that a node has no agent to speak to.
var ErrNoAgent = errors.New("no agent there")

// ErrStranger tells that who answered is not the node that was meant.
var ErrStranger = errors.New("the server is not the node that was meant")

// name is who the operator is on the control port.
const name = "operator"

// portName is the port of the Service that serves the control protocol.
const portName = "control"

// Agents leads to agents. Client, Namespace and Now are required.
type Agents struct {
	Client    client.Reader // of EndpointSlices and Secrets of Namespace
	Namespace string
	Now       func() time.Time
	// Dial connects to host:port. nil: by TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)

	mu     sync.Mutex
	bodies map[string]body // by network uid: the newest that was stored or fetched
}

type body struct {
	hash [32]byte
	data []byte
}

// where gives host:port of the control port of each node's agent. Of two pods of a node, as while one is replaced, the one that
// stays counts.
func (a *Agents) where(ctx context.Context, n *v1alpha1.MyNetwork) (map[string]string, error) {
	var list discoveryv1.EndpointSliceList
	if err := a.Client.List(ctx, &list, client.InNamespace(a.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: mynetwork.AgentName(n.Name)}); err != nil {
		return nil, fmt.Errorf("agents of network %s: %w", n.Name, err)
	}
	out, best := map[string]string{}, map[string]int{}
	for i := range list.Items {
		s := &list.Items[i]
		port := int32(v1alpha1.PortControl)
		for _, p := range s.Ports {
			if p.Name != nil && *p.Name == portName && p.Port != nil {
				port = *p.Port
			}
		}
		for _, e := range s.Endpoints {
			if e.NodeName == nil || len(e.Addresses) == 0 {
				continue
			}
			address := net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(port)))
			have, known := out[*e.NodeName]
			if r := rank(e.Conditions); !known || r > best[*e.NodeName] || r == best[*e.NodeName] && address < have {
				out[*e.NodeName], best[*e.NodeName] = address, r
			}
		}
	}
	return out, nil
}

func rank(c discoveryv1.EndpointConditions) (r int) {
	if c.Terminating == nil || !*c.Terminating {
		r += 2
	}
	if c.Serving == nil || *c.Serving {
		r++
	}
	return r
}

// line is a way to the agents of one network, for the length of one call or a few.
type line struct {
	uid   string
	where map[string]string
	roots *x509.CertPool
	own   tls.Certificate
	now   func() time.Time
	dial  []grpc.DialOption
}

// open reads where the agents are, and makes the operator's certificate.
func (a *Agents) open(ctx context.Context, n *v1alpha1.MyNetwork) (*line, error) {
	where, err := a.where(ctx, n)
	if err != nil {
		return nil, err
	}
	secret := &corev1.Secret{}
	if err := a.Client.Get(ctx, client.ObjectKey{Namespace: a.Namespace, Name: authority.SecretName(n.Name)}, secret); err != nil {
		return nil, fmt.Errorf("authority of network %s: %w", n.Name, err)
	}
	ca, err := authority.Load(secret.Data, string(n.UID))
	if err != nil {
		return nil, fmt.Errorf("authority of network %s: %w", n.Name, err)
	}
	cert, key, err := ca.Issue(name, a.Now())
	if err != nil {
		return nil, err
	}
	own, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Bundle())
	l := &line{uid: string(n.UID), where: where, roots: roots, own: own, now: a.Now}
	if a.Dial != nil {
		l.dial = append(l.dial, grpc.WithContextDialer(a.Dial))
	}
	return l, nil
}

// call speaks to the agent of a node.
func (l *line) call(node string, f func(agentv1.AgentClient) error) error {
	address, ok := l.where[node]
	if !ok {
		return fmt.Errorf("node %s: %w", node, ErrNoAgent)
	}
	c, err := grpc.NewClient("passthrough:///"+address, append(slices.Clip(l.dial), grpc.WithTransportCredentials(credentials.NewTLS(l.tls(node))),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxBody+overhead), grpc.MaxCallSendMsgSize(maxBody+overhead)))...)
	if err != nil {
		return fmt.Errorf("node %s: %w", node, err)
	}
	defer c.Close()
	if err := f(agentv1.NewAgentClient(c)); err != nil {
		return fmt.Errorf("node %s (%s): %w", node, address, err)
	}
	return nil
}

// Sizes of messages in bytes, as the control protocol has them.
const (
	maxBody  = 64 << 20
	overhead = 1 << 10
)

// tls checks the server's name itself: certificates have the node's URI, and no host name.
func (l *line) tls(node string) *tls.Config {
	want := authority.URI(l.uid, node).String()
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		Certificates:       []tls.Certificate{l.own},
		InsecureSkipVerify: true, // VerifyConnection does more
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return fmt.Errorf("no certificate: %w", ErrStranger)
			}
			leaf, between := s.PeerCertificates[0], x509.NewCertPool()
			for _, c := range s.PeerCertificates[1:] {
				between.AddCert(c)
			}
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: l.roots, Intermediates: between, CurrentTime: l.now(),
				KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
				return fmt.Errorf("%w: %w", ErrStranger, err)
			}
			if len(leaf.URIs) != 1 || leaf.URIs[0].String() != want {
				return fmt.Errorf("it is %v, wanted %s: %w", leaf.URIs, want, ErrStranger)
			}
			return nil
		},
	}
}

// nodes lists the nodes that have an agent, those of first in front.
func (l *line) nodes(first map[string]bool) (out []string) {
	for n := range l.where {
		out = append(out, n)
	}
	slices.SortFunc(out, func(x, y string) int {
		if first[x] != first[y] {
			if first[x] {
				return -1
			}
			return 1
		}
		return cmp.Compare(x, y)
	})
	return out
}
