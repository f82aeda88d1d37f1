package caretaker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mynetwork.io/mynetwork/nodeagent/agent/events"
	"mynetwork.io/mynetwork/nodeagent/agent/members"
	"mynetwork.io/mynetwork/nodeagent/agent/volumes"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/upkeep"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/task"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// town is a network of nodes a, b, c with a store each, seen by a, in which c lacks a copy of testVolume. It is all that a Caretaker works with.
type town struct {
	registry.Store // what is not overridden is not used

	mu     sync.Mutex
	down   map[string]bool
	deaf   bool              // b and c take no word
	heard  map[string][]byte // the last word of each
	whole  bool              // c has its copy
	writer bool              // a store has heard of a writer
	err    error
	tended []time.Time
	asked  map[replica.Type]int
	record registry.Record

	updates, gets int
	away          error // of the registry
}

var _ Members = (*town)(nil)

func (w *town) Ready(context.Context) error { return nil }
func (w *town) Version() uint64             { return 1 }

func (w *town) Candidates(block.Hash) []block.StoreID {
	return []block.StoreID{sid(0), sid(1), sid(2)}
}

func (w *town) Site(s block.StoreID) upkeep.Site {
	return upkeep.Site{Node: string('a' + s[0] - 1), Member: true, Takes: true}
}

func (w *town) States() (out []members.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, name := range []string{"a", "b", "c"} {
		out = append(out, members.State{Node: members.Node{Name: name}, Alive: !w.down[name], Stores: []members.Store{{ID: sid(i)}}, Storage: true})
	}
	return out
}

func (w *town) Get(block.VolumeID) (registry.Record, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gets++
	return w.record, w.away
}

func (w *town) Update(_ block.VolumeID, change func(r *registry.Record) error) (registry.Record, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.updates++
	err := change(&w.record)
	return w.record, err
}

// Send implements replica.Transport.
func (w *town) Send(s block.StoreID, typ replica.Type, done replica.Done, _ ...[]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[typ]++
	var body []byte
	switch typ {
	case replica.TypeVolumes:
		body = testVolume[:]
	case replica.TypeHoldings:
		if s != sid(2) || w.whole {
			body = make([]byte, block.ExtentIDSize+8+32+1)
			x := xid(1)
			x.Put(body)
			body[block.ExtentIDSize] = 10
		}
	case replica.TypeLease:
		body = make([]byte, block.EpochSize+8)
		if !w.writer {
			binary.LittleEndian.PutUint64(body[block.EpochSize:], uint64(replica.MaxAge))
		}
	}
	go done(replica.StatusOK, bytes.Clone(body), nil)
}

func (w *town) say(_ context.Context, node string, word []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deaf {
		return errors.New("it does not listen")
	}
	w.heard[node] = word
	return nil
}

// Tend implements Tender: it never comes to anything.
func (w *town) Tend(context.Context, block.VolumeID, string, func(context.Context, *volume.Engine) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tended = append(w.tended, time.Now())
	return w.err
}

func (w *town) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// tries takes how often the volume was opened since the last time, and how long the pauses between were.
func (w *town) tries() (n int, pauses []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := 1; i < len(w.tended); i++ {
		pauses = append(pauses, w.tended[i].Sub(w.tended[i-1]))
	}
	n, w.tended = len(w.tended), nil
	return n, pauses
}

func (w *town) questions(typ replica.Type) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.asked[typ]
	w.asked[typ] = 0
	return n
}

