package volume

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/hedge"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
	"mynetwork.io/mynetwork/nodeagent/volume/siblings"
)

// Options of Open.
type Options struct {
	// Ring is the shared memory of the write ring. All zeros: a new ring is made in it. With content, the engine resumes
	// the epoch that it was filled under, and brings what it holds to the replicas; ErrFenced if a later writer took over.
	Ring []byte
	// Force takes the volume although its present writer's lease is fresh. It never overrides a promise.
	Force bool
	// Caretaker opens the volume to look after it while nobody uses it: the epoch says so (block.Epoch.Caretaker), and protects no lease
	// from who wants the volume. It is taken only if the fact has the revision Seen still, else ErrConflict.
	Caretaker bool
	Seen      string
	// Anchor is where to look for the journal if the registry cannot be asked (resume only).
	Anchor journal.Position
	// NoRoom is told, while Open or the engine waits for it, that no extent finds room: which stores are full, up to the cleaners' mark, and
	// what capacity they were asked for. It may be told again, from any task, and is not to wait. nil: nobody.
	NoRoom func(full []block.StoreID, capacity uint32)
}

// Open takes the volume over and returns its engine, ready for requests. It fails with ErrHeld while another writer's
// lease is fresh, ErrFenced when a later writer won meanwhile, and otherwise tries until a majority answers.
func Open(d Deps, spec Spec, o Options) (*Engine, error) {
	e, err := newEngine(d, spec)
	if err != nil {
		return nil, err
	}
	e.noRoom = o.NoRoom
	resume := len(o.Ring) > 4 && string(o.Ring[:4]) == "MNRG"
	if resume {
		err = e.openResume(o)
	} else {
		err = e.openNew(o)
	}
	if err != nil {
		e.fail(err)
		return nil, fmt.Errorf("open volume %s: %w", spec.ID, err)
	}
	e.resume()
	e.start("pump", e.pumpLoop)
	e.start("heal", e.healLoop)
	e.start("repair", e.repairLoop)
	e.start("keep", e.keepLoop)
	e.start("tend", e.tendLoop)
	e.start("scrub", e.scrubLoop)
	e.wake.Notify()
	if e.young() { // by now there is a healer: replicas may be lost meanwhile
		if err := e.Checkpoint(); err != nil {
			_ = e.Close(false) // the first reason stays
			return nil, fmt.Errorf("open clone %s: first checkpoint: %w", spec.ID, err)
		}
	}
	return e, nil
}

// young tells whether this is a clone without a checkpoint of its own: until it has one, what it starts from depends on
// the parent's writer keeping the snapshot.
func (e *Engine) young() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return !e.spec.Parent.IsZero() && e.checkpoint.Extent.IsZero()
}

func newEngine(d Deps, spec Spec) (*Engine, error) {
	if spec.Replicas < 1 || spec.Replicas > journal.MaxMembers {
		return nil, fmt.Errorf("volume %s: %d replicas, 1 to %d are possible: %w", spec.ID, spec.Replicas, journal.MaxMembers, ErrRange)
	}
	if spec.Extent == 0 {
		spec.Extent = DefaultExtent
	}
	if spec.Extent < MinExtent {
		return nil, fmt.Errorf("volume %s: extents of %d bytes, at least %d: %w", spec.ID, spec.Extent, MinExtent, ErrRange)
	}
	c, err := newCodec(spec.Key, spec.Compression)
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", spec.ID, err)
	}
	e := &Engine{Deps: d, spec: spec, codec: c, owner: d.Env.Rand(), paused: true,
		pending: make(map[uint64]uint64), slotSeq: make(map[uint64]uint64), openBlocks: make(map[uint64]*openBlock),
		holders: make(map[block.ExtentID][]block.StoreID), suspects: make(map[block.StoreID]*suspect), unheard: make(map[block.StoreID]uint64), stock: newInventory(), pins: make(map[pinKey][]byte), behind: make(map[lagKey]lag), siblings: siblings.New(siblings.Default()),
		cat: newCatalog(), pages: spec.Pages, nextBlock: 1,
		idle: d.Env.NewSignal(), wake: d.Env.NewSignal(), heal: d.Env.NewSignal(), repair: d.Env.NewSignal(), keep: d.Env.NewSignal(), tend: d.Env.NewSignal(), failedSet: d.Env.NewEvent(), tasksEnd: d.Env.NewEvent()}
	e.hedges.st = hedge.New(hedge.Default())
	e.checks.New = func() any { return new(checks) }
	e.view = view{layers: []*layer{e.newLayer()}}
	now := d.Env.Now()
	e.lastCheck, e.lastQuorum, e.anchored, e.tidy.began = now, now, now, now
	return e, nil
}

