package driver_test

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/node"
	"mynetwork.io/mynetwork/csi/request"
)

var errDead = errors.New("this process is dead")

// life is that of one process of the driver: steps that run when it dies come to their end, and no other is begun.
type life struct {
	mu   sync.RWMutex
	dead bool
}

func (l *life) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
}

func (l *life) step(act func() error) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.dead {
		return errDead
	}
	return act()
}

// mortalMounter, mortalAgents and mortalAgent let a process of the driver do what changes something only while it lives.
type mortalMounter struct {
	*life
	node.Mounter
	node.Filesystems
}

func (m mortalMounter) Mount(device, dir, fs string, options []string) error {
	return m.step(func() error { return m.Mounter.Mount(device, dir, fs, options) })
}

func (m mortalMounter) Bind(source, target string, readOnly bool) error {
	return m.step(func() error { return m.Mounter.Bind(source, target, readOnly) })
}

func (m mortalMounter) Unmount(path string, remove bool) error {
	return m.step(func() error { return m.Mounter.Unmount(path, remove) })
}

func (m mortalMounter) Prepare(ctx context.Context, device, fs string, readOnly bool) error {
	return m.step(func() error { return m.Filesystems.Prepare(ctx, device, fs, readOnly) })
}

type mortalAgents struct {
	*life
	request.Agents
}

func (a mortalAgents) Agent(ctx context.Context, network, node string) (agentv1.AgentClient, error) {
	c, err := a.Agents.Agent(ctx, network, node)
	return mortalAgent{a.life, c}, err
}

type mortalAgent struct {
	*life
	agentv1.AgentClient
}

func (a mortalAgent) AttachVolume(ctx context.Context, r *agentv1.AttachVolumeRequest, o ...grpc.CallOption) (out *agentv1.AttachVolumeResponse, err error) {
	err = a.step(func() (err error) { out, err = a.AgentClient.AttachVolume(ctx, r, o...); return err })
	return out, err
}

func (a mortalAgent) DetachVolume(ctx context.Context, r *agentv1.DetachVolumeRequest, o ...grpc.CallOption) (out *agentv1.DetachVolumeResponse, err error) {
	err = a.step(func() (err error) { out, err = a.AgentClient.DetachVolume(ctx, r, o...); return err })
	return out, err
}
