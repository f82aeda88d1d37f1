package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/metrics/scrape"
	"mynetwork.io/mynetwork/nodeagent/agent/caretaker"
	kube "mynetwork.io/mynetwork/nodeagent/agent/cluster"
	"mynetwork.io/mynetwork/nodeagent/agent/control"
	"mynetwork.io/mynetwork/nodeagent/agent/demand"
	"mynetwork.io/mynetwork/nodeagent/agent/events"
	"mynetwork.io/mynetwork/nodeagent/agent/fsck"
	"mynetwork.io/mynetwork/nodeagent/agent/grants"
	"mynetwork.io/mynetwork/nodeagent/agent/health"
	"mynetwork.io/mynetwork/nodeagent/agent/history"
	"mynetwork.io/mynetwork/nodeagent/agent/holding"
	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/agent/metrics"
	"mynetwork.io/mynetwork/nodeagent/agent/readers"
	"mynetwork.io/mynetwork/nodeagent/agent/scrub"
	"mynetwork.io/mynetwork/nodeagent/agent/space"
	"mynetwork.io/mynetwork/nodeagent/agent/stores"
	"mynetwork.io/mynetwork/nodeagent/agent/transport"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/cache"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/export/device"
	"mynetwork.io/mynetwork/nodeagent/export/mounter"
	"mynetwork.io/mynetwork/nodeagent/peer"
	"mynetwork.io/mynetwork/nodeagent/peer/grant"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// ErrRunning is returned when another agent uses the same directory.
var ErrRunning = errors.New("another agent runs on this directory")

const (
	keptEvents    = 1024
	sweepInterval = 30 * time.Second       // without Kubernetes
	operatorGrace = 24 * time.Hour         // with Kubernetes the operator takes a dead node out of the layout; this is if there is none any more
	closeTimeout  = 20 * time.Second       // for engines that wait for a quorum at the end
	drainTimeout  = 300 * time.Millisecond // for replies to other nodes that are under way at the end
)

// Agent is one node's agent. The zero value is not usable: see New.
type Agent struct {
	cfg     Config
	events  *events.Log
	started time.Time
	ready   chan struct{} // closed once control calls are served

	refused atomic.Uint64 // connections that the peer server refused
	lost    atomic.Uint64 // times that a node was lost
	back    chan struct{} // a node came back: deletions may go on
	unswept atomic.Bool   // the last look at deletions has not brought all through
	care    metrics.Care  // figures of those who look after data

	// made by start, in this order
	lock      *os.File
	kube      *kube.Node // nil: no Kubernetes
	trust     trust
	registry  registry.Store
	cache     cache.Cache
	members   *members.Table
	stores    *stores.Set
	pool      *peer.Pool
	transport *transport.Transport
	grants    *grants.Keeper
	scrubber  *scrub.Scrubber // nil: nothing is scrubbed
	caretaker *caretaker.Caretaker
	server    *peer.Server
	holder    *holding.Holding // nil: none
	volumes   *volumes.Manager
	readers   *readers.Readers
	demand    *demand.Follower
	space     *space.Keeper
	control   *control.Server
	listener  net.Listener // of the control socket
	remote    net.Listener // of control over TLS; nil: none
	history   *history.History
	health    *health.Monitor
	figures   *prometheus.Registry
	scraped   net.Listener // of metrics; nil: none
	mounter   device.Mounter
	peerAddr  net.Addr
}

// New makes an agent; Run starts it.
func New(cfg Config) (*Agent, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Agent{cfg: cfg, events: events.New(keptEvents, cfg.Log), started: time.Now(), ready: make(chan struct{}), back: make(chan struct{}, 1)}, nil
}

// Ready is closed once the agent serves control calls and peers. Volumes that the holder kept may still be opening.
func (a *Agent) Ready() <-chan struct{} { return a.ready }

// Volumes gives the volume manager; only after Ready.
func (a *Agent) Volumes() *volumes.Manager { return a.volumes }

// Readers gives the sealed volumes that are read here; only after Ready.
func (a *Agent) Readers() *readers.Readers { return a.readers }

