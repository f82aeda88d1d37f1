package agents

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/api/v1alpha1"
)

// ErrRefused tells that an agent does not take a change, and will not before something else changes.
var ErrRefused = errors.New("refused")

const (
	modifyTimeout = 10 * time.Second
	maxModifiers  = 3 // agents that are tried for a volume that nobody has attached
)

// Copies says what to change of the number of a volume's copies; nil leaves it.
type Copies struct {
	Copies   *int32
	Min, Max *int32 // bounds within which it follows reads; both 0: none. Both or neither
}

// Modify has the agent that has a volume attached, or any if nobody has, change the number of its copies: ErrRefused if that can not be, else
// ErrNoAgent and the agents' errors.
func (a *Agents) Modify(ctx context.Context, n *v1alpha1.MyNetwork, volumeID, holder string, c Copies) error {
	l, err := a.open(ctx, n)
	if err != nil {
		return err
	}
	via := []string{holder}
	if holder == "" {
		via = l.nodes(nil)
		via = via[:min(len(via), maxModifiers)]
	}
	errs := []error{ErrNoAgent}
	for _, node := range via {
		err := l.call(node, func(client agentv1.AgentClient) error {
			ctx, cancel := context.WithTimeout(ctx, modifyTimeout)
			defer cancel()
			_, err := client.ModifyVolume(ctx, &agentv1.ModifyVolumeRequest{Volume: volumeID, Replicas: c.Copies, MinReplicas: c.Min, MaxReplicas: c.Max})
			if grpcstatus.Code(err) == codes.InvalidArgument {
				return fmt.Errorf("%w: %s", ErrRefused, grpcstatus.Convert(err).Message())
			}
			return err
		})
		if err == nil || errors.Is(err, ErrRefused) {
			return err
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("the copies of volume %s can not be changed yet: %w", volumeID, errors.Join(errs...))
}
