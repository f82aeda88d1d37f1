package scrub

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent/stores"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/store"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// disk is the scrub of one store.
type disk struct {
	s     *Scrubber
	store *stores.Store

	mu  sync.Mutex
	mem memory

	// what follows belongs to run
	others  watch
	repairs uint64                       // of others, that were counted
	failed  map[block.ExtentID]time.Time // could not be mended, and when that was tried
	saved   time.Time
	volume  block.VolumeID   // whose extents these are
	queue   []block.ExtentID // of the volume, that come next
	left    int64            // bytes of the pass that are not read yet, about
}

// saveEvery is how often it is remembered how far a pass is.
const saveEvery = time.Minute

func (d *disk) now() time.Time { return d.s.opt.Now() }

// run scrubs until ctx ends, or the store has failed.
func (d *disk) run(ctx context.Context) {
	d.repairs = d.store.Load().Repairs
	d.judge(d.now())
	for d.store.Quarantined() == nil {
		if d.due() {
			d.pass(ctx)
		}
		d.tellRepairs()
		d.again(ctx)
		if pause(ctx, look) != nil {
			break
		}
	}
	d.save()
}

// due tells whether a pass runs, or is to begin.
func (d *disk) due() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mem.Running || d.mem.Started == 0 || d.now().Sub(time.Unix(d.mem.Started, 0)) >= Window(d.s.opt.Period) || d.s.old(d.mem.Started)
}

func pause(ctx context.Context, t time.Duration) error {
	task.Pause(ctx, t)
	return ctx.Err()
}

// pass goes on with the pass that runs, or begins one, until it has read everything, ctx ends, or a newer one is asked for.
func (d *disk) pass(ctx context.Context) {
	d.mu.Lock()
	if asked := d.s.old(d.mem.Started); !d.mem.Running || asked {
		d.mem.Running, d.mem.Asked, d.mem.Started, d.mem.Done, d.mem.At = true, asked, d.now().Unix(), 0, ""
	}
	started := d.mem.Started
	at := d.mem.cursor()
	d.left = -d.mem.Done
	d.mu.Unlock()
	for _, v := range d.store.Volumes() {
		d.left += v.Log + v.Data
	}
	d.volume, d.queue = block.VolumeID{}, nil
	for {
		x, ok := d.next(at)
		if !ok {
			break
		}
		if d.s.old(started) {
			return // begins anew
		}
		if d.extent(ctx, x) != nil {
			return // goes on here
		}
		at = x
		d.mu.Lock()
		d.mem.setCursor(x)
		d.mu.Unlock()
		d.tellRepairs()
		if d.now().Sub(d.saved) >= saveEvery {
			d.save()
		}
	}
	if d.store.Store.Quarantined() != nil {
		return
	}
	d.mu.Lock()
	d.mem.Running, d.mem.Asked, d.mem.Finished, d.mem.At = false, false, d.now().Unix(), ""
	d.mu.Unlock()
	d.save()
}

// next finds the extent that follows another in the order of ids.
func (d *disk) next(after block.ExtentID) (x block.ExtentID, ok bool) {
	if len(d.queue) == 0 {
		for _, v := range d.store.Volumes() {
			c := bytes.Compare(v.Volume[:], after.Volume[:])
			if c < 0 || c == 0 && d.volume == v.Volume || v.Extents == 0 {
				continue
			}
			d.volume = v.Volume
			for _, x := range d.store.Extents(v.Volume) {
				if c > 0 || before(after, x) {
					d.queue = append(d.queue, x)
				}
			}
			if len(d.queue) > 0 {
				break
			}
		}
	}
	if len(d.queue) == 0 {
		return x, false
	}
	x, d.queue = d.queue[0], d.queue[1:]
	return x, true
}

func before(a, b block.ExtentID) bool {
	var p, q [block.ExtentIDSize]byte
	a.Put(p[:])
	b.Put(q[:])
	switch {
	case a.Volume != b.Volume:
		return bytes.Compare(a.Volume[:], b.Volume[:]) < 0
	case a.Epoch != b.Epoch:
		return a.Epoch < b.Epoch
	}
	return a.N < b.N
}