// Run opens the stores, serves peers and the control socket, resumes the volumes that the holder kept, and ends when ctx
// does or when something that it cannot do without fails. On the way out attached volumes are left to the holder, if
// there is one, else they are detached in order.
func (a *Agent) Run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer func() { err = errors.Join(err, a.close()) }()
	if err := a.start(ctx); err != nil {
		return fmt.Errorf("start agent %s: %w", a.cfg.Node, err)
	}
	g := newGroup(ctx, cancel)
	defer g.wait()
	g.run(func(ctx context.Context) error {
		a.members.Run(ctx, a.cfg.ProbeInterval, a.ask, a.changed)
		return nil
	})
	g.run(a.sweep)
	g.run(func(ctx context.Context) error { a.history.Run(ctx, a.unsaved); return nil })
	g.run(func(ctx context.Context) error { a.health.Run(ctx); return nil })
	if a.scrubber != nil {
		g.run(a.scrubber.Run)
	}
	g.run(a.caretaker.Run)
	g.run(a.demand.Run)
	g.run(a.space.Run)
	a.resume(ctx, g, cancel)
	g.run(func(ctx context.Context) error { return a.control.Serve(ctx, a.listener, nil) })
	if a.kube == nil && a.cfg.Layout != "" {
		g.run(a.followLayout)
	}
	if a.kube != nil {
		g.run(func(ctx context.Context) error { return a.control.Serve(ctx, a.remote, a.trust.creds.ControlConfig()) })
		g.run(a.kube.Run)
	}
	if a.scraped != nil {
		g.run(func(ctx context.Context) error { return scrape.Serve(ctx, a.scraped, a.scraping()) })
	}
	a.events.Info("Started", "", "agent %s serves peers on %s and control on %s", a.cfg.Node, a.peerAddr, a.cfg.Control)
	close(a.ready)
	a.tell()
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// start makes the parts, from the disk up. What was made when it fails is ended by close.
func (a *Agent) start(ctx context.Context) (err error) {
	c := &a.cfg
	if err := a.lockDir(); err != nil {
		return err
	}
	if a.history, err = history.Open(filepath.Join(c.Dir, "history"), time.Now); err != nil {
		return err
	}
	a.events.Notice(a.history.Event)
	a.members = members.New(c.Node)
	join := a.joinMachine
	if c.Cluster != nil {
		join = a.joinCluster
	}
	if err := join(ctx); err != nil {
		return err
	}
	if a.cache, err = cache.New(c.CacheBytes); err != nil {
		return err
	}
	a.startHealth()
	if err := a.startData(); err != nil {
		return err
	}
	if a.kube != nil {
		if err := a.followCluster(ctx); err != nil {
			return err
		}
	}
	if c.Holder != "" {
		a.holder = holding.New(c.Holder, c.Log)
		if err := a.holder.Connect(ctx); err != nil && a.kube == nil {
			return err
		} else if err != nil {
			c.Log.Warn("this node's holder does not run yet: nothing is attached before it does", "err", err)
		}
	}
	if err := a.startVolumes(); err != nil {
		return err
	}
	if err := a.startMetrics(); err != nil {
		return err
	}
	a.listener, err = control.Listen(c.Control)
	return err
}

// lockDir makes sure that this is the only agent of its directory.
func (a *Agent) lockDir() error {
	if err := os.MkdirAll(a.cfg.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(a.cfg.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("%s: %w: %w", a.cfg.Dir, ErrRunning, err), f.Close())
	}
	a.lock = f
	return nil
}

// startData makes the data path: stores, peers, transport.
func (a *Agent) startData() (err error) {
	c := &a.cfg
	presented := grant.NewAuthorizer(c.Network, a.trust.keys, nil)
	opt := stores.Options{Layout: a.members, Pulled: func(p stores.Pull) { a.history.Copied(p.Bytes, p.Took, p.Failed) }, Node: c.Node, Network: c.Network, Format: c.Format, Keys: a.trust.keys, Log: c.Log,
		Auth: &grants.Authorizer{Self: c.Node, Network: c.Network, Presented: presented}}
	for _, s := range c.Stores {
		opt.Stores = append(opt.Stores, stores.Config(s))
	}
	if a.kube != nil {
		opt.Memory = a.storesMemory()
	}
	if a.stores, err = stores.Open(opt); err != nil {
		return err
	}
	set := peer.Settings{Software: "mynetwork " + c.Version, BackoffMax: time.Second} // a node that is back is used soon
	a.pool, err = peer.NewPool(a.trust.creds, set, func(_ context.Context, node string) (string, error) {
		addr, ok := a.members.Address(node)
		if !ok {
			return "", fmt.Errorf("the address of node %s is not known", node)
		}
		return addr, nil
	})
	if err != nil {
		return err
	}
	a.grants = grants.NewKeeper(c.Node, a.trust.signer, a.pool)
	a.transport = transport.New(transport.Options{Self: c.Node, Local: a.stores.Door, Owner: a.members.Owner, Pool: a.pool})
	reader := grants.Reader{Transport: a.transport, Keeper: a.grants}
	a.stores.Start(reader)
	a.startKeeping(&replica.Client{Env: task.NewReal(), Transport: reader})
	a.members.Heard(c.Node, a.stores.Announce())
	a.server, err = peer.NewServer(a.trust.creds, a.handler(), set, peer.ServerOptions{Grants: presented, Rejected: func(remote net.Addr, err error) {
		if errors.Is(err, io.EOF) { // who looks whether the port is there, as a kubelet does
			c.Log.Debug("a connection ended before it began", "from", remote)
			return
		}
		a.refused.Add(1)
		c.Log.Warn("a connection was refused", "from", remote, "err", err)
	}})
	if err != nil {
		return err
	}
	a.peerAddr, err = a.server.Listen(c.Listen)
	return err
}

