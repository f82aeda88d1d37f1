package agent

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent/caretaker"
	kube "mynetwork.io/mynetwork/nodeagent/agent/cluster"
	"mynetwork.io/mynetwork/nodeagent/agent/grants"
	"mynetwork.io/mynetwork/nodeagent/agent/layouts"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/peer"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
	"mynetwork.io/mynetwork/nodeagent/registry"
)

// trust is who this node is, and whom it believes.
type trust struct {
	creds     *identity.Credentials
	keys      []ed25519.PublicKey
	signer    grants.Signer
	deletions volumes.DeletionSigner
}

// joinMachine joins a network on one machine: everything is in the configuration.
func (a *Agent) joinMachine(context.Context) (err error) {
	c := &a.cfg
	signer := grants.KeySigner{Network: c.Network, Key: c.ControlKey}
	a.trust = trust{creds: c.Credentials, keys: []ed25519.PublicKey{c.ControlKey.Public().(ed25519.PublicKey)}, signer: signer, deletions: signer}
	if a.registry, err = registry.OpenFile(c.Registry); err != nil {
		return err
	}
	layout, err := a.machineLayout()
	if err != nil {
		return err
	}
	a.members.Update(a.machineNodes(layout), layout)
	return nil
}

// joinCluster joins a network of Kubernetes: it waits for this node's certificate.
func (a *Agent) joinCluster(ctx context.Context) (err error) {
	c, k := &a.cfg, a.cfg.Cluster
	api := k.API
	if api == nil {
		if api, err = kube.Dial(); err != nil {
			return err
		}
	}
	_, text, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("%w: port of the peer server: %w", ErrConfig, err)
	}
	a.kube, err = kube.Join(ctx, kube.Options{API: api, Network: k.Name, UID: c.Network, Namespace: k.Namespace, Node: c.Node,
		Address: net.JoinHostPort(k.Address, text), Port: port, CA: k.CA, TLS: k.TLS, Dir: c.Dir, Keys: k.ControlKeys, Log: c.Log})
	if err != nil {
		return err
	}
	box := a.kube.Box()
	a.trust = trust{creds: a.kube.Credentials(), keys: k.ControlKeys, signer: box, deletions: box}
	a.registry = a.kube.Registry()
	return nil
}

// followCluster brings what is known of the network to the parts that startData made.
func (a *Agent) followCluster(ctx context.Context) (err error) {
	a.kube.Follow(ctx, kube.Parts{Table: a.members, Ask: a.askLayout, Stores: a.stores, Keeper: held{a}, Collect: a.collect, Scrub: a.scrubSince})
	a.remote, err = net.Listen("tcp", a.cfg.Cluster.ControlListen)
	return err
}

// held are this node's grants, and what is attached here.
type held struct{ a *Agent }

// scrubSince has the stores read whole that were not since then; an agent that scrubs nothing does not.
func (a *Agent) scrubSince(t time.Time) {
	if a.scrubber != nil {
		a.scrubber.Ask(t)
	}
}

// Member implements kube.Keeper.
func (h held) Member(ctx context.Context, encoded []byte) error {
	return h.a.grants.Member(ctx, encoded)
}

// Renewed implements kube.Keeper.
func (h held) Renewed(ctx context.Context, v block.VolumeID, encoded []byte) error {
	return h.a.grants.Renewed(ctx, v, encoded)
}

// Attached implements kube.Keeper.
func (h held) Attached() (out []block.VolumeID) {
	for _, i := range h.a.volumes.Open() {
		out = append(out, i.ID)
	}
	return out
}

// askLayout asks a node for the body of a layout.
func (a *Agent) askLayout(ctx context.Context, node string, h block.Hash) ([]byte, error) {
	conn, err := a.pool.Get(ctx, node, peer.Bulk)
	if err != nil {
		return nil, err
	}
	return layouts.Fetch(ctx, h, func(ctx context.Context, req []byte) (uint16, []byte, error) {
		resp, err := conn.Call(ctx, layouts.TypeLayout, req)
		if err != nil {
			return 0, nil, err
		}
		defer resp.Release()
		return resp.Status, append([]byte(nil), resp.Body...), nil
	})
}

// handler takes the requests of other nodes.
func (a *Agent) handler() peer.Handler {
	d := &door{stores: a.stores, hear: a.hear}
	if a.kube != nil {
		d.layouts = a.kube.Layouts()
	}
	return d
}

// door hands requests for layouts to whom has them, the words of wardens to the caretaker, and all others to the stores.
type door struct {
	stores  peer.Handler
	layouts *layouts.Files // nil: none
	hear    func(from string, req *peer.Request)
}

// Serve implements peer.Handler.
func (d *door) Serve(from peer.Identity, req *peer.Request) {
	switch {
	case req.Type == layouts.TypeLayout && d.layouts != nil:
		d.layouts.Serve(req)
	case req.Type == caretaker.TypeWord:
		d.hear(from.Node, req)
	default:
		d.stores.Serve(from, req)
	}
}

// controlAddress is what others reach control over TLS by.
func (a *Agent) controlAddress() string {
	_, port, err := net.SplitHostPort(a.remote.Addr().String())
	if err != nil {
		return ""
	}
	return net.JoinHostPort(a.cfg.Cluster.Address, port)
}

// storesMemory is where it is remembered which stores there were.
func (a *Agent) storesMemory() string { return filepath.Join(a.cfg.Dir, "stores.json") }
