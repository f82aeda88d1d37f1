package agents

import (
	"context"
	"fmt"
	"strings"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/handle"
	"mynetwork.io/mynetwork/csi/request"
)

// Control holds and changes volumes by the control protocol. It is safe for concurrent use.
type Control struct{ Agents request.Agents }

var (
	_ request.Barrier  = Control{}
	_ request.Modifier = Control{}
)

// holdTime is how long a volume is held at most, in milliseconds: a group takes its snapshots within it.
const holdTime = 10_000

// rests begins the token of a volume that nobody has open: it stands still as long as its epoch stays. The epoch ends it.
const rests = "detached/"

// Hold implements request.Barrier.
func (c Control) Hold(ctx context.Context, h handle.Volume, _ []byte) (token string, err error) {
	a, v, err := request.Find(ctx, c.Agents, h)
	if err != nil {
		return "", err
	}
	if v.State == agentv1.VolumeState_VOLUME_STATE_DETACHED {
		return rests + v.Epoch, nil
	}
	r, err := a.HoldVolume(ctx, &agentv1.HoldVolumeRequest{Volume: h.ID, TimeoutMs: holdTime})
	if err != nil {
		return "", fmt.Errorf("hold volume %s: %w", h, err)
	}
	return r.Token, nil
}

// Snapshot implements request.Barrier.
func (c Control) Snapshot(ctx context.Context, h handle.Volume, token, name string, key []byte) (*agentv1.Snapshot, error) {
	a, v, err := request.Find(ctx, c.Agents, h)
	if err != nil {
		return nil, err
	}
	epoch, resting := strings.CutPrefix(token, rests)
	if resting {
		if v.State != agentv1.VolumeState_VOLUME_STATE_DETACHED || v.Epoch != epoch {
			return nil, fmt.Errorf("volume %s was taken by a writer meanwhile: %w", h, request.ErrPrecondition)
		}
		token = ""
	}
	return a.CreateSnapshot(ctx, &agentv1.CreateSnapshotRequest{Volume: h.ID, Name: name, EncryptionKey: key, Hold: token})
}

// Release implements request.Barrier.
func (c Control) Release(ctx context.Context, h handle.Volume, token string) error {
	if strings.HasPrefix(token, rests) {
		return nil
	}
	a, _, err := request.Find(ctx, c.Agents, h)
	if err != nil {
		return err
	}
	_, err = a.ReleaseVolume(ctx, &agentv1.ReleaseVolumeRequest{Volume: h.ID, Token: token})
	return err
}

// Modify implements request.Modifier.
func (c Control) Modify(ctx context.Context, h handle.Volume, to request.Change) error {
	a, _, err := request.Find(ctx, c.Agents, h)
	if err != nil {
		return err
	}
	_, err = a.ModifyVolume(ctx, &agentv1.ModifyVolumeRequest{Volume: h.ID, Replicas: to.Copies, MinReplicas: to.Least, MaxReplicas: to.Most, Weak: to.Weak, Compression: to.Compression,
		MaxIops: to.IOPS, MaxBytesPerSecond: to.Bandwidth})
	return err
}
