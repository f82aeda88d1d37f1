package volume

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/task"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
	"mynetwork.io/mynetwork/nodeagent/volume/siblings"
)

// Engine is an open volume. Make one with Open. Safe for concurrent use.
type Engine struct {
	Deps
	spec  Spec
	codec *codec
	owner uint64 // mark of this opening in cache keys

	noRoom func(full []block.StoreID, capacity uint32) // see Options

	checks sync.Pool // of *checks
	hedges hedges

	// journal: what is appended, in which order. Guarded by jmu.
	jmu     sync.Mutex
	log     logState
	paused  bool // nothing may be appended (rolling, recovering)
	resumed []task.Event

	// what readers and waiters see. Guarded by mu.
	mu           sync.RWMutex
	epoch        block.Epoch
	ring         *ring.Ring
	pending      map[uint64]uint64 // page → highest write sequence in the ring
	pumped       uint64            // highest write sequence that is in the journal
	pumpedSeq    uint64            // its journal sequence
	givenUp      uint64            // write sequences below it that are not committed never will be
	ringDiscards []ringDiscard
	slotSeq      map[uint64]uint64 // write sequence → journal sequence, for slots not freed
	progress     *replication.Progress
	flushes      []flushWaiter
	room         []task.Event // writers waiting for room in the ring
	lone         bool         // a front end's thread is bringing a slot into the journal, and looks for more when it has done so
	view         view
	cat          catalog
	openBlocks   map[uint64]*openBlock
	snapshots    []journal.SnapshotRoot
	rooted       [][16]byte // snapshots that the latest durable checkpoint names
	lineage      []block.VolumeID
	ancestors    []*ancestor
	pages        uint64
	full         bool
	failed       error // set once: fenced, lost or closed; every request ends with it
	failedSet    task.Event
	nextBlock    uint64
	holders      map[block.ExtentID][]block.StoreID
	checkpoint   journal.Position // latest durable one
	anchor       Fact
	replayFrom   block.ExtentID           // of the latest durable checkpoint
	moving       func(r journal.Ref) bool // index pages that the next checkpoint writes anew
	tidy         tidy                     // how cleaning goes on
	dirty        int64                    // journal bytes since the checkpoint began
	lastCheck    time.Duration
	stock        inventory                  // who holds what, as the last audit saw it
	suspects     map[block.StoreID]*suspect // stores that failed
	unheard      map[block.StoreID]uint64   // stores that take nothing under a layout of this version, as others told
	newest       uint64                     // the newest of these versions
	lastLeave    time.Duration              // when the open extent was last left because of the layout
	lastQuorum   time.Duration              // when a majority last took this epoch
	hung         atomic.Int64               // until when no device's thread waits for the own disk (readHere)
	rests        bool                       // nothing is to be expected (keepLoop)
	anchored     time.Duration              // when tendLoop last tried to move the anchor
	grip         replication.Grip           // a weak writer's right to acknowledge
	history      journal.History            // that the volume is in
	unanchored   bool                       // it began here, and the registry's anchor lies before that
	floor        map[block.ExtentID]uint64  // until a recovery in place of a weak volume is done: what was acknowledged
	floorOf      block.Epoch                // in that session
	behind       map[lagKey]lag             // replicas behind the quorum
	siblings     *siblings.Watch            // of the open extent's replicas: which are slower than the others
	pins         map[pinKey][]byte          // emitted by a checkpoint in progress
	stats        Stats

	busy   bool // a checkpoint, snapshot change or recovery is under way (see exclusive)
	queued int  // who waits for that to end
	regain bool // a recovery in place waits for that right, or has it

	reloading bool // the map is being built anew and does not show all that was acknowledged: reads wait (invariant E7)
	idle      task.Signal
	wake      task.Signal // pump
	heal      task.Signal // healer
	repair    task.Signal // repairer
	keep      task.Signal // keepLoop
	tend      task.Signal // tendLoop
	renewals  [2]*renewal // the last two, of keepLoop alone
	tasks     int
	tasksEnd  task.Event
}

// view is what a read starts from. Layers are newest first; only layers[0] changes.
type view struct {
	root   journal.MapRoot
	layers []*layer
}

// layer is an overlay; if it ends in a snapshot, the root that results from merging it is kept.
type layer struct {
	edits    *blockmap.Overlay
	snapshot *journal.Snapshot
	pages    uint64 // volume size at the snapshot
}

// flushWaiter waits for journal sequence seq, or, as long as that is 0, for that of write sequence wseq. One without a
// write sequence waits for a record of this session; lost is set if a recovery in place ends the session first.
type flushWaiter struct {
	wseq uint64
	seq  uint64
	lost *bool
	done task.Event
}

// Stats counts since the engine was opened.
type Stats struct {
	Writes, Reads, Flushes         uint64
	WrittenBytes, ReadBytes        uint64
	JournalBytes                   uint64
	Checkpoints, Rolls, Recoveries uint64
	Repaired, BadPages             uint64
	Cleaned, Freed                 uint64
	Named, Dropped                 uint64 // copies of closed extents that the directory took in, and that were given up
	Copied                         uint64 // bytes of extents that stores were told to fetch what they lack of
	ScrubPasses                    uint64
	Hedged, HedgesWon              uint64 // reads that were sent to another replica too, as the first was late; that the other answered first
	Demoted                        uint64 // replicas that were found to be slower than the others, each time
}

