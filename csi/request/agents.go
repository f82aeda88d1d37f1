package request

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/handle"
)

// Network is a network of a cluster.
type Network struct {
	ID   string // as in handles: the uid
	Name string // for people, and of its topology key; where nobody names networks it is the id
}

// Names lists the names of networks.
func Names(list []Network) (out []string) {
	for _, n := range list {
		out = append(out, n.Name)
	}
	return out
}

// Agents leads to the agents of networks.
type Agents interface {
	// Networks lists the networks that can be reached from here.
	Networks(ctx context.Context) ([]Network, error)
	// Agent gives the agent of a network on a node; any agent of it if node is empty. It does not wait until the agent
	// answers. ErrNetwork if there is none.
	Agent(ctx context.Context, network, node string) (agentv1.AgentClient, error)
}

// Barrier makes several volumes stand still together, which the control protocol has no call for yet.
type Barrier interface {
	// Hold holds back the completion of writes to a volume until Release or, at the latest, until some seconds have passed,
	// and gives a token for this hold.
	Hold(ctx context.Context, v handle.Volume, key []byte) (token string, err error)
	// Snapshot takes a snapshot, but only if this hold was never interrupted; else it fails with code FAILED_PRECONDITION.
	Snapshot(ctx context.Context, v handle.Volume, token, name string, key []byte) (*agentv1.Snapshot, error)
	// Release ends the hold. It may have ended before.
	Release(ctx context.Context, v handle.Volume, token string) error
}

// Modifier changes properties of a volume online, which the control protocol has no call for yet.
type Modifier interface {
	Modify(ctx context.Context, v handle.Volume, c Change) error
}

// Any gives any agent of a network.
func Any(ctx context.Context, agents Agents, network string) (agentv1.AgentClient, error) {
	a, err := agents.Agent(ctx, network, "")
	if err != nil {
		return nil, fmt.Errorf("network %q: %w", network, err)
	}
	return a, nil
}

// Status asks the agent of a network on a node for its state.
func Status(ctx context.Context, agents Agents, network, node string) (*agentv1.StatusResponse, error) {
	a, err := agents.Agent(ctx, network, node)
	if err != nil {
		return nil, err
	}
	return a.Status(ctx, &agentv1.StatusRequest{})
}

// Inspect asks an agent for a volume. ErrNotFound also if it is deleted.
func Inspect(ctx context.Context, a agentv1.AgentClient, id string) (*agentv1.Volume, error) {
	v, err := a.InspectVolume(ctx, &agentv1.InspectVolumeRequest{Volume: id})
	if IsCode(err, codes.NotFound) || err == nil && v.State == agentv1.VolumeState_VOLUME_STATE_DELETED {
		return nil, fmt.Errorf("volume %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("inspect volume %s: %w", id, err)
	}
	return v, nil
}

// Find finds a volume and the agent that is to change it: that of its holder, else any.
func Find(ctx context.Context, agents Agents, h handle.Volume) (agentv1.AgentClient, *agentv1.Volume, error) {
	a, err := Any(ctx, agents, h.Network)
	if err != nil {
		return nil, nil, err
	}
	v, err := Inspect(ctx, a, h.ID)
	if err != nil {
		return nil, nil, err
	}
	if v.State == agentv1.VolumeState_VOLUME_STATE_ELSEWHERE && v.HolderNode != "" {
		if a, err = agents.Agent(ctx, h.Network, v.HolderNode); err != nil {
			return nil, nil, fmt.Errorf("volume %s is held by node %q: %w", h, v.HolderNode, err)
		}
		if v, err = Inspect(ctx, a, h.ID); err != nil { // it knows better
			return nil, nil, err
		}
	}
	return a, v, nil
}
