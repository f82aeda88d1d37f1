package volume

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// Fence keeps the writers of a volume from going on, without opening the volume: a majority of the replicas of the journal's tail
// refuse them. Nothing else changes: the journal stays as it is, and the next writer recovers it as after a crash.
//
// Why a majority of the tail is enough: a record is acknowledged by a quorum of the open extent, and the journal leaves that extent
// only by a closed record that a quorum of it has (invariant R5). Both need a replica that has promised. A weak volume acknowledges
// with one replica, so its writer may go on where a replica has not promised: what it then writes was never safe.
type Fence struct {
	Env    task.Env
	Client *replica.Client
	Volume block.VolumeID

	stopped atomic.Bool
}

// Stop makes Take give up soon.
func (f *Fence) Stop() { f.stopped.Store(true) }

// Holds tells whether a majority of the tail's replicas refuse all writers up to a number. It changes nothing and does not wait for replicas
// that are away.
func (f *Fence) Holds(anchor journal.Position, number uint64) (bool, error) {
	err := f.walk(anchor, 1, func(s block.StoreID, x block.ExtentID) (replica.State, error) {
		st, err := f.Client.Stat(s, x)
		if err == nil && st.Promised.Number <= number {
			err = errNoPromise
		}
		return st, err
	})
	if errors.Is(err, errMinority) {
		return false, nil
	}
	return err == nil, err
}

// Take has a majority of the tail's replicas promise an epoch, which the registry has given out. It asks until they do, or until
// Stop. A replica that has promised a later writer refuses the earlier ones too, and counts.
func (f *Fence) Take(anchor journal.Position, epoch block.Epoch) error {
	return f.walk(anchor, 0, func(s block.StoreID, x block.ExtentID) (replica.State, error) {
		st, err := f.Client.Promise(s, epoch, x)
		var later *replica.FencedError
		if errors.As(err, &later) && later.Promised.Number >= epoch.Number {
			st, err = f.Client.Stat(s, x)
		}
		return st, err
	})
}

var (
	errNoPromise = errors.New("no promise")
	errMinority  = errors.New("too few of the tail's replicas answer")
)

// walk follows the journal from an anchor to its tail; ask must succeed on a majority of each extent's members. rounds bounds how often
// they are asked; 0: until Stop.
func (f *Fence) walk(anchor journal.Position, rounds int, ask func(s block.StoreID, x block.ExtentID) (replica.State, error)) error {
	x, members := anchor.Extent, anchor.Members
	for !x.IsZero() {
		best, err := f.majority(x, members, rounds, ask)
		if err != nil {
			return fmt.Errorf("volume %s, extent %s: %w", f.Volume, x, err)
		}
		if !best.Held {
			return fmt.Errorf("volume %s, extent %s: %w", f.Volume, x, ErrLost)
		}
		if !best.Chain.Closed {
			return nil
		}
		log := make([]byte, best.Chain.LogLen)
		if err := f.Client.Read(best.Store, replica.TypeReadLog, x, 0, log); err != nil {
			return fmt.Errorf("volume %s, log of extent %s: %w", f.Volume, x, err)
		}
		closed, err := lastClosed(log)
		if err != nil {
			return fmt.Errorf("volume %s, log of extent %s: %w", f.Volume, x, err)
		}
		x, members = closed.Next, closed.Members
	}
	return nil
}

// majority asks an extent's members until a majority has said yes and their logs tell where the journal goes on.
func (f *Fence) majority(x block.ExtentID, members []block.StoreID, rounds int, ask func(s block.StoreID, x block.ExtentID) (replica.State, error)) (replication.Tail, error) {
	tails := &replication.Tails{Replicas: len(members), Quorum: replication.Majority(len(members))}
	var mu sync.Mutex
	var last error
	for round := 1; ; round++ {
		news := f.Env.NewSignal()
		left := len(members)
		for _, s := range members {
			f.Env.Go("fence", func() {
				st, err := ask(s, x)
				mu.Lock()
				defer mu.Unlock()
				left--
				if err == nil {
					tails.Add(replication.Tail{Store: s, Held: st.Held, Freed: st.Freed, Past: st.Past, Unknown: st.Unknown, Chain: st.Chain})
				} else {
					last = err
				}
				news.Notify()
			})
		}
		for {
			mu.Lock()
			best, ok := tails.Decide()
			over, err, freed := left == 0, last, len(tails.Freed())
			mu.Unlock()
			if ok {
				return best, nil
			}
			if freed > 0 {
				err = errors.Join(err, fmt.Errorf("%d have freed the extent, which the registry names still: it is an old copy, and is put right by whoever opens the volume", freed))
			}
			if over && (round == rounds || f.stopped.Load()) {
				return best, fmt.Errorf("%w: %w", errMinority, err)
			}
			if over {
				break
			}
			news.Wait()
		}
		f.Env.Sleep(retryPause)
	}
}
