package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/handle"
	"mynetwork.io/mynetwork/csi/request"
)

// errSealed tells that a volume was sealed while it was waited for.
var errSealed = errors.New("the volume is sealed")

// wanted is what a volume is staged for.
type wanted struct {
	handle  handle.Volume
	use     request.Access
	key     []byte
	path    string // of staging
	claim   request.Claim
	readers bool // it was made to be read on many nodes
}

// open attaches a volume as it is to be used. One that was made to be read on many nodes is sealed first, by whichever of them comes first;
// the others wait for it as for any holder.
func (d *Node) open(ctx context.Context, a agentv1.AgentClient, w *wanted) (device string, err error) {
	ctx, cancel := d.patient(ctx)
	defer cancel()
	if w.use.ReadOnly {
		v, err := request.Inspect(ctx, a, w.handle.ID)
		switch {
		case err != nil:
			return "", err
		case v.Sealed:
			return d.attach(ctx, a, w, true)
		case w.use.Many && !w.readers:
			return "", fmt.Errorf("volume %s was made to be written: many nodes can read a clone or a snapshot of it, by a claim with ReadOnlyMany and a dataSource: %w",
				w.handle, request.ErrPrecondition)
		case w.use.Many:
			if err := d.seal(ctx, a, w); err != nil {
				return "", fmt.Errorf("make volume %s one that many nodes read: %w", w.handle, err)
			}
			return d.attach(ctx, a, w, true)
		}
	}
	device, err = d.attach(ctx, a, w, false)
	if errors.Is(err, errSealed) && w.use.ReadOnly {
		return d.attach(ctx, a, w, true)
	}
	if errors.Is(err, errSealed) {
		err = fmt.Errorf("volume %s is sealed: it is read-only for ever; make a claim with it as dataSource, to write: %w", w.handle, request.ErrPrecondition)
	}
	return device, err
}

// seal brings a volume to rest and ends writing to it. Its file system's journal is replayed once, by mounting it, so that no reader has
// to; then the agent seals it before anybody else can take it.
func (d *Node) seal(ctx context.Context, a agentv1.AgentClient, w *wanted) error {
	device, err := d.attach(ctx, a, w, false)
	if errors.Is(err, errSealed) {
		return nil
	}
	if err != nil {
		return err
	}
	if !w.use.Block {
		if err := d.replay(ctx, w, device); err != nil {
			return errors.Join(err, d.undoAttach(ctx, a, w.handle, device))
		}
	}
	for {
		_, err = a.SealVolume(ctx, &agentv1.SealVolumeRequest{Volume: w.handle.ID, EncryptionKey: w.key})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(d.cfg.Retry):
		}
		if v, ierr := request.Inspect(ctx, a, w.handle.ID); ierr == nil && v.Sealed {
			return nil
		}
	}
}

// replay mounts the file system for writing and takes the mount away again. It grows to its device meanwhile: later it cannot.
func (d *Node) replay(ctx context.Context, w *wanted, device string) error {
	use := w.use
	use.ReadOnly = false
	err := d.mountStaged(ctx, device, w.path, use)
	return errors.Join(err, d.cfg.Mounter.Unmount(w.path, false))
}
