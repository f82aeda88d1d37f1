package space

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent/events"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/clearing"
	"mynetwork.io/mynetwork/nodeagent/task"
)

const (
	// Every is how often stores are looked at.
	Every = 5 * time.Second
	// GiveUpPause is the time between two copies that are given up.
	GiveUpPause = 15 * time.Second
)

// Store is a store of this node at one moment.
type Store struct {
	ID          block.StoreID
	Path        string
	Total, Used int64  // bytes; Total 0: not known
	Freed       uint64 // bytes that were freed since it was opened
	Clear       func(clearing.Stage)
}

// Options are what a Keeper works with. All are required but Rules, Every and Pause.
type Options struct {
	Rules clearing.Rules // zero: clearing.Default
	Every time.Duration  // 0: Every
	Pause time.Duration  // 0: GiveUpPause
	// Vain is how long volumes are left alone after a pass over all of them that gained nothing: each begins with a checkpoint, and reads the volume's
	// table of blocks. 0: half of what a stage lasts without anything freed.
	Vain time.Duration
	// Own lists the stores of this node that serve.
	Own func() []Store
	// Stages gives the stage of each store of the network, as last heard, this node's too.
	Stages func() map[block.StoreID]clearing.Stage
	// Deletions brings deletions through; waits tells that some are not, although all nodes they wait for answer.
	Deletions func(ctx context.Context) (waits bool)
	// Pending tells whether there may be deletions that have not reached every store that answers, without asking anybody.
	Pending func() bool
	// Compact makes one pass over each volume that is open here and has copies on one of the stores, and gives the bytes that one copy of each gained.
	Compact func(ctx context.Context, on []block.StoreID) (gained int64)
	// GiveUp has one volume want one copy fewer; false: there is none.
	GiveUp func(on []block.StoreID) (volume string, ok bool)
	// Changed is told that a store has come into another stage.
	Changed func()
	Events  *events.Log
	Log     *slog.Logger
}

// Keeper keeps room on stores. The zero value is not usable: see New.
type Keeper struct {
	opt   Options
	start time.Time

	// what follows belongs to step
	states map[block.StoreID]*clearing.State
	swept  bool // the last look at deletions has found nothing

	mu    sync.Mutex
	begun map[Begin]uint64
}

// Begin is a stage that a store has begun.
type Begin struct {
	Store block.StoreID
	Path  string
	Stage clearing.Stage
}

// New makes a keeper.
func New(o Options) *Keeper {
	if o.Rules == (clearing.Rules{}) {
		o.Rules = clearing.Default()
	}
	if o.Every == 0 {
		o.Every = Every
	}
	if o.Pause == 0 {
		o.Pause = GiveUpPause
	}
	if o.Vain == 0 {
		o.Vain = time.Duration(o.Rules.Patience) * time.Second / 2
	}
	return &Keeper{opt: o, start: time.Now(), states: map[block.StoreID]*clearing.State{}, begun: map[Begin]uint64{}}
}

// Run keeps room until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { k.help(ctx) })
	for task.Pause(ctx, k.opt.Every) {
		k.Step(ctx, time.Since(k.start))
	}
	return nil
}

// Step looks at the stores of this node once, at a moment of a clock that does not jump, and does what the first stage asks for.
func (k *Keeper) Step(ctx context.Context, at time.Duration) {
	deleting := false
	there := map[block.StoreID]bool{}
	for _, s := range k.opt.Own() {
		there[s.ID] = true
		st := k.states[s.ID]
		if st == nil {
			st = &clearing.State{}
			k.states[s.ID] = st
		}
		before := st.Stage()
		stage := st.Step(k.opt.Rules, clearing.Seen{At: int64(at / time.Second), Total: s.Total, Used: s.Used, Freed: s.Freed,
			Deletions: before != clearing.Idle && before != clearing.Deleted && k.opt.Pending(), Nothing: before == clearing.Deleted && k.swept})
		s.Clear(stage)
		if stage != before {
			k.say(&s, before, stage)
		}
		deleting = deleting || stage == clearing.Deleted
	}
	for id := range k.states {
		if !there[id] {
			delete(k.states, id)
		}
	}
	k.swept = false
	if deleting {
		k.swept = !k.opt.Deletions(ctx)
	}
}

// say says that a store has come into another stage.
func (k *Keeper) say(s *Store, before, stage clearing.Stage) {
	percent := int64(0)
	if s.Total > 0 {
		percent = max(s.Total-s.Used, 0) * 100 / s.Total
	}
	switch stage {
	case clearing.Idle:
		k.opt.Events.Info("SpaceCleared", "", "store %s has room again: %d%% of it are free", s.Path, percent)
	case clearing.Exhausted:
		k.opt.Events.Warn("SpaceExhausted", "", "store %s is short of space, %d%% of it are free: %s", s.Path, percent, stage.Words())
	default:
		k.opt.Events.Warn("ClearingSpace", "", "store %s is short of space, %d%% of it are free: %s", s.Path, percent, stage.Words())
	}
	k.opt.Log.Info("clearing of a store", "path", s.Path, "store", s.ID, "free_percent", percent, "from", before, "to", stage)
	if stage != clearing.Idle {
		k.mu.Lock()
		k.begun[Begin{s.ID, s.Path, stage}]++
		k.mu.Unlock()
	}
	k.opt.Changed()
}

// Begun tells how often each store began each stage.
func (k *Keeper) Begun() map[Begin]uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.begun)
}

// help does for stores of any node what the volumes that are open here can do.
func (k *Keeper) help(ctx context.Context) {
	var gaveUp, vain time.Time
	for task.Pause(ctx, k.opt.Every) {
		garbage, surplus := k.wanted()
		if len(garbage) > 0 && time.Since(vain) >= k.opt.Vain {
			for ctx.Err() == nil && len(garbage) > 0 {
				if k.opt.Compact(ctx, garbage) == 0 {
					vain = time.Now()
					break
				}
				garbage, _ = k.wanted()
			}
		}
		if len(surplus) > 0 && time.Since(gaveUp) >= k.opt.Pause {
			if name, ok := k.opt.GiveUp(surplus); ok {
				gaveUp = time.Now()
				k.opt.Log.Info("a copy is given up, because stores are short of space", "volume", name, "stores", len(surplus))
			}
		}
	}
}

// wanted lists the stores that wait for garbage to be collected, and those that wait for copies to be given up.
func (k *Keeper) wanted() (garbage, surplus []block.StoreID) {
	for id, stage := range k.opt.Stages() {
		switch stage {
		case clearing.Unreferenced:
			garbage = append(garbage, id)
		case clearing.Surplus:
			surplus = append(surplus, id)
		}
	}
	order := func(a, b block.StoreID) int { return slices.Compare(a[:], b[:]) }
	slices.SortFunc(garbage, order)
	slices.SortFunc(surplus, order)
	return garbage, surplus
}
