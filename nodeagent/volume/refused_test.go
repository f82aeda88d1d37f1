package volume

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/hedge"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// refusing is a transport under which, once it is on, stores answer the first few reads, and refuse all others. Of those that are asked for one of these, the first is
// late: it answers when the next one is asked.
type refusing struct {
	replica.Transport
	stores int

	mu    sync.Mutex
	on    bool
	given int // so many reads are answered
	reads map[string]*refused
}

// refused is a read, whoever is asked for it.
type refused struct {
	given bool
	asked int
	late  replica.Done
}

func (f *refusing) Send(s block.StoreID, typ replica.Type, done replica.Done, parts ...[]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.on || typ != replica.TypeReadData && typ != replica.TypeReadLog {
		f.Transport.Send(s, typ, done, parts...)
		return
	}
	what := string([]byte{byte(typ)}) + string(bytes.Join(parts, nil)[len(s):]) // but for the store
	r := f.reads[what]
	if r == nil {
		r = &refused{given: len(f.reads) < f.given}
		f.reads[what] = r
	}
	if r.given {
		f.Transport.Send(s, typ, done, parts...)
		return
	}
	if r.asked++; r.asked%f.stores == 1 {
		r.late = done
		return
	}
	for _, done := range []replica.Done{r.late, done} {
		if done != nil {
			go done(replica.StatusError, []byte("the disk does not give it"), nil)
		}
	}
	r.late = nil
}

func (f *refusing) set(on bool, given int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on, f.given, f.reads = on, given, map[string]*refused{}
}

// TestAllRefuse: a read that no replica can answer, one of them late, is not answered with whatever the memory holds; neither is a read of the map, which a checkpoint
// would go on from. Found by TestFailureOnTheWay on a machine that had too much to do: a page of the map read as zeros, and so did the pages that it names.
func TestAllRefuse(t *testing.T) {
	w := newWorld(t, 3)
	d := w.deps()
	refuse := &refusing{Transport: w, stores: 3}
	d.Client = &replica.Client{Env: w.env, Transport: refuse}
	e, err := Open(d, w.create(1), Options{Ring: make([]byte, 4<<20)})
	must(t, err)
	want := fill(make([]byte, 4*block.PageSize), 1)
	must(t, errors.Join(e.Write(ring.ID{}, want, 0), e.Flush()))
	for inRing := true; inRing; { // until every replica has all of it
		e.mu.RLock()
		inRing = len(e.pending) > 0
		e.mu.RUnlock()
		w.env.Sleep(time.Millisecond)
	}
	must(t, e.Checkpoint())
	r := hedge.Default()
	r.Floor, r.Ceiling, r.Burst = 1, 1, 1e9 // each replica is late at once
	e.hedges.mu.Lock()
	e.hedges.st = hedge.New(r)
	e.hedges.mu.Unlock()
	e.mu.RLock()
	x := e.checkpoint.Extent
	e.mu.RUnlock()
	got := make([]byte, len(want))
	refuse.set(true, 0)
	if _, _, err := (reader{e: e}).ask(replica.TypeReadData, x, 0, got, func() error { return nil }); err == nil {
		t.Fatal("a query ends well without an answer")
	}
	failed := 0
	for n := 0; ; n++ { // the map is read on the way, and what leads to it
		must(t, errors.Join(e.Write(ring.ID{}, want[:block.PageSize], int64(8+n)*block.PageSize), e.Flush()))
		refuse.set(true, n)
		err := e.Checkpoint()
		refuse.set(false, 0)
		if rerr := e.Read(got, 0); rerr != nil || !bytes.Equal(got, want) {
			t.Fatalf("from read %d on none was answered: the checkpoint ends with %v, reading with %v, and the pages are right: %t", n, err, rerr, bytes.Equal(got, want))
		}
		if err == nil {
			break
		}
		failed++
	}
	if failed < 3 {
		t.Errorf("%d checkpoints failed: nothing was tried", failed)
	}
	must(t, e.Close(false))
}

// TestWorse: no error is not worse than one, in whatever order they come.
func TestWorse(t *testing.T) {
	for _, err := range []error{errElsewhere, errors.New("the disk does not give it"), replica.ErrNotHeld, block.ErrMismatch, replica.ErrUnreachable} {
		if worse(err, nil) != err || worse(nil, err) != err {
			t.Errorf("%v is forgotten", err)
		}
	}
}
