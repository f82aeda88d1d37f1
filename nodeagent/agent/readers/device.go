package readers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/agent/memfd"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/export/device"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/holder"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// suffix ends the name of a holder's entry: "ID.read". Package volumes does not know it, and leaves such entries alone.
const suffix = ".read"

// meta is what is kept in the holder's entry. Its memory is the key, if there is one.
type meta struct {
	Version int      `json:"version"`
	Node    string   `json:"node"`
	Key     bool     `json:"key"`
	Records [][]byte `json:"records"` // of the volume and its ancestors, as they were at the attach
}

const metaVersion = 1

// makeDevice makes r's device and has the holder keep it.
func (rs *Readers) makeDevice(ctx context.Context, r *reader) error {
	if r.kind == volumes.None {
		r.setDevice(&bare{done: make(chan struct{})})
		return nil
	}
	mt := meta{Version: metaVersion, Node: rs.opt.Node, Key: r.key != nil}
	for i := range r.line {
		b, err := registry.Encode(&r.line[i])
		if err != nil {
			return err
		}
		mt.Records = append(mt.Records, b)
	}
	raw, err := json.Marshal(mt)
	if err != nil {
		return fmt.Errorf("device's meta: %w", err)
	}
	o := device.Options{Mounter: rs.opt.Mounter, Name: r.rec.ID.String() + suffix, Meta: raw, Fuse: fuse.Options{Transport: rs.opt.FuseTransport}}
	if r.key != nil {
		o.Memory = []int{r.key.FD}
	}
	if rs.opt.Keeper != nil {
		o.Keeper = rs.opt.Keeper
	}
	d, err := device.Attach(ctx, r.gate, o)
	if err != nil {
		return fmt.Errorf("make the device of volume %q: %w", r.rec.Name, err)
	}
	r.setDevice(d)
	return nil
}

// Recover takes over what a former process of this node left to the holder. It starts one task per volume and returns; a volume whose replicas
// are not there yet opens when they are.
func (rs *Readers) Recover(ctx context.Context) error {
	if rs.opt.Keeper == nil {
		return nil
	}
	list, err := rs.opt.Keeper.List(ctx)
	if err != nil {
		return fmt.Errorf("ask the holder: %w", err)
	}
	for _, l := range list {
		id, ok := strings.CutSuffix(l.Name, suffix)
		if !ok || l.State == holder.Owned {
			continue
		}
		if err := rs.startResume(ctx, id, l.Name); err != nil {
			rs.opt.Events.Error("NotResumed", id, "the holder keeps this sealed volume, but it cannot be resumed: %v", err)
		}
	}
	return nil
}

// startResume takes one device over and has it served again.
func (rs *Readers) startResume(ctx context.Context, id, name string) error {
	v, err := block.ParseVolumeID(id)
	if err != nil {
		return err
	}
	k, err := device.Recover(ctx, rs.opt.Keeper, rs.opt.Mounter, name)
	if err != nil {
		return err
	}
	r, err := rs.keptReader(v, k)
	if err != nil {
		for _, fd := range k.Memory {
			_ = unix.Close(fd)
		}
		return err
	}
	done, err := rs.take(v)
	if err != nil {
		r.end()
		return err
	}
	go func() {
		defer done()
		if err := rs.resume(r, k, name); err != nil && rs.ctx.Err() == nil {
			rs.opt.Events.Error("NotResumed", r.rec.Name, "sealed volume: %v", err)
		}
	}()
	return nil
}

// keptReader makes a reader of what the holder had. On success it owns k's memory.
func (rs *Readers) keptReader(v block.VolumeID, k *device.Kept) (*reader, error) {
	var mt meta
	if err := json.Unmarshal(k.Meta, &mt); err != nil || mt.Version != metaVersion || len(mt.Records) == 0 {
		return nil, fmt.Errorf("it was not made by this version of the agent: %w", err)
	}
	var line []registry.Record
	for _, b := range mt.Records {
		rec, err := registry.Decode(b)
		if err != nil {
			return nil, err
		}
		line = append(line, rec)
	}
	want := 0
	if mt.Key {
		want = 1
	}
	if mt.Node != rs.opt.Node || line[0].ID != v || len(k.Memory) != want {
		return nil, fmt.Errorf("it belongs to volume %s on node %s, with %d pieces of memory", line[0].ID, mt.Node, len(k.Memory))
	}
	r, err := rs.prepare(line, volumes.Fuse, nil)
	if err == nil && mt.Key {
		r.key, err = memfd.Map(k.Memory[0])
		k.Memory = nil // it is closed also if that failed
	}
	return r, err
}

// resumePause is between attempts to resume a volume.
const resumePause = 2 * time.Second

// resume opens the view again, then serves the device.
func (rs *Readers) resume(r *reader, k *device.Kept, name string) error {
	if k.Ended {
		r.end()
		return errors.Join(fmt.Errorf("its device has ended: %s", k.Why), device.Cleanup(rs.ctx, rs.opt.Keeper, rs.opt.Mounter, name))
	}
	for {
		err := rs.openView(rs.ctx, r)
		if err == nil {
			break
		}
		if lost(err) {
			r.end()
			return errors.Join(err, device.Cleanup(rs.ctx, rs.opt.Keeper, rs.opt.Mounter, name)) // its I/O must fail, not hang
		}
		rs.opt.Log.Warn("the sealed volume does not resume yet, its reads wait", "volume", r.rec.Name, "err", err)
		select {
		case <-time.After(resumePause):
		case <-rs.ctx.Done():
			r.end()
			return nil
		}
	}
	d, err := k.Resume(r.gate, fuse.Options{})
	if err != nil {
		r.end()
		return err
	}
	r.setDevice(d)
	rs.set(r.rec.ID, r)
	rs.opt.Events.Info("Resumed", r.rec.Name, "sealed volume is read here as before")
	return nil
}

// lost reports whether a resume can never succeed.
func lost(err error) bool {
	return errors.Is(err, registry.ErrDeleted) || errors.Is(err, replica.ErrDeleted) || errors.Is(err, registry.ErrNotFound)
}