func (a *Agent) startVolumes() error {
	c := &a.cfg
	opt := volumes.Options{Node: c.Node, Network: c.Network, Registry: a.registry, Transport: a.transport, Members: a.members, Cache: a.cache,
		Local: a.stores.Local, Room: a.roomOf, Grants: a.grants, DeviceDir: filepath.Join(c.Dir, "devices"), FuseTransport: c.FuseTransport, RingBytes: c.RingBytes, CopyRate: c.CopyRate, Deletions: a.trust.deletions,
		Events: a.events, Log: c.Log, Grace: c.Grace}
	if a.kube != nil {
		opt.Grace = operatorGrace
	}
	if a.holder != nil {
		opt.Keeper = a.holder
	}
	a.mounter = mounter.New(opt.DeviceDir)
	if c.Mounter != "" {
		m, err := mounter.Dial(c.Mounter)
		if err != nil {
			return err
		}
		a.mounter = m
	}
	opt.Mounter = a.mounter
	a.volumes = volumes.New(opt)
	a.startDemand()
	a.startSpace()
	a.readers = readers.New(readers.Options{Node: opt.Node, Registry: opt.Registry, Transport: opt.Transport, Members: opt.Members, Cache: opt.Cache,
		Local: opt.Local, Grants: opt.Grants, Keeper: opt.Keeper, DeviceDir: opt.DeviceDir, Mounter: opt.Mounter, FuseTransport: opt.FuseTransport,
		Events: opt.Events, Log: opt.Log, Checkpoint: a.volumes.Checkpoint})
	checker := fsck.New(fsck.Options{Network: c.Network, Keys: a.trust.keys, Registry: a.registry,
		Members: a.members, Transport: a.transport, Grants: a.grants, Stores: a.stores, Deleted: a.deleted})
	parts := control.Parts{Node: c.Node, Version: c.Version, PeerAddress: a.peerAddr.String(), Started: a.started, Volumes: a.volumes, Readers: a.readers,
		Stores: a.stores, Members: a.members, Health: func(node string) peer.Report { return a.pool.Health(node).Report() }, Cache: a.cache,
		Events: a.events, Checker: checker, Orphans: checker, Counters: a.counters, Scrubbed: a.scrubbed, Demand: a.demand.Verdict, Log: c.Log,
		Figures: func() ([]*dto.MetricFamily, error) { return a.gatherer().Gather() }, History: a.history}
	if a.kube != nil {
		parts.Layouts = a.kube.Directory()
	}
	a.control = control.New(parts)
	return nil
}

// close ends the parts, from the top down. It may be called with only some of them made.
func (a *Agent) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var err error
	if a.listener != nil {
		_ = a.listener.Close() // the server has closed it already, if it ran
	}
	if a.remote != nil {
		_ = a.remote.Close()
	}
	if a.readers != nil {
		err = errors.Join(err, a.readers.Close(ctx, a.holder != nil && a.holder.Up()))
	}
	if a.scraped != nil {
		_ = a.scraped.Close()
	}
	if a.volumes != nil {
		err = errors.Join(err, a.volumes.Close(ctx, a.holder != nil && a.holder.Up()))
	}
	if a.server != nil {
		brief, cancel := context.WithTimeout(ctx, drainTimeout)
		err = errors.Join(err, ignore(a.server.Shutdown(brief), context.DeadlineExceeded))
		cancel()
	}
	if a.transport != nil {
		a.transport.Close()
	}
	if a.pool != nil {
		err = errors.Join(err, a.pool.Close())
	}
	if a.stores != nil {
		err = errors.Join(err, a.stores.Close())
	}
	if a.cache != nil {
		a.cache.Close()
	}
	if a.holder != nil {
		err = errors.Join(err, a.holder.Close())
	}
	if a.lock != nil {
		err = errors.Join(err, a.lock.Close())
	}
	return err
}