// live runs f beside a's caretaker, in a bubble of time.
func live(t *testing.T, f func(w *town)) {
	synctest.Test(t, func(t *testing.T) {
		w := &town{down: map[string]bool{}, heard: map[string][]byte{}, asked: map[replica.Type]int{}, err: errors.New("not enough replicas answer"),
			record: registry.Record{}}
		w.record.ID, w.record.Replicas, w.record.Name = testVolume, 3, "vol"
		env := task.NewReal()
		c := New(Options{Node: "a", Members: w, Client: &replica.Client{Env: env, Transport: w}, Registry: w, Tender: w,
			Say: w.say, Changed: func() {}, Events: events.New(10, slog.New(slog.DiscardHandler)), Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = c.Run(ctx)
		}()
		f(w)
		cancel()
		<-done
	})
}

// TestBackOff: what can not be put right is tried ever more seldom, at once when the network has changed, and not any more once it is right.
// Somebody who uses the volume is left alone.
func TestBackOff(t *testing.T) {
	live(t, func(w *town) {
		pass(time.Hour)
		n, pauses := w.tries()
		if n < 6 || n > 9 || !slices.IsSorted(pauses[:3]) || pauses[2] < lastTry || slices.Max(pauses) > lastTry+time.Minute {
			t.Fatalf("%d tries in an hour, after %v", n, pauses)
		}
		w.set(func() { w.down["b"] = true })
		pass(10 * time.Second)
		w.set(func() { w.down["b"] = false })
		pass(30 * time.Second)
		if n, _ := w.tries(); n == 0 {
			t.Error("the network has changed, and nothing is tried")
		}
		w.set(func() { w.writer = true })
		pass(time.Hour)
		if n, _ := w.tries(); n > 0 {
			t.Errorf("%d tries while somebody uses the volume", n)
		}
		w.set(func() { w.writer, w.err = false, volumes.ErrGaveWay })
		pass(time.Hour)
		if n, _ := w.tries(); n == 0 || n > 14 {
			t.Errorf("%d tries while each gives way", n)
		}
		w.set(func() { w.whole = true })
		pass(lastTry + time.Minute)
		w.tries()
		w.questions(replica.TypeHoldings)
		w.questions(replica.TypeLease)
		pass(time.Hour)
		if n, _ := w.tries(); n > 0 {
			t.Errorf("%d tries of a volume that is as it should be", n)
		}
		if h, l := w.questions(replica.TypeHoldings), w.questions(replica.TypeLease); h > 3*9 || l > 0 { // a survey every 7.5 to 10 minutes, of three stores
			t.Errorf("%d questions for copies, %d for writers in an hour of rest", h, l)
		}
	})
}

// TestToldAgain: a node that a warden's word did not reach, or that has forgotten it, hears it although nothing has changed. Until it does it takes
// itself for a node that does not hold its share, and nobody may drain any.
func TestToldAgain(t *testing.T) {
	live(t, func(w *town) {
		w.set(func() { w.deaf = true })
		pass(time.Minute)
		w.set(func() {
			if len(w.heard) > 0 {
				t.Errorf("deaf nodes heard %v", w.heard)
			}
			w.deaf = false
		})
		for _, what := range []string{"not reached", "started anew"} {
			pass(repeat + 2*look)
			w.set(func() {
				for _, node := range []string{"b", "c"} {
					if word, err := DecodeWord(w.heard[node]); err != nil || word.Layout != 1 {
						t.Errorf("node %s, which was %s: heard %+v, %v", node, what, word, err)
					}
				}
				clear(w.heard)
			})
		}
	})
}

// TestSealed: an encrypted volume that nobody uses is not opened; how many copies it has is noted once, and again when it has all. Of one that is
// used nothing is noted.
func TestSealed(t *testing.T) {
	live(t, func(w *town) {
		copies := func(what string, want, updates int) {
			t.Helper()
			pass(time.Hour)
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.record.Copies != want || w.updates != updates || len(w.tended) > 0 {
				t.Errorf("%s: %d copies, %d updates, opened %d times", what, w.record.Copies, w.updates, len(w.tended))
			}
		}
		w.set(func() { w.record.Encrypted, w.record.Copies, w.record.Holder = true, 3, "b" })
		copies("used", 3, 0)
		w.set(func() { w.record.Holder = "" })
		copies("not used", 2, 1)
		w.set(func() { w.whole = true })
		copies("whole again", 3, 2)
	})
}

// TestRelearn: that a volume which nobody uses is to have other copies its warden finds out by itself, and it does not forget what it knew while the
// registry is away.
func TestRelearn(t *testing.T) {
	live(t, func(w *town) {
		w.set(func() { w.record.Replicas = 2 })
		pass(time.Hour)
		w.set(func() {
			if w.gets > 9 {
				t.Errorf("the registry was asked %d times in an hour of rest", w.gets)
			}
			w.record.Replicas, w.away = 3, errors.New("the registry is away")
		})
		if n, _ := w.tries(); n > 0 {
			t.Fatalf("%d tries of a volume that is as it should be", n)
		}
		w.questions(replica.TypeHoldings)
		pass(time.Hour)
		if n, _ := w.tries(); n > 0 || w.questions(replica.TypeHoldings) < 3*6 {
			t.Errorf("without the registry: %d tries, or no surveys", n)
		}
		w.set(func() { w.away = nil })
		pass(DefaultEvery + time.Minute)
		if n, _ := w.tries(); n == 0 {
			t.Error("nothing is tried for a volume that is to have more copies than before")
		}
	})
}

// pass lets time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
