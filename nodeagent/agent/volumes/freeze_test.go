package volumes

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/agent/events"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/export/device"
	"mynetwork.io/mynetwork/nodeagent/registry"
)

// icebox is a mounter that freezes as it is told to.
type icebox struct {
	device.Mounter
	frozen, stood    bool
	freeze, thaw     error
	froze, thawed    int
	cancelled, named bool
}

func (i *icebox) Freeze(ctx context.Context, name string) (bool, error) {
	i.froze++
	_, bounded := ctx.Deadline()
	i.named = name == block.VolumeID{1}.String()+".fuse" && bounded
	return i.frozen, i.freeze
}

func (i *icebox) Thaw(ctx context.Context, _ string) (bool, error) {
	i.thawed++
	i.cancelled = ctx.Err() != nil
	return i.stood, i.thaw
}

// TestFreeze: a file system stands still for a snapshot if it can, goes on in any case, also when the caller has given up, and an event
// says if the snapshot shows a power cut instead. A freeze is never a condition.
func TestFreeze(t *testing.T) {
	no := errors.New("no")
	for name, c := range map[string]struct {
		box  icebox
		open *attachment
		froze, thawed,
		warned int
	}{
		"stands still":            {icebox{frozen: true, stood: true}, &attachment{kind: Fuse}, 1, 1, 0},
		"has no file system":      {icebox{}, &attachment{kind: Fuse}, 1, 1, 0},
		"can not be frozen":       {icebox{freeze: no}, &attachment{kind: Fuse}, 1, 1, 1},
		"went on before":          {icebox{frozen: true}, &attachment{kind: Fuse}, 1, 1, 1},
		"is thawed by its limit":  {icebox{frozen: true, thaw: no}, &attachment{kind: Fuse}, 1, 1, 0},
		"is not attached":         {icebox{frozen: true}, nil, 0, 0, 0},
		"is attached as a socket": {icebox{frozen: true}, &attachment{kind: NBD}, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			log := slog.New(slog.DiscardHandler)
			m := &Manager{opt: Options{Mounter: &c.box, Events: events.New(10, log), Log: log}}
			ctx, giveUp := context.WithCancel(t.Context())
			thaw := m.freeze(ctx, &registry.Record{ID: block.VolumeID{1}, Name: "v"}, &slot{open: c.open})
			giveUp()
			thaw()
			past, _ := m.opt.Events.Since(0)
			if c.box.froze != c.froze || c.box.thawed != c.thawed || len(past) != c.warned || c.box.cancelled || c.froze > 0 && !c.box.named {
				t.Errorf("frozen %d times, thawed %d times, %d events, thawed by a call that was cancelled %t, by its name and bounded %t",
					c.box.froze, c.box.thawed, len(past), c.box.cancelled, c.box.named)
			}
		})
	}
}