// pace waits after bytes were read, so that the pass keeps its rate, and as long as others need the disk.
func (d *disk) pace(ctx context.Context, n int) error {
	d.mu.Lock()
	d.mem.Done += int64(n)
	started, asked := time.Unix(d.mem.Started, 0), d.mem.Asked
	d.mu.Unlock()
	d.left -= int64(n)
	rest := Window(d.s.opt.Period) - d.now().Sub(started)
	if asked {
		return pause(ctx, time.Duration(float64(n)/Cap*float64(time.Second)))
	}
	if err := pause(ctx, time.Duration(float64(n)/float64(Rate(d.left, rest))*float64(time.Second))); err != nil {
		return err
	}
	for {
		l := d.store.Load()
		if !d.others.see(d.now(), l.Requests, l.Rebuilds) || d.now().Sub(started) >= Window(d.s.opt.Period) {
			return ctx.Err()
		}
		if err := pause(ctx, look); err != nil {
			return err
		}
	}
}

// extent reads one extent and mends what is damaged. An error is only that of ctx.
func (d *disk) extent(ctx context.Context, x block.ExtentID) error {
	var found []store.Finding
	debt := 0
	err := d.store.ScrubPaced(x, func(n int) error {
		if debt += n; debt < step {
			return ctx.Err()
		}
		n, debt = debt, 0
		return d.pace(ctx, n)
	}, func(f store.Finding) { found = append(found, f) })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && !errors.Is(err, store.ErrNotHeld) {
		d.s.opt.Log.Warn("an extent could not be read to its end", "store", d.store.ID, "extent", x, "err", err)
	}
	if len(found) > 0 {
		_, known := d.failed[x]
		d.damage(ctx, x, found, !known)
	}
	return d.pace(ctx, debt)
}

// step is how many bytes are read at once between two waits.
const step = 256 << 10

// damage mends what was found, and counts it against the disk unless that was done before.
func (d *disk) damage(ctx context.Context, x block.ExtentID, found []store.Finding, fresh bool) {
	areas := areas(found)
	left, err := d.mend(ctx, x, found)
	if ctx.Err() != nil {
		return // it is found again
	}
	fixed := max(areas-left, 0)
	if left > 0 {
		d.failed[x] = d.now()
		d.s.opt.Events.Error("NotRepaired", "", "store %s in %s: %d of %d bad areas of extent %s could not be repaired, which is tried again: %v",
			d.store.ID, d.store.Path, left, areas, x, err)
	} else {
		delete(d.failed, x)
	}
	if fixed > 0 {
		d.s.opt.Events.Warn("Repaired", "", "store %s in %s: %d bad areas of extent %s were repaired from other nodes", d.store.ID, d.store.Path, fixed, x)
	}
	if !fresh {
		areas = 0
	}
	d.mu.Lock()
	d.mem.add(d.now(), areas, fixed)
	d.mu.Unlock()
	d.judge(d.now())
	d.save()
}

// again looks at extents whose damage could not be mended.
func (d *disk) again(ctx context.Context) {
	for x, at := range d.failed {
		if d.now().Sub(at) < RetryEvery {
			continue
		}
		var found []store.Finding
		err := d.store.ScrubPaced(x, func(int) error { return ctx.Err() }, func(f store.Finding) { found = append(found, f) })
		switch {
		case len(found) > 0 && ctx.Err() == nil:
			d.damage(ctx, x, found, false)
		case err == nil || errors.Is(err, store.ErrNotHeld):
			delete(d.failed, x)
		}
	}
}

// tellRepairs counts what others have found and mended here.
func (d *disk) tellRepairs() {
	n := d.store.Load().Repairs
	if n == d.repairs {
		return
	}
	d.mu.Lock()
	d.mem.add(d.now(), int(n-d.repairs), int(n-d.repairs))
	d.mu.Unlock()
	d.repairs = n
	d.judge(d.now())
	d.save()
}

// save remembers how far the pass is.
func (d *disk) save() {
	d.mu.Lock()
	b := d.mem.encode()
	d.mu.Unlock()
	d.saved = d.now()
	_, err := d.store.SetMeta(MetaKey, b)
	if err == nil {
		_, err = d.store.Commit()
	}
	if err != nil && !errors.Is(err, store.ErrClosed) && !errors.Is(err, store.ErrQuarantined) {
		d.s.opt.Log.Warn("how far the scrub is could not be remembered", "store", d.store.ID, "err", err)
	}
}
