package devnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc/codes"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/cmd/internal/control"
	"mynetwork.io/mynetwork/nodeagent/export/device"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
	"mynetwork.io/mynetwork/nodeagent/export/mounter"
)

// grace is how long a process may take to end after SIGTERM.
const grace = 15 * time.Second

// ErrLeft tells that a device could not be ended, so that the network was left as it is.
var ErrLeft = errors.New("a device is left")

// DownOptions are how a network is ended.
type DownOptions struct {
	Wipe    bool // remove data and directory
	Force   bool // do not wait for quorums: what no flush covered may be lost
	Program string
	Say     func(format string, args ...any)
}

// Down detaches what is attached, ends all processes, and with Wipe removes the network. Data are kept otherwise.
func Down(ctx context.Context, dir string, o DownOptions) error {
	n, err := Load(dir)
	if errors.Is(err, ErrNone) {
		o.Say("%v: nothing to do", err)
		return nil
	}
	if err != nil {
		return err
	}
	unlock, err := n.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := n.detachAll(ctx, o); err != nil {
		return err
	}
	if err := n.stopAll(o); err != nil {
		return err
	}
	if err := n.cleanup(ctx); err != nil {
		return err
	}
	if o.Wipe {
		return n.wipe(o)
	}
	return nil
}

// detachAll ends the devices of all agents in order. Agents that died over a device are started again for it.
func (n *Network) detachAll(ctx context.Context, o DownOptions) error {
	running := len(n.Running())
	for _, m := range n.Nodes {
		err := n.detachNode(ctx, m, running > 0, o)
		if err == nil {
			continue
		}
		if e := new(control.Error); errors.As(err, &e) && e.Code == codes.FailedPrecondition {
			return fmt.Errorf("%w: node %s: %w; unmount it, then run this again", ErrLeft, m.Name, err)
		}
		if !o.Force {
			return fmt.Errorf("node %s: %w; \"--force\" ends it all the same, and what no flush covered may be lost", m.Name, err)
		}
		o.Say("%s: left without detaching: %v", m.Name, err)
	}
	return nil
}

func (n *Network) detachNode(ctx context.Context, m Node, others bool, o DownOptions) error {
	if p, ok := recorded(n.pidFile(m.Name, "agent")); !ok || !p.alive() {
		if o.Force || !n.holds(ctx, m.Name) {
			return nil
		}
		o.Say("%s: its agent is dead and its holder keeps a device: starting it again to detach", m.Name)
		if !others {
			o.Say("%s: no other agent runs, so it may find no quorum", m.Name)
		}
		if err := n.launch(ctx, m, o.Program, o.Say); err != nil {
			return err
		}
	}
	if err := n.ready(ctx, m.Name); err != nil {
		return err
	}
	a, err := control.Dial(n.AgentSocket(m.Name))
	if err != nil {
		return err
	}
	defer a.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	st, err := a.Status(ctx, &agentv1.StatusRequest{})
	if err != nil {
		return control.Say(err)
	}
	for _, v := range st.GetVolumes() {
		failed := v.GetState() == agentv1.VolumeState_VOLUME_STATE_FAILED // fenced: there is nothing to wait for
		_, err := a.DetachVolume(ctx, &agentv1.DetachVolumeRequest{Volume: v.GetId(), Force: o.Force || failed})
		if err != nil {
			return fmt.Errorf("detach volume %s: %w", v.GetName(), control.Say(err))
		}
		o.Say("%s: volume %s detached", m.Name, v.GetName())
	}
	return nil
}

// holds tells whether a node's holder keeps anything that is not ended.
func (n *Network) holds(ctx context.Context, node string) bool {
	c, err := holder.Dial(ctx, n.HolderSocket(node))
	if err != nil {
		return false
	}
	defer c.Close()
	list, err := c.List(ctx)
	if err != nil {
		return false
	}
	for _, l := range list {
		if l.State != holder.Ended {
			return true
		}
	}
	return false
}

func (n *Network) stopAll(o DownOptions) error {
	for _, kind := range []string{"agent", "holder"} {
		for _, m := range n.Nodes {
			p, ok := recorded(n.pidFile(m.Name, kind))
			ran := ok && p.alive()
			killed, err := stop(n.pidFile(m.Name, kind), grace)
			if err != nil {
				return fmt.Errorf("%s of %s: %w", kind, m.Name, err)
			}
			if killed {
				o.Say("%s: %s killed (pid %d): it did not end within %s", m.Name, kind, p.PID, grace)
			} else if ran {
				o.Say("%s: %s ended (pid %d)", m.Name, kind, p.PID)
			}
		}
	}
	return nil
}

// cleanup removes mounts and loop devices that dead processes left.
func (n *Network) cleanup(ctx context.Context) error {
	for _, m := range n.Nodes {
		mounts := mounter.New(n.path(m.Name, "run", "devices"))
		if err := device.SweepUblk(ctx, mounts, nil, true); err != nil {
			return err
		}
		left, err := mounts.List(ctx)
		if err != nil {
			return err
		}
		for _, l := range left {
			if err := device.Cleanup(ctx, nil, mounts, l.Name); err != nil {
				return fmt.Errorf("%w: volume %s of node %s: %w; unmount it, then run this again", ErrLeft, l.Name, m.Name, err)
			}
		}
	}
	return nil
}

// wipe removes what this package and the agents made, and the directory if nothing else is in it.
func (n *Network) wipe(o DownOptions) error {
	mounts, err := fuse.Mounts(n.dir)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		return fmt.Errorf("%w: %s is mounted; nothing was removed", ErrLeft, m.Dir)
	}
	for _, m := range n.Nodes {
		if err := os.RemoveAll(n.path(m.Name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"registry", "layout", "ca", "network.json", "lock"} {
		if err := os.RemoveAll(n.path(name)); err != nil {
			return err
		}
	}
	o.Say("removed the network and its data from %s", n.dir)
	_ = os.Remove(n.dir) // stays if something else is in it
	return nil
}

func dialUnix(socket string) error {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	return c.Close()
}
