package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/handle"
	"mynetwork.io/mynetwork/csi/mount"
	"mynetwork.io/mynetwork/csi/request"
)

// ReasonHeld is the reason of the notice that a volume is waited for.
const ReasonHeld = "VolumeHeld"

// answerTime is what is left of a call's time for its answer.
const answerTime = 2 * time.Second

// NodeStageVolume implements csi.NodeServer: the volume is attached, gets its file system if it is new, and is mounted. If
// another node holds it, the call waits.
func (d *Node) NodeStageVolume(ctx context.Context, r *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	h, use, err := d.readNodeRequest(r.VolumeId, r.VolumeCapability)
	if err != nil {
		return nil, err
	}
	if err := d.checkPath("staging target path", r.StagingTargetPath); err != nil {
		return nil, err
	}
	key, err := request.ReadKey(r.Secrets)
	if err != nil {
		return nil, err
	}
	release, err := d.flight.Take("volume/" + h.String())
	if err != nil {
		return nil, err
	}
	defer release()
	a, err := d.local(ctx, h.Network)
	if err != nil {
		return nil, err
	}
	w := wanted{handle: h, use: use, key: key, path: r.StagingTargetPath, claim: request.ReadContext(r.VolumeContext), readers: request.ForReaders(r.VolumeContext)}
	device, err := d.open(ctx, a, &w)
	if err != nil {
		return nil, err
	}
	if use.Block {
		_, err = d.cfg.Filesystems.Device(device)
	} else {
		err = d.mountStaged(ctx, device, r.StagingTargetPath, use)
	}
	if err != nil {
		return nil, errors.Join(err, d.undoAttach(ctx, a, h, device))
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

// readNodeRequest reads what stage and publish have in common. The order of the checks is that of the specification's suite.
func (d *Node) readNodeRequest(volume string, c *csi.VolumeCapability) (handle.Volume, request.Access, error) {
	if volume == "" {
		return handle.Volume{}, request.Access{}, request.Invalid("no volume id")
	}
	if c == nil {
		return handle.Volume{}, request.Access{}, request.Invalid("no volume capability")
	}
	use, err := request.ReadCapability(c)
	if err != nil {
		return handle.Volume{}, request.Access{}, err
	}
	h, err := handle.ParseVolume(volume)
	return h, use, err
}

func (d *Node) checkPath(what, path string) error {
	if path == "" {
		return request.Invalid("no %s", what)
	}
	if err := d.cfg.Mounter.CheckPath(path); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// patient bounds a wait: it ends before its caller's patience does.
func (d *Node) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	until := d.cfg.Wait
	if t, ok := ctx.Deadline(); ok {
		left := time.Until(t)
		until = min(until, left-min(answerTime, left/10))
	}
	return context.WithTimeout(ctx, until)
}

// attach attaches a volume here. While another node holds it, or too few nodes answer, it tries again until ctx ends, and says once per
// holder for whom it waits. errSealed: the volume was sealed meanwhile.
func (d *Node) attach(ctx context.Context, a agentv1.AgentClient, w *wanted, readOnly bool) (device string, err error) {
	h, of := w.handle, w.claim
	told, pause := "", d.cfg.Retry
	var last error
	for {
		resp, err := a.AttachVolume(ctx, &agentv1.AttachVolumeRequest{Volume: h.ID, EncryptionKey: w.key, ReadOnly: readOnly})
		if err == nil && resp.Device == "" {
			return "", fmt.Errorf("volume %s is attached without a device; detach it first: %w", h, request.ErrPrecondition)
		}
		if err == nil {
			return resp.Device, nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		holder, wait, sealed := waitable(ctx, a, h, err)
		if sealed && !readOnly {
			return "", errSealed
		}
		if holder != "" && holder != told {
			told = holder
			d.notify(h, of, fmt.Sprintf("volume is held by node %s; waiting until it is released there", holder))
		}
		if !wait {
			return "", fmt.Errorf("attach volume %s: %w", h, err)
		}
		select {
		case <-ctx.Done():
			if told != "" {
				return "", fmt.Errorf("volume %s: %w, by node %s: %s", h, request.ErrHeld, told, status.Convert(last).Message())
			}
			return "", fmt.Errorf("attach volume %s: %w; last: %s", h, ctx.Err(), status.Convert(last).Message())
		case <-time.After(pause):
			pause = min(2*pause, 4*d.cfg.Retry)
		}
	}
}

// waitable tells whether an attach that failed may succeed later by itself, who holds the volume, if that is known, and whether it is sealed.
func waitable(ctx context.Context, a agentv1.AgentClient, h handle.Volume, err error) (holder string, wait, sealed bool) {
	switch status.Code(err) {
	case codes.Unavailable, codes.Aborted, codes.DeadlineExceeded, codes.Canceled:
		wait = true
	case codes.FailedPrecondition:
	default:
		return "", false, false
	}
	v, err := a.InspectVolume(ctx, &agentv1.InspectVolumeRequest{Volume: h.ID})
	if err != nil {
		return "", true, false // not known: the next attempt tells
	}
	switch v.State {
	case agentv1.VolumeState_VOLUME_STATE_ELSEWHERE:
		return v.HolderNode, true, v.Sealed
	case agentv1.VolumeState_VOLUME_STATE_DETACHED: // or held by somebody who has not said so yet
		return "", true, v.Sealed
	}
	return "", wait, v.Sealed
}

func (d *Node) notify(h handle.Volume, of request.Claim, message string) {
	d.cfg.Log.Info(message, "volume", h.String(), "reason", ReasonHeld)
	if d.cfg.Notify != nil {
		d.cfg.Notify(Notice{Volume: h.String(), Claim: of, Reason: ReasonHeld, Message: message})
	}
}

// mountStaged makes the file system of device appear at path.
func (d *Node) mountStaged(ctx context.Context, device, path string, use request.Access) error {
	dev, err := d.cfg.Filesystems.Device(device)
	if err != nil {
		return err
	}
	table, err := d.cfg.Mounter.List()
	if err != nil {
		return err
	}
	if on, ok := at(table, path); ok {
		switch {
		case on.Device != dev.Number:
			return fmt.Errorf("another device is mounted on %s; unstage it first: %w", path, request.ErrPrecondition)
		case on.FS != use.FS || on.ReadOnly && !use.ReadOnly:
			return fmt.Errorf("volume is staged as %s, read-only %t: %w", on.FS, on.ReadOnly, request.ErrExists)
		}
	} else {
		if err := d.cfg.Filesystems.Prepare(ctx, device, use.FS, use.ReadOnly); err != nil {
			return err
		}
		if err := d.cfg.Mounter.Mount(device, path, use.FS, use.MountOptions()); err != nil {
			return err
		}
	}
	if use.ReadOnly {
		return nil
	}
	return d.cfg.Filesystems.Grow(ctx, device, path, use.FS)
}

// undoAttach detaches a volume that could not be staged, if nothing shows it: the kubelet does not unstage after a final
// error, and the volume would stay here for ever.
func (d *Node) undoAttach(ctx context.Context, a agentv1.AgentClient, h handle.Volume, device string) error {
	if users, err := d.users(device, ""); err != nil || len(users) > 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if _, err := a.DetachVolume(ctx, &agentv1.DetachVolumeRequest{Volume: h.ID}); err != nil {
		d.cfg.Log.Warn("a volume that could not be staged stays attached", "volume", h.String(), "err", err)
	}
	return nil
}

// at gives what is mounted on path: the last one, which covers the others.
func at(table []mount.Mounted, path string) (mount.Mounted, bool) {
	for _, m := range slices.Backward(table) {
		if m.Path == path {
			return m, true
		}
	}
	return mount.Mounted{}, false
}

// users lists the paths, but one, where a device is shown. A device that is gone has none that could be told.
func (d *Node) users(device, except string) (paths []string, err error) {
	if device == "" {
		return nil, nil
	}
	dev, err := d.cfg.Filesystems.Device(device)
	if errors.Is(err, mount.ErrDevice) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	table, err := d.cfg.Mounter.List()
	for _, m := range table {
		if m.Device == dev.Number && m.Path != except && !slices.Contains(paths, m.Path) {
			paths = append(paths, m.Path)
		}
	}
	return paths, err
}

// NodeUnstageVolume implements csi.NodeServer.
func (d *Node) NodeUnstageVolume(ctx context.Context, r *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	if r.VolumeId == "" {
		return nil, request.Invalid("no volume id")
	}
	if err := d.checkPath("staging target path", r.StagingTargetPath); err != nil {
		return nil, err
	}
	h, err := handle.ParseVolume(r.VolumeId)
	if err != nil {
		return nil, err
	}
	release, err := d.flight.Take("volume/" + h.String())
	if err != nil {
		return nil, err
	}
	defer release()
	a, err := d.local(ctx, h.Network)
	if err != nil {
		return nil, err
	}
	v, err := request.Inspect(ctx, a, h.ID)
	gone := errors.Is(err, request.ErrNotFound)
	if err != nil && !gone {
		return nil, err
	}
	users, err := d.users(v.GetDevice(), r.StagingTargetPath)
	if err != nil {
		return nil, err
	}
	if len(users) > 0 {
		return nil, fmt.Errorf("volume %s is still published at %q: %w", h, users, request.ErrPrecondition)
	}
	if err := d.cfg.Mounter.Unmount(r.StagingTargetPath, false); err != nil {
		return nil, err
	}
	if gone {
		return &csi.NodeUnstageVolumeResponse{}, nil
	}
	return &csi.NodeUnstageVolumeResponse{}, d.detach(ctx, a, h)
}

// detach detaches a volume from this node. It may not be attached here.
func (d *Node) detach(ctx context.Context, a agentv1.AgentClient, h handle.Volume) error {
	_, err := a.DetachVolume(ctx, &agentv1.DetachVolumeRequest{Volume: h.ID})
	switch status.Code(err) {
	case codes.OK, codes.NotFound:
		return nil
	case codes.FailedPrecondition:
		v, ierr := request.Inspect(ctx, a, h.ID)
		if ierr == nil && v.State == agentv1.VolumeState_VOLUME_STATE_ELSEWHERE {
			return nil
		}
	}
	return fmt.Errorf("detach volume %s: %w", h, err)
}