// Status is what a person asks about an open volume.
type Status struct {
	Volume    block.VolumeID
	Epoch     block.Epoch
	Size      int64
	Extent    block.ExtentID
	Committed uint64 // journal sequence durable at a quorum
	Appended  uint64
	Members   []MemberStatus
	Slow      []siblings.Verdict // replicas that others are preferred to, for what is written next
	Degraded  int                // extents with fewer than R good copies
	Extents   int
	Snapshots []journal.SnapshotRoot
	RingUsed  int64
	Full      bool // no extent is opened for users, and writes do not go on by what cleaning gains
	Failed    error
	History   journal.History // not zero: a recovery has missed replicas, and acknowledged data may be lost
	Stats     Stats
}

// MemberStatus is one replica of the open extent.
type MemberStatus struct {
	Store   block.StoreID
	Durable uint64
	Failed  bool
}

// Status gives the present state.
func (e *Engine) Status() Status {
	e.jmu.Lock()
	extent, appended := e.log.extent, e.log.chain.Seq
	e.jmu.Unlock()
	e.mu.RLock()
	defer e.mu.RUnlock()
	s := Status{Volume: e.spec.ID, Epoch: e.epoch, Size: int64(e.pages) * block.PageSize, Extent: extent, Appended: appended,
		Extents: e.cat.count(), Degraded: e.cat.degraded(), Snapshots: append([]journal.SnapshotRoot(nil), e.snapshots...),
		Full: e.full && (e.tidy.hopeless || !e.tidy.tight.known), Failed: e.failed, History: e.history, Stats: e.stats, Slow: e.siblings.Verdicts(e.Env.Now())}
	if e.ring != nil {
		s.RingUsed = e.ring.Used()
	}
	if e.progress != nil {
		s.Committed = e.progress.Committed()
		if xs := e.progress.Extents(); len(xs) > 0 {
			for _, m := range xs[len(xs)-1].Members {
				s.Members = append(s.Members, MemberStatus{m.Store, m.Durable, m.Failed})
			}
		}
	}
	return s
}

// Size is the volume's size in bytes.
func (e *Engine) Size() int64 {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return int64(e.pages) * block.PageSize
}

// Err is nil as long as the engine serves, else why it ended.
func (e *Engine) Err() error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.failed
}

// Done is set once the engine has ended.
func (e *Engine) Done() task.Event { return e.failedSet }

// fail ends the engine: every request, present and future, gets EIO. The first reason stays.
func (e *Engine) fail(err error) {
	e.mu.Lock()
	if e.failed != nil {
		e.mu.Unlock()
		return
	}
	e.failed = eio(fmt.Errorf("volume %s: %w", e.spec.ID, err))
	flushes, room := e.flushes, e.room
	e.flushes, e.room = nil, nil
	e.mu.Unlock()
	for _, f := range flushes {
		f.done.Set()
	}
	for _, w := range room {
		w.Set()
	}
	e.failedSet.Set()
	e.wake.Notify()
	e.heal.Notify()
	e.repair.Notify()
	e.keep.Notify()
	e.tend.Notify()
	e.idle.Notify()
	e.Logf("volume %s ended: %v", e.spec.ID, err)
}

// start runs f as one of the engine's tasks.
func (e *Engine) start(name string, f func()) {
	e.mu.Lock()
	e.tasks++
	e.mu.Unlock()
	e.Env.Go(name, func() {
		f()
		e.taskEnded() // not deferred: a panic ends the process, and must not wait for a lock that it holds
	})
}

// startLive is start unless the engine has ended.
func (e *Engine) startLive(name string, f func()) {
	e.mu.Lock()
	live := e.failed == nil
	if live {
		e.tasks++
	}
	e.mu.Unlock()
	if live {
		e.Env.Go(name, func() {
			f()
			e.taskEnded()
		})
	}
}

// taskEnded takes a task off the count that Close waits for.
func (e *Engine) taskEnded() {
	e.mu.Lock()
	e.tasks--
	last := e.tasks == 0 && e.failed != nil
	e.mu.Unlock()
	if last {
		e.tasksEnd.Set()
	}
}

// exclusive lets one at a time of: checkpoint, snapshot change, recovery, healing of the open extent, cleaning step.
func (e *Engine) exclusive() error { return e.acquire(false) }

// acquire is exclusive; a recovery in place goes first, since what the others wait for may depend on it.
func (e *Engine) acquire(regain bool) error {
	for waits := 0; ; waits = 1 {
		e.mu.Lock()
		e.queued -= waits
		if e.failed != nil {
			err := e.failed
			e.mu.Unlock()
			return err
		}
		if e.mayEnter(regain) {
			e.busy = true
			e.mu.Unlock()
			return nil
		}
		e.queued++
		e.mu.Unlock()
		e.idle.WaitFor(retryPause)
	}
}

// mayEnter tells whether the exclusive right may be taken. A map that a recovery in place has begun to build is for nobody but that: a checkpoint of it would leave
// out what was not replayed, and number its blocks as others are (invariant E9). The caller holds mu.
func (e *Engine) mayEnter(regain bool) bool {
	return !e.busy && (regain || !e.regain && !e.reloading)
}

// release is deferred by its callers. A panic passes: its process ends, and it may hold the lock.
func (e *Engine) release() {
	if r := recover(); r != nil {
		panic(r)
	}
	e.mu.Lock()
	e.busy = false
	e.mu.Unlock()
	e.idle.Notify()
}

// Close stops the engine. With flush, everything is made durable and checkpointed first; without quorum that waits.
// The device has been detached before.
func (e *Engine) Close(flush bool) error {
	var err error
	if flush {
		if err = e.Flush(); err == nil {
			err = e.Checkpoint()
		}
	}
	e.fail(ErrClosed)
	e.mu.Lock()
	none := e.tasks == 0
	e.mu.Unlock()
	if !none {
		e.tasksEnd.Wait()
	}
	return err
}
