package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/disk"
	fusedev "mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
)

// inside is a network whose agents run in this process.
type inside struct {
	dir    string
	wrap   map[int]func(disk.FS) disk.FS // of the disk of an agent, by its number from 0
	agents []*agent.Agent
	ends   []func() error
}

const insideNetwork, insideVolume = "bench", "inside"

// start starts so many agents.
func (n *inside) start(ctx context.Context, count int) error {
	now := time.Now()
	ca, err := identity.NewCA(insideNetwork, now)
	if err != nil {
		return err
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	port, err := freePorts(count)
	if err != nil {
		return err
	}
	var members []agent.Member
	for i := range count {
		members = append(members, agent.Member{Node: fmt.Sprintf("n%d", i+1), Address: fmt.Sprintf("127.0.0.1:%d", port+i)})
	}
	for i, m := range members {
		own := filepath.Join(n.dir, m.Node)
		cert, private, err := ca.Issue(m.Node, now, 24*time.Hour)
		if err != nil {
			return err
		}
		creds, err := identity.NewCredentials(cert, private, ca.CertPEM(), identity.CredentialOptions{})
		if err != nil {
			return err
		}
		a, err := agent.New(agent.Config{Node: m.Node, Network: insideNetwork, Format: true, Stores: []agent.StoreConfig{{Path: filepath.Join(own, "disk"), Wrap: n.wrap[i]}},
			Dir: filepath.Join(own, "run"), Control: filepath.Join(own, "s", "c"), Registry: filepath.Join(n.dir, "registry"), Members: members, Credentials: creds,
			ControlKey: key, FuseTransport: fusedev.DevFuse, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))})
		if err != nil {
			return err
		}
		if err := n.run(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// run starts an agent, which goes on when ctx ends: what is attached is detached first.
func (n *inside) run(ctx context.Context, a *agent.Agent) error {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(own) }()
	select {
	case err := <-ended:
		cancel()
		return errors.Join(errors.New("an agent ended as it began"), err)
	case <-a.Ready():
	}
	n.agents = append(n.agents, a)
	n.ends = append(n.ends, func() error { cancel(); return <-ended })
	return nil
}

// device makes a volume and attaches it to the first agent.
func (n *inside) device(ctx context.Context, size int64) (string, error) {
	m := n.agents[0].Volumes()
	if _, err := m.Create(volumes.CreateRequest{Name: insideVolume, Size: size, Replicas: len(n.agents)}); err != nil {
		return "", err
	}
	i, err := m.Attach(ctx, volumes.AttachRequest{Volume: insideVolume, Kind: volumes.Fuse})
	return i.Device, err
}

// hedged is how many reads were sent to a second replica because the first one was late.
func (n *inside) hedged() uint64 {
	for _, i := range n.agents[0].Volumes().Open() {
		return i.Status.Stats.Hedged
	}
	return 0
}

// stop detaches the volume and ends the agents.
func (n *inside) stop() (err error) {
	if len(n.agents) > 0 && len(n.agents[0].Volumes().Open()) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err = n.agents[0].Volumes().Detach(ctx, insideVolume, false)
	}
	for _, end := range n.ends {
		err = errors.Join(err, end())
	}
	return err
}
