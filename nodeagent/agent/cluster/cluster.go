package cluster

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/agent/atomicfile"
	"mynetwork.io/mynetwork/nodeagent/agent/cluster/directory"
	"mynetwork.io/mynetwork/nodeagent/agent/cluster/enrol"
	"mynetwork.io/mynetwork/nodeagent/agent/cluster/mailbox"
	kuberegistry "mynetwork.io/mynetwork/nodeagent/agent/cluster/registry"
	"mynetwork.io/mynetwork/nodeagent/agent/cluster/report"
	"mynetwork.io/mynetwork/nodeagent/agent/layouts"
	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/core/warrant"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
	"mynetwork.io/mynetwork/nodeagent/registry"
)

// Options say who joins which network.
type Options struct {
	API       client.WithWatch
	Network   string // name of the MyNetwork
	UID       string
	Namespace string // of the agents
	Node      string
	Address   string              // that other nodes reach this one's peer server by, host:port
	Port      int                 // of the other nodes' peer servers
	CA        string              // file with the authorities' certificates
	TLS       string              // directory of the node's key and certificate
	Dir       string              // the agent's own directory
	Keys      []ed25519.PublicKey // control keys
	Log       *slog.Logger
}

// Node is an agent's part in Kubernetes. The zero value is not usable: see Join.
type Node struct {
	opt       Options
	enrolment *enrol.Enrolment
	creds     *identity.Credentials
	registry  *kuberegistry.Store
	box       *mailbox.Box
	layouts   *layouts.Files
	directory *directory.Directory // made by Follow
	reporter  *report.Reporter
	with      Parts
}

// Join gets the node its certificate, from disk or from the operator, and waits for it as long as ctx lasts.
func Join(ctx context.Context, o Options) (*Node, error) {
	n := &Node{opt: o}
	var err error
	if n.layouts, err = layouts.Open(filepath.Join(o.Dir, "layouts")); err != nil {
		return nil, err
	}
	keys := func() []ed25519.PublicKey { return o.Keys }
	if n.box, err = mailbox.New(mailbox.Options{API: o.API, Network: o.UID, Node: o.Node, Keys: keys, Dir: filepath.Join(o.Dir, "grants"), Log: o.Log}); err != nil {
		return nil, err
	}
	n.registry = kuberegistry.New(kuberegistry.Options{API: o.API, Network: o.Network, UID: types.UID(o.UID), Log: o.Log})
	n.enrolment = enrol.New(enrol.Options{API: o.API, Network: o.UID, Node: o.Node, Dir: o.TLS, CA: o.CA, Changed: n.Changed, Log: o.Log})
	n.creds, err = n.enrolment.First(ctx)
	return n, err
}

// Credentials are the node's; they are renewed while Run runs.
func (n *Node) Credentials() *identity.Credentials { return n.creds }

// Registry is the network's.
func (n *Node) Registry() registry.Store { return n.registry }

// Box has the operator sign.
func (n *Node) Box() *mailbox.Box { return n.box }

// Layouts are the bodies on this node's disk, for other nodes.
func (n *Node) Layouts() *layouts.Files { return n.layouts }

// Directory tells of the network; only after Follow.
func (n *Node) Directory() *directory.Directory { return n.directory }

// Keeper presents this node's grants; *grants.Keeper is one.
type Keeper interface {
	Member(ctx context.Context, encoded []byte) error
	mailbox.Holder
}

// Parts are those of the agent that hear from Kubernetes, and are asked for what is said there.
type Parts struct {
	Table   *members.Table
	Ask     directory.Ask
	Stores  report.Stores
	Keeper  Keeper
	Collect func() v1alpha1.AgentStatus
	Scrub   func(since time.Time)
}

// Follow brings what the disk knows to the parts. What Kubernetes knows follows with Run.
func (n *Node) Follow(ctx context.Context, p Parts) {
	n.with = p
	if err := n.keptMember(ctx); err != nil {
		n.opt.Log.Warn("the grant to keep copies that is on disk is not used; it comes from the API", "err", err)
	}
	o := &n.opt
	n.reporter = report.New(report.Options{API: o.API, Network: o.Network, Node: o.Node, Collect: p.Collect, Stores: p.Stores, Member: n.member, Scrub: p.Scrub, Log: o.Log,
		Apply: func(ctx context.Context, name string, st *v1alpha1.AgentStatus) error {
			return applyReport(ctx, o.API, name, st)
		}})
	n.directory = directory.New(directory.Options{API: o.API, Network: o.Network, UID: o.UID, Namespace: o.Namespace, Node: o.Node, Address: o.Address, Port: o.Port,
		File: filepath.Join(o.Dir, "directory.json"), Table: p.Table, Layouts: n.layouts, Ask: p.Ask, Changed: n.Changed, Log: o.Log})
}

// Changed says that there may be something to report.
func (n *Node) Changed() {
	if n.reporter != nil {
		n.reporter.Changed()
	}
}

// Run keeps all going until ctx ends.
func (n *Node) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{n.enrolment.Run, n.directory.Run, n.reporter.Run} {
		wg.Go(func() { _ = run(ctx) }) // none fails: they go on with what they have
	}
	wg.Go(func() { n.box.Run(ctx, n.with.Keeper) })
	wg.Wait()
	return nil
}

func (n *Node) memberFile() string { return filepath.Join(n.opt.Dir, "member.grant") }

// member takes a new grant for every volume into use, and keeps it.
func (n *Node) member(ctx context.Context, encoded []byte) error {
	if err := n.present(ctx, encoded); err != nil {
		return err
	}
	if err := atomicfile.Write(n.memberFile(), encoded); err != nil {
		n.opt.Log.Warn("the grant to keep copies can not be kept on disk: a restart needs the API", "err", err)
	}
	return nil
}

// present presents a grant for every volume if a control key signed it, for this node.
func (n *Node) present(ctx context.Context, encoded []byte) error {
	g, err := warrant.VerifyGrant(encoded, n.opt.UID, n.opt.Keys)
	if err != nil {
		return err
	}
	if g.Node != n.opt.Node || !g.Volume.IsZero() || g.Ended(time.Now().Unix()) {
		return fmt.Errorf("%w: it is for node %s, volume %s, until %s", warrant.ErrGrant, g.Node, g.Volume, time.Unix(g.NotAfter, 0))
	}
	return n.with.Keeper.Member(ctx, encoded)
}

// keptMember takes the grant that is on disk into use.
func (n *Node) keptMember(ctx context.Context) error {
	b, err := os.ReadFile(n.memberFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return n.present(ctx, b)
}
