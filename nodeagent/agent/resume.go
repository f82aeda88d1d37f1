package agent

import (
	"context"
	"errors"
	"time"

	"mynetwork.io/mynetwork/nodeagent/export/device"
	"mynetwork.io/mynetwork/nodeagent/export/mounter"
)

// leftPatience is how long a mounter is waited for that is asked what is left: I/O of devices that go on waits behind it.
const leftPatience = time.Second

// resume goes on with what a former process left to the holder, once there is one, and gives each further holder what it has to have. What
// is left of devices that no holder keeps is ended.
func (a *Agent) resume(ctx context.Context, g *group, fail context.CancelCauseFunc) {
	if a.holder == nil {
		return
	}
	list, cancel := context.WithTimeout(ctx, leftPatience)
	left, err := a.mounter.List(list) // nobody attaches yet
	cancel()
	if err != nil && ctx.Err() == nil {
		a.cfg.Log.Warn("what former processes have left of devices is not known, and stays until the agent starts anew", "err", err)
	}
	recover := func(ctx context.Context) {
		a.endLeft(ctx, left)
		if err := errors.Join(a.volumes.Recover(ctx), a.readers.Recover(ctx)); err != nil && ctx.Err() == nil {
			fail(err)
		}
	}
	if a.holder.Up() {
		recover(ctx)
	}
	g.run(func(ctx context.Context) error { a.holder.Run(ctx, recover); return nil })
}

// endLeft ends the devices that were left by an agent and a holder that died together: nobody can serve them any more.
func (a *Agent) endLeft(ctx context.Context, left []mounter.Found) {
	list, err := a.holder.List(ctx)
	var kept, ended []string
	for _, l := range list {
		kept = append(kept, l.Name)
	}
	if err == nil {
		ended, err = device.Sweep(ctx, a.mounter, left, kept)
		err = errors.Join(err, device.SweepUblk(ctx, a.mounter, kept, false))
	}
	for _, name := range ended {
		a.events.Info("DeviceEnded", name, "its agent and its holder died together: what was left of the device is gone, attach the volume anew")
	}
	if err != nil && ctx.Err() == nil {
		a.events.Error("DeviceLeft", "", "what an agent and a holder left that died together is not all gone: unmount what is mounted from it, and restart the agent: %v", err)
	}
}
