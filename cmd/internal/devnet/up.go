package devnet

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"mynetwork.io/mynetwork/cmd/internal/control"
	"mynetwork.io/mynetwork/cmd/internal/settings"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
)

// Times of starting.
const (
	readyWithin  = 30 * time.Second // an agent replays its journal before it answers
	holderWithin = 5 * time.Second
	certificate  = 365 * 24 * time.Hour
	renewBefore  = 30 * 24 * time.Hour
)

// ErrStart tells that a process ended, or did not answer, after its start.
var ErrStart = errors.New("did not start")

// UpOptions are how a network is made. A network that exists keeps what it was made with.
type UpOptions struct {
	Nodes    int
	Device   string // fuse, nbd or none
	Port     int    // of the first node; 0: free ones
	Capacity int64
	Cache    int64
	Patience time.Duration
	Program  string                           // this program
	Say      func(format string, args ...any) // a line of progress
}

// Up makes the network of a directory, if there is none, and starts what does not run.
func Up(ctx context.Context, dir string, o UpOptions) (*Network, error) {
	n, err := Load(dir)
	switch {
	case errors.Is(err, ErrNone):
		if n, err = create(dir, o); err != nil {
			return nil, err
		}
		o.Say("made network %s of %d nodes in %s", n.UID, len(n.Nodes), n.dir)
	case err != nil:
		return nil, err
	case o.Nodes != 0 && o.Nodes != len(n.Nodes):
		return nil, fmt.Errorf("the network in %s has %d nodes; \"mynetwork dev down --wipe\" ends it and its data, or choose another --dir", n.dir, len(n.Nodes))
	}
	if err := thisMachine().preflight(n.Device); err != nil {
		return nil, err
	}
	unlock, err := n.Lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := n.prepare(); err != nil {
		return nil, err
	}
	for _, m := range n.Nodes {
		if err := n.launch(ctx, m, o.Program, o.Say); err != nil {
			return n, err
		}
	}
	for _, m := range n.Nodes {
		if err := n.ready(ctx, m.Name); err != nil {
			return n, err
		}
	}
	return n, nil
}

// create writes network.json into a directory that holds nothing.
func create(dir string, o UpOptions) (*Network, error) {
	if err := thisMachine().preflight(o.Device); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	n, err := newNetwork(dir, o)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the network's directory: %w", err)
	}
	if n.dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	unlock, err := lock(dir, lockWithin)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return n, n.save()
}

// prepare makes directories, authority, certificates and settings, as far as they are missing.
func (n *Network) prepare() error {
	for _, d := range []string{n.path("ca"), n.Registry()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	now := time.Now()
	ca, err := identity.LoadOrNewCA(n.path("ca"), n.UID, now)
	if err != nil {
		return fmt.Errorf("the network's authority: %w", err)
	}
	if err := controlKey(n.path("ca", "control.key")); err != nil {
		return err
	}
	for _, m := range n.Nodes {
		for _, d := range []string{n.path(m.Name, "tls"), n.Store(m.Name), n.path(m.Name, "run")} {
			if err := os.MkdirAll(d, 0o700); err != nil {
				return err
			}
		}
		if err := n.certify(ca, m.Name, now); err != nil {
			return err
		}
		b, err := n.agentFile(m)
		if err != nil {
			return err
		}
		if err := writeFile(n.AgentFile(m.Name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// certify issues a node's certificate, if it has none that holds for long enough.
func (n *Network) certify(ca *identity.CA, node string, now time.Time) error {
	dir := n.path(node, "tls")
	c, err := identity.LoadCredentials(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt"), identity.CredentialOptions{})
	if err == nil && c.Self().NotAfter.Sub(now) > renewBefore {
		return nil
	}
	cert, key, err := ca.Issue(node, now, certificate)
	if err != nil {
		return err
	}
	return ca.SaveNode(dir, cert, key)
}

// controlKey makes the key that signs grants, if there is none. A key that exists is never made again.
func controlKey(name string) error {
	if _, err := settings.ReadControlKey(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writeFile(name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// agentFile is the settings of a node's agent.
func (n *Network) agentFile(m Node) ([]byte, error) {
	var members []string
	for _, o := range n.Nodes {
		address := o.Address
		if via, ok := n.Via[m.Name+">"+o.Name]; ok {
			address = via
		}
		members = append(members, o.Name+"@"+address)
	}
	store := n.Store(m.Name)
	if n.Capacity > 0 {
		store += ";capacity=" + strconv.FormatInt(n.Capacity, 10)
	}
	own := map[string]any{
		"node": m.Name, "network": n.UID, "members": members, "layout": n.LayoutFile(), "stores": []string{store}, "format": true,
		"dir": n.path(m.Name, "run"), "control": n.AgentSocket(m.Name), "holder": n.HolderSocket(m.Name), "registry": n.Registry(),
		"tls": n.path(m.Name, "tls"), "control-key": n.path("ca", "control.key"), "cache": strconv.FormatInt(n.Cache, 10), "listen": m.Address,
	}
	values := maps.Clone(n.Agent)
	if values == nil {
		values = map[string]any{}
	}
	maps.Copy(values, own)
	return settings.File(settings.Agent, values)
}

// launch starts a node's holder and agent, those that do not run.
func (n *Network) launch(ctx context.Context, m Node, program string, say func(string, ...any)) error {
	if p, ok := recorded(n.pidFile(m.Name, "holder")); !ok || !p.alive() {
		args := []string{"holder", "--socket", n.HolderSocket(m.Name), "--patience", n.Patience.String()}
		p, err := spawn(program, args, n.path(m.Name), n.Log(m.Name, "holder"), n.pidFile(m.Name, "holder"))
		if err != nil {
			return err
		}
		if err := n.await(ctx, m.Name, "holder", p, holderWithin, func(context.Context) error { return dialUnix(n.HolderSocket(m.Name)) }); err != nil {
			return err
		}
		say("%s: holder started (pid %d)", m.Name, p.PID)
	}
	if p, ok := recorded(n.pidFile(m.Name, "agent")); !ok || !p.alive() {
		if err := portFree(m.Address); err != nil {
			return fmt.Errorf("node %s: %w", m.Name, err)
		}
		args := []string{"agent", "--config", n.AgentFile(m.Name)}
		p, err := spawn(program, args, n.path(m.Name), n.Log(m.Name, "agent"), n.pidFile(m.Name, "agent"))
		if err != nil {
			return err
		}
		say("%s: agent started (pid %d) on %s", m.Name, p.PID, m.Address)
	}
	return nil
}

// ready waits until a node's agent answers.
func (n *Network) ready(ctx context.Context, node string) error {
	p, ok := recorded(n.pidFile(node, "agent"))
	if !ok {
		return fmt.Errorf("agent of %s: %w", node, ErrStart)
	}
	a, err := control.Dial(n.AgentSocket(node))
	if err != nil {
		return err
	}
	defer a.Close()
	return n.await(ctx, node, "agent", p, readyWithin, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := a.Answers(ctx)
		return err
	})
}

// await polls ask until it succeeds, the process ends, or the time is over.
func (n *Network) await(ctx context.Context, node, kind string, p process, within time.Duration, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		why := ""
		select {
		case <-tick.C:
			if p.alive() {
				continue
			}
			why = "it ended"
		case <-ctx.Done():
			why = fmt.Sprintf("it does not answer after %s (%v)", within, err)
		}
		log := n.Log(node, kind)
		return fmt.Errorf("%s of %s %w: %s; the end of %s:\n    %s", kind, node, ErrStart, why, log, tail(log))
	}
}
