package caretaker

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent/events"
	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/core/adaptive"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/clearing"
	"mynetwork.io/mynetwork/nodeagent/core/upkeep"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/task"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// Defaults and times.
const (
	DefaultGrace = 10 * time.Minute
	DefaultEvery = 10 * time.Minute
	DefaultQuiet = volume.Lease

	look     = time.Second      // at the network, in memory
	settled  = 2 * time.Second  // so long a change has to last before it is looked into
	firstTry = 5 * time.Second  // until a volume is looked at again that is not as it should be
	lastTry  = 10 * time.Minute // twice as long each time, until this
	patience = 3 * time.Minute  // without anything getting better, an engine is closed
	check    = 2 * time.Second  // how often is looked whether an engine is done
	ask      = 15 * time.Second // how often stores are asked about it, while it says that it is not
	repeat   = time.Minute      // how often every node is told again: one that was not reached, was started anew, or took this one for lost has no word
)

// Members is what is known of the network; *members.Table is it.
type Members interface {
	Ready(ctx context.Context) error
	States() []members.State
	Candidates(key block.Hash) []block.StoreID
	Site(s block.StoreID) upkeep.Site
	Version() uint64
}

// Tender opens a volume that nobody uses; *volumes.Manager is one.
type Tender interface {
	Tend(ctx context.Context, v block.VolumeID, seen string, work func(ctx context.Context, e *volume.Engine) error) error
}

// Options are what a Caretaker works with.
type Options struct {
	Node     string
	Members  Members
	Client   *replica.Client // to the stores of all nodes; it presents the right to read
	Registry registry.Store
	Tender   Tender // nil: surveys only
	// Say brings a word to a node.
	Say func(ctx context.Context, node string, word []byte) error
	// Changed is told that the figures may have changed.
	Changed func()
	Grace   time.Duration // 0: DefaultGrace
	// GiveUp tells that stores which do not answer for Grace are given up. Where an operator makes the layout, it decides that.
	GiveUp bool
	Every  time.Duration // between surveys of a network that does not change; 0: DefaultEvery
	// Stages gives the stores of the network that are short of space, and what they get back; nil: none ever is.
	Stages func() map[block.StoreID]clearing.Stage
	Quiet  time.Duration // a volume whose fact has changed within it is left alone; 0: DefaultQuiet
	// Idle is how long nobody has used a volume that then loses a copy beyond the least that it is to have; 0: FallAfter of adaptive.Default.
	Idle   time.Duration
	Events *events.Log
	Log    *slog.Logger
}

// Caretaker looks after volumes. The zero value is not usable: see New.
type Caretaker struct {
	opt   Options
	words *words

	mu   sync.Mutex
	lost map[string]time.Time // since when a node does not answer
	now  *Network

	// what follows belongs to Run
	ward     map[block.VolumeID]*ward
	told     map[string][]byte // the last word to each node
	surveyed uint64            // layout of the last whole round
}

// ward is a volume that this node is the warden of.
type ward struct {
	id      block.VolumeID
	name    string
	known   bool // the registry was asked
	deleted bool
	sealed  bool // it is encrypted, and was not as it should be
	copies  int  // that it is to have; 0: not known
	least   int  // that it may have by its bounds; 0: it has none
	verdict *Verdict

	again time.Time     // when it is looked at again
	pause time.Duration // before that

	seen     string    // revision of its fact
	since    time.Time // since when it is that
	silent   time.Time // since when no store has heard of a writer; zero: one has, or it was not asked
	attempts int       // that came to nothing since the network changed

	ask  time.Time                    // when it is asked next whether it may be opened for stores that are short of space
	done map[clearing.Stage]time.Time // when it was opened for a stage of theirs
	fade time.Time                    // when it is asked next whether it is still in use, while it has more copies than it needs
}

// New makes a caretaker.
func New(o Options) *Caretaker {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.Grace, DefaultGrace)
	set(&o.Every, DefaultEvery)
	set(&o.Quiet, DefaultQuiet)
	set(&o.Idle, time.Duration(adaptive.Default().FallAfter)*time.Second)
	return &Caretaker{opt: o, words: newWords(), lost: map[string]time.Time{}, ward: map[block.VolumeID]*ward{}, told: map[string][]byte{}}
}

// Heard takes the word of a warden: ErrWord.
func (c *Caretaker) Heard(from string, body []byte) error {
	w, err := DecodeWord(body)
	if err != nil {
		return err
	}
	c.words.put(from, w)
	c.opt.Changed()
	return nil
}

// Figures adds up what is known of this node's stores, which hold so many extents of volumes.
func (c *Caretaker) Figures(here map[block.VolumeID]int) Figures {
	now := time.Now()
	return c.words.figures(now, c.network(now), here)
}

// Run looks after volumes until ctx ends.
func (c *Caretaker) Run(ctx context.Context) error {
	var print, done string
	var since, next, again time.Time
	_ = c.opt.Members.Ready(ctx) // without a layout there is nothing to look after; it comes
	for task.Pause(ctx, task.UntilBeat(look)) {
		now := time.Now()
		n := c.network(now)
		if n.print != print {
			print, since = n.print, now
			clear(c.told) // who was away has not heard
		}
		if n.Version == 0 {
			continue
		}
		if print != done && now.Sub(since) >= min(settled, c.opt.Quiet) || done != "" && now.After(next) {
			if print == done {
				c.relearn(ctx)
			}
			if err := c.round(ctx, n); err != nil {
				if ctx.Err() == nil {
					c.opt.Log.Info("the survey of volumes is not complete yet", "err", err)
				}
				since = now // tried again when it has lasted
				next = now.Add(firstTry)
				continue
			}
			if print != done {
				for _, w := range c.ward {
					w.attempts, w.again, w.pause = 0, time.Time{}, 0
				}
			}
			done, next, again = print, now.Add(c.opt.Every-rand.N(c.opt.Every/4+1)), now.Add(repeat)
		}
		if print == done && now.After(again) {
			again = now.Add(repeat)
			clear(c.told)
			c.tell(ctx, n)
		}
		c.tendDue(ctx)
		c.clear(ctx)
		c.fade(ctx)
	}
	return nil
}

// tendDue looks again at what is not as it should be, and has it put right.
func (c *Caretaker) tendDue(ctx context.Context) {
	for _, w := range c.ward {
		now := time.Now()
		if w.verdict == nil || w.verdict.Todo == 0 && w.again.IsZero() || now.Before(w.again) {
			continue
		}
		n := c.network(now)
		if err := c.survey(ctx, n, w, n.answering()); err != nil {
			c.later(w)
			continue
		}
		if w.verdict.Todo == 0 {
			w.again, w.pause, w.silent, w.seen = time.Time{}, 0, time.Time{}, ""
			if w.sealed {
				w.sealed = false
				if r, err := c.opt.Registry.Get(w.id); err == nil && r.Live() {
					c.sealed(w, &r)
				}
			}
			c.tell(ctx, n)
			continue
		}
		c.tell(ctx, n)
		if c.opt.Tender != nil && w.copies > 0 {
			c.care(ctx, w)
		}
		c.later(w)
		if ctx.Err() != nil {
			return
		}
	}
}

// later looks at a volume again after a while, ever more slowly.
func (c *Caretaker) later(w *ward) {
	w.pause = min(max(2*w.pause, min(firstTry, c.opt.Quiet)), lastTry)
	w.again = time.Now().Add(w.pause)
}

var errStalled = errors.New("nothing got better for a while")
