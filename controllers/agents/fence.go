package agents

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/api/v1alpha1"
)

// fenceTimeout is for one agent: it asks a majority of replicas, of which some may be dead.
const fenceTimeout = 5 * time.Second

// maxFencers is how many agents are tried.
const maxFencers = 3

// Fence has an agent take a volume's next epoch from a dead node. dead are nodes not to ask. It gives the epoch that the volume has
// then; ErrNoAgent and the agents' errors if the node may still write.
func (a *Agents) Fence(ctx context.Context, n *v1alpha1.MyNetwork, volumeID, node string, epoch int64, dead []string) (int64, error) {
	l, err := a.open(ctx, n)
	if err != nil {
		return 0, err
	}
	errs := []error{ErrNoAgent}
	tried := 0
	for _, via := range l.nodes(nil) {
		if slices.Contains(dead, via) || via == node {
			continue
		}
		if tried++; tried > maxFencers {
			break
		}
		var got *agentv1.FenceVolumeResponse
		err := l.call(via, func(c agentv1.AgentClient) (err error) {
			ctx, cancel := context.WithTimeout(ctx, fenceTimeout)
			defer cancel()
			got, err = c.FenceVolume(ctx, &agentv1.FenceVolumeRequest{Volume: volumeID, Node: node, EpochNumber: uint64(epoch)})
			return err
		})
		switch {
		case err != nil:
			errs = append(errs, err)
		case !got.Fenced:
			return 0, fmt.Errorf("volume %s: node %s is not fenced: the volume is at epoch %d now, not %d", volumeID, node, got.EpochNumber, epoch)
		default:
			return int64(got.EpochNumber), nil
		}
	}
	return 0, fmt.Errorf("volume %s can not be fenced: %w", volumeID, errors.Join(errs...))
}