// openNew takes the next epoch from the registry.
func (e *Engine) openNew(o Options) error {
	f, err := e.Registry.Load(e.spec.ID)
	if err != nil {
		return err
	}
	if o.Caretaker && f.Revision != o.Seen {
		return fmt.Errorf("somebody has taken, or had, the volume meanwhile: %w", ErrConflict)
	}
	promised, err := e.checkLease(f.Epoch, o)
	if err != nil {
		return err
	}
	f.Epoch.Number = max(f.Epoch.Number, promised)
	for {
		f.Epoch = block.Epoch{Number: f.Epoch.Number + 1, Token: e.Env.Rand() | 1}
		if o.Caretaker {
			f.Epoch.Token = f.Epoch.Token&^1 | 2
		}
		rev, err := e.Registry.Swap(e.spec.ID, f)
		if err != nil {
			return err
		}
		f.Revision = rev
		e.mu.Lock()
		e.epoch, e.anchor = f.Epoch, f
		e.mu.Unlock()
		if f.Anchor.Extent.IsZero() && promised > 0 {
			if f.Anchor, err = e.forgotten(); err != nil {
				return err
			}
		}
		err = e.takeOver(f.Anchor)
		var fenced *replica.FencedError
		if !errors.As(err, &fenced) || fenced.Promised.Number <= f.Epoch.Number {
			if err == nil {
				return e.begin(o)
			}
			return err
		}
		// Replicas have promised a number that the registry does not know (it was restored from a copy): go above it,
		// unless the writer that holds it is alive.
		if promised, err = e.checkLease(fenced.Promised, o); err != nil {
			return err
		}
		if f, err = e.Registry.Load(e.spec.ID); err != nil {
			return err
		}
		if f.Epoch.Number > e.epochNow().Number {
			return fmt.Errorf("the registry is at %s: %w", f.Epoch, replication.ErrFenced)
		}
		f.Epoch.Number = max(fenced.Promised.Number, promised)
	}
}

// forcedPatience is how long a forced opening waits to hear which numbers are promised: stores that answer at all do so at once.
const forcedPatience = 300 * time.Millisecond

// checkLease refuses, unless forced, while a store has heard, within a lease, of the writer that holds the volume. A caretaker is no writer
// but for other caretakers. promised is the highest number that a store which answers has promised: the registry may have been restored from
// a copy that does not know it, and a number that two writers have, each on some stores, would serve neither of them whole.
func (e *Engine) checkLease(held block.Epoch, o Options) (promised uint64, err error) {
	var mu sync.Mutex // answers may come after this returns
	var highest uint64
	var refusal error
	heard := e.Env.NewEvent()
	e.Env.Go("leases", func() {
		e.each(e.Placer.Candidates(block.ExtentID{Volume: e.spec.ID}.Key()), func(s block.StoreID) {
			l, lerr := e.Client.Lease(s, e.spec.ID)
			mu.Lock()
			defer mu.Unlock()
			if lerr != nil {
				return
			}
			highest = max(highest, l.Promised.Number)
			if !o.Force && held.Number > 0 && l.Age < Lease && l.Promised.Number >= held.Number && (o.Caretaker || !l.Promised.Caretaker()) {
				refusal = fmt.Errorf("epoch %s was heard of %v ago; detach it there first, or force: %w", l.Promised, l.Age, ErrHeld)
			}
		}, nil)
		heard.Set()
	})
	if o.Force || held.Number == 0 {
		heard.WaitFor(forcedPatience)
	} else {
		heard.Wait()
	}
	mu.Lock()
	defer mu.Unlock()
	return highest, refusal
}

// takeOver brings the journal under this epoch: from the anchor on, or from nothing for a volume never opened.
func (e *Engine) takeOver(anchor journal.Position) error {
	if !anchor.Extent.IsZero() {
		return e.recoverAtOpen(anchor)
	}
	e.jmu.Lock()
	e.log = logState{}
	e.jmu.Unlock()
	e.mu.Lock()
	e.progress = replication.NewProgress(0)
	e.mu.Unlock()
	if e.spec.Parent.IsZero() {
		return e.openNext()
	}
	if err := e.becomeClone(); err != nil {
		return err
	}
	return e.openNext()
}

// begin makes the ring, and the anchor if there was none; after it, writes may be acknowledged.
func (e *Engine) begin(o Options) error {
	e.jmu.Lock()
	seq := e.log.chain.Seq
	e.jmu.Unlock()
	if err := e.committed(seq); err != nil {
		return err
	}
	e.moveAnchor()
	e.mu.RLock()
	set := !e.anchor.Anchor.Extent.IsZero()
	e.mu.RUnlock()
	if !set {
		return errors.New("the registry did not take the anchor; nothing was written")
	}
	r, err := ring.Format(o.Ring, e.spec.ID, e.epochNow())
	if err != nil {
		return err
	}
	e.jmu.Lock()
	defer e.jmu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	r.StartAt(e.pumped + 1)
	r.SetMinted(e.log.nextN)
	e.ring, e.givenUp = r, 0
	return nil
}