func ignore(err, which error) error {
	if errors.Is(err, which) {
		return nil
	}
	return err
}

// ask asks a node for its stores; this one is not asked over the network.
func (a *Agent) ask(ctx context.Context, node string) ([]members.Store, error) {
	if node == a.cfg.Node {
		return a.stores.Announce(), nil
	}
	conn, err := a.pool.Try(node, peer.Small)
	if errors.Is(err, peer.ErrBusy) { // not known yet whether it is there
		conn, err = a.pool.Get(ctx, node, peer.Small)
	}
	if err != nil {
		return nil, err
	}
	resp, err := conn.Call(ctx, members.TypeStores, members.Question())
	if err != nil {
		return nil, err
	}
	defer resp.Release()
	return members.Decode(resp.Body)
}

// deleted asks a store for the deletion record that it keeps of a volume.
func (a *Agent) deleted(ctx context.Context, s block.StoreID, v block.VolumeID) ([]byte, error) {
	node, ok := a.members.Owner(s)
	if !ok {
		return nil, fmt.Errorf("store %s: no known node has it", s)
	}
	if node == a.cfg.Node {
		return a.stores.Deleted(s, v)
	}
	conn, err := a.pool.Get(ctx, node, peer.Small)
	if err != nil {
		return nil, err
	}
	resp, err := conn.Call(ctx, stores.TypeDeleted, append(s[:], v[:]...))
	if err != nil {
		return nil, err
	}
	defer resp.Release()
	if resp.Status != replica.StatusOK {
		return nil, fmt.Errorf("node %s: %w", node, replica.ErrorOf(resp.Status, resp.Body))
	}
	return append([]byte(nil), resp.Body...), nil
}

func (a *Agent) changed(node string, alive bool, err error) {
	a.tell()
	a.volumes.Look()
	if alive {
		a.events.Info("NodeHeard", "", "node %s answers", node)
		select {
		case a.back <- struct{}{}:
		default:
		}
		return
	}
	a.lost.Add(1)
	a.events.Warn("NodeLost", "", "node %s does not answer: %v", node, err)
}

// sweep brings deletions to stores that were away.
func (a *Agent) sweep(ctx context.Context) error {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-a.back:
		}
		if !a.sweeps() {
			continue
		}
		err := a.volumes.Sweep(ctx)
		a.unswept.Store(err != nil)
		if err != nil && ctx.Err() == nil {
			a.cfg.Log.Warn("deletions are not through yet", "err", err)
		}
		if err != nil || a.kube == nil {
			t.Reset(sweepInterval)
		}
	}
}

// sweeps tells whether this node is the one that looks after deletions: without Kubernetes all do, it costs nothing; with it the first
// by name that answers, and nobody looks unless somebody is back.
func (a *Agent) sweeps() bool {
	if a.kube == nil {
		return true
	}
	for _, s := range a.members.States() {
		if s.Storage && (s.Alive || s.Name == a.cfg.Node) {
			return s.Name == a.cfg.Node
		}
	}
	return false
}

func (a *Agent) counters() map[string]uint64 {
	m := a.cache.Metrics()
	up, f := a.volumes.Upkeep(), a.copyFigures()
	return map[string]uint64{"copies": uint64(f.Copies), "lastCopies": uint64(f.Last), "missingCopies": uint64(f.Missing), "syncedVersion": f.Synced,
		"copiesMisplaced": uint64(up.Misplace), "copyBytesLeft": uint64(up.Repair + up.Moving), "extentsBelow": uint64(up.Below),
		"copiesStuck": uint64(up.Stuck), "layoutSynced": a.inPlace(&up),
		"cacheHits": m.Hits, "cacheMisses": m.Misses, "cacheBytes": uint64(max(m.Bytes, 0)),
		"connectionsRefused": a.refused.Load(), "nodesLost": a.lost.Load()}
}

// Store ids of this node, for tests and people.
func (a *Agent) storeIDs() (out []block.StoreID) {
	for _, s := range a.stores.All() {
		out = append(out, s.ID)
	}
	return out
}