// openResume goes on under the epoch of the ring, one session later, and fences the former process of this agent.
func (e *Engine) openResume(o Options) error {
	r, err := ring.Open(o.Ring, e.spec.ID)
	if err != nil {
		return err
	}
	anchor := o.Anchor
	f, err := e.Registry.Load(e.spec.ID)
	switch {
	case err == nil && (f.Epoch.Number != r.Epoch().Number || f.Epoch.Token != r.Epoch().Token):
		return fmt.Errorf("the ring is of epoch %s, the registry is at %s: %w", r.Epoch(), f.Epoch, replication.ErrFenced)
	case err == nil:
		anchor = f.Anchor
	case anchor.Extent.IsZero():
		return fmt.Errorf("registry: %w", err)
	default: // it is read again when the anchor moves
		f = Fact{Epoch: r.Epoch(), Anchor: anchor}
		f.Epoch.Session = 0
	}
	epoch := r.Epoch()
	epoch.Session++
	r.SetEpoch(epoch)
	e.jmu.Lock()
	e.log.nextN = r.Minted()
	e.jmu.Unlock()
	e.mu.Lock()
	e.epoch, e.anchor, e.ring, e.givenUp = epoch, f, r, r.Next()
	e.mu.Unlock()
	if err := e.recoverAtOpen(anchor); err != nil {
		return err
	}
	e.refillPending()
	return nil
}

// refillPending makes what the ring holds readable, and counts what the journal has of it as pumped.
func (e *Engine) refillPending() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reloading = false
	clear(e.pending)
	e.ringDiscards = nil
	for w := e.ring.Low(); w < e.ring.Next(); w++ {
		s, ok := e.ring.Get(w)
		switch {
		case !ok || w <= e.pumped: // the journal has it, and may have gone back behind it since
		case s.Op == ring.OpWrite:
			e.addPending(w, s.Page, s.Pages)
		default:
			e.pendingDiscard(w, s.Page, s.Pages)
		}
	}
	e.pumped = max(e.pumped, e.ring.Low()-1)
	e.ring.StartAt(e.pumped + 1) // whatever the memory of an empty ring says: what the journal has is never handed out again
	e.pumpedSeq = e.progress.Committed()
	keep := e.flushes[:0:0]
	for _, f := range e.flushes {
		switch {
		case f.lost != nil:
			keep = append(keep, f)
		case f.wseq <= e.pumped:
			f.done.Set() // recovery has made all of it durable
		default:
			f.seq = 0 // its record comes again, under another number
			keep = append(keep, f)
		}
	}
	e.flushes = keep
	e.freeSlots()
}

// recoverInPlace takes the volume over from itself, one session later: too few replicas of the open extent are left to
// close it. The exclusive right is the caller's.
func (e *Engine) recoverInPlace() error {
	if err := e.pause(); err != nil {
		return err
	}
	defer e.resume()
	e.mu.Lock()
	if e.weak() && e.floor == nil {
		e.floor, e.floorOf = e.acknowledged(), e.epoch
	}
	e.epoch.Session++
	e.reloading = true
	for i := range e.flushes {
		if f := &e.flushes[i]; f.wseq != 0 {
			f.seq = 0 // of the former session: see refillPending
		}
	}
	e.ring.SetEpoch(e.epoch)
	oldest := e.progress.Extents()[0].ID
	anchor := journal.Position{Extent: oldest, Members: e.holders[oldest]}
	e.mu.Unlock()
	if err := e.recover(anchor); err != nil {
		return err
	}
	e.floor = nil
	e.refillPending()
	return nil
}

// becomeClone starts the volume from its parent's snapshot.
func (e *Engine) becomeClone() error {
	e.mu.Lock()
	e.lineage = []block.VolumeID{e.spec.Parent}
	e.ancestors = nil
	e.mu.Unlock()
	a, s, err := e.parent()
	if err != nil {
		return err
	}
	root, err := blockmap.Clone(s.Root)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lineage = append([]block.VolumeID{e.spec.Parent}, a.state.Lineage...)
	e.view.root = root
	e.pages = max(e.spec.Pages, s.Pages)
	return nil
}

// parent finds the snapshot that the volume starts from. It waits a while for replicas of its parent.
func (e *Engine) parent() (a *ancestor, s journal.SnapshotRoot, err error) {
	for deadline := e.Env.Now() + readPatience; ; e.Env.Sleep(retryPause) {
		if a, err = e.loadAncestor(e.spec.Parent); err == nil {
			s, err = a.snapshot(e.spec.Snapshot)
		}
		if err == nil {
			return a, s, nil
		}
		if ended := e.Err(); ended != nil {
			return nil, s, ended
		}
		if !transient(err) || e.Env.Now() > deadline {
			return nil, s, fmt.Errorf("parent %s: %w", e.spec.Parent, err)
		}
	}
}
