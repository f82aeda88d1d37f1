package volume

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/hedge"
	"mynetwork.io/mynetwork/nodeagent/disk"
	"mynetwork.io/mynetwork/nodeagent/replica"
	"mynetwork.io/mynetwork/nodeagent/task"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// platter is a store at hand of which nothing is in memory: each read waits for what turn does.
type platter struct {
	Local
	reads *atomic.Int64
	turn  func(p []byte) // after the read, with what it has read
}

func (platter) ReadLogNow(block.ExtentID, uint32, []byte) error  { return disk.ErrWouldWait }
func (platter) ReadDataNow(block.ExtentID, uint32, []byte) error { return disk.ErrWouldWait }

func (l platter) ReadData(x block.ExtentID, off uint32, p []byte) error {
	l.reads.Add(1)
	err := l.Local.ReadData(x, off, p)
	l.turn(p)
	return err
}

// ownReads is an Env that knows of the reads of stores at hand that tasks have not ended.
type ownReads struct {
	*task.Real
	own *sync.WaitGroup
}

func (c ownReads) Go(name string, f func()) {
	if name != "own read" {
		c.Real.Go(name, f)
		return
	}
	c.own.Add(1)
	c.Real.Go(name, func() {
		defer c.own.Done()
		f()
	})
}

// platters is an engine over three stores, of which the one at hand is a platter once spin is called, and what is on all of them.
func platters(t testing.TB, size int) (e *Engine, want []byte, spin func(turn func(p []byte)) *atomic.Int64) {
	w := newWorld(t, 3)
	d := w.deps()
	d.Cache, d.Env = &mapCache{}, ownReads{w.env, &sync.WaitGroup{}}
	reads, turn := &atomic.Int64{}, atomic.Pointer[func(p []byte)]{}
	d.Local = func(s block.StoreID) Local {
		l := w.local(s)
		if f := turn.Load(); l != nil && f != nil {
			return platter{l, reads, *f}
		}
		return l
	}
	e, err := Open(d, w.create(1), Options{Ring: make([]byte, 4<<20)})
	must(t, err)
	t.Cleanup(func() { _ = e.Close(false) })
	want = fill(make([]byte, size), 1)
	for off := 0; off < size; off += 16 << 10 {
		must(t, e.Write(ring.ID{}, want[off:min(off+16<<10, size)], int64(off)))
	}
	must(t, e.Flush())
	for inRing := true; inRing; { // until every replica has all of it; then the checkpoint seals the block
		e.mu.RLock()
		inRing = len(e.pending) > 0
		e.mu.RUnlock()
		w.env.Sleep(time.Millisecond)
	}
	must(t, e.Checkpoint())
	must(t, e.Flush())
	must(t, e.Read(make([]byte, size), 0)) // the map and the tables of blocks are in the cache from here on
	return e, want, func(f func(p []byte)) *atomic.Int64 {
		turn.Store(&f)
		d.Cache.(*mapCache).m.Range(func(k, _ any) bool {
			if k.(CacheKey).Kind == cachePlace { // which has the store as it was
				d.Cache.(*mapCache).m.Delete(k)
			}
			return true
		})
		return reads
	}
}

// TestOwnDiskHangs: while the own disk answers nothing, reads go on with the right bytes, soon without asking it, and a front end's thread is not held up. What it
// answers when it is back reaches no memory of readers.
func TestOwnDiskHangs(t *testing.T) {
	const pages = 64
	e, want, spin := platters(t, pages*block.PageSize)
	hung := make(chan struct{})
	reads := spin(func(p []byte) {
		<-hung
		for i := range p {
			p[i] ^= 0xff
		}
	})
	began, mem := e.Env.Now(), make([]byte, 4*pages*block.PageSize)
	var wg sync.WaitGroup
	for i := range 4 * pages {
		p, page := mem[i*block.PageSize:(i+1)*block.PageSize], i%pages
		if ok, _ := e.TryRead(p, int64(page)*block.PageSize, nil); ok {
			t.Fatal("what is on a disk was read without waiting")
		}
		wg.Go(func() {
			if err := e.Read(p, int64(page)*block.PageSize); err != nil || !bytes.Equal(p, want[page*block.PageSize:(page+1)*block.PageSize]) {
				t.Errorf("page %d: %v", page, err)
			}
			for j := range p {
				p[j] = 0xaa // it is somebody else's now
			}
		})
		if i%8 == 7 {
			wg.Wait()
		}
	}
	s, probes := e.Status().Stats, int64((e.Env.Now()-began)/time.Second)
	if asked := reads.Load(); asked == 0 || asked > 24+probes || s.Hedged == 0 || int64(s.Hedged) > 80+10*probes || s.HedgesWon == 0 {
		t.Errorf("the hung disk was asked %d times; %d reads were sent elsewhere too, %d were answered there", asked, s.Hedged, s.HedgesWon)
	}
	close(hung)
	e.Env.(ownReads).own.Wait() // until all that it owed has come
	for i, b := range mem {
		if b != 0xaa {
			t.Fatalf("byte %d of memory that was given back is %#x", i, b)
		}
	}
}

// TestLateAnswer: an answer is written where the reader wants it as long as the reader waits, one at a time, and not after that.
func TestLateAnswer(t *testing.T) {
	e, _, _ := platters(t, block.PageSize)
	q := &query{e: e, dst: make([]byte, 4), news: e.Env.NewSignal(), asked: make([]asked, 4), owed: 4}
	say := func(by int, text string) {
		e.hedges.st.Asked(0, block.StoreID{9}, 4)
		q.take(by, block.StoreID{9}, 0, []byte(text), nil)
	}
	next := func(by int, text string) {
		t.Helper()
		if a, ok := q.next(); !ok || a.by != by || string(q.dst) != text {
			t.Errorf("%v %v %q, want %q of %d", a, ok, q.dst, text, by)
		}
	}
	say(0, "zero")
	next(0, "zero")
	say(1, "one.")
	if string(q.dst) != "zero" {
		t.Errorf("%q while the reader looks at what was there", q.dst)
	}
	q.done()
	say(2, "two.")
	next(2, "two.") // it lies in dst already
	q.done()
	next(1, "one.")
	q.done()
	q.leave()
	say(3, "four")
	if string(q.dst) != "one." || len(q.in) != 0 {
		t.Errorf("%q after the reader has left", q.dst)
	}
	q.left, q.asked[3].over = false, false // the control: that it has left is all that keeps the answer out
	if say(3, "four"); string(q.dst) != "four" {
		t.Errorf("the control: %q", q.dst)
	}
}

// shaky is a transport whose answers are late by what is drawn, and wrong now and then.
type shaky struct {
	replica.Transport
	e func(d time.Duration)
}

func (s shaky) Send(to block.StoreID, typ replica.Type, done replica.Done, parts ...[]byte) {
	s.Transport.Send(to, typ, func(st replica.Status, body []byte, err error) {
		if typ != replica.TypeReadData {
			done(st, body, err)
			return
		}
		body = bytes.Clone(body)
		go func() {
			s.e(time.Duration(rand.IntN(int(2 * time.Millisecond))))
			if to[0] == 2 && len(body) > 0 && rand.IntN(3) == 0 {
				body[len(body)/2] ^= 1
			}
			done(st, body, err)
			clear(body) // it was lent
		}()
	}, parts...)
}

// TestHedgedReads: with all reads sent to several replicas, which answer in any order, some wrong, many readers that use their memory again at once get the right
// bytes. (With the race detector it also sees writes to memory that was given back.)
func TestHedgedReads(t *testing.T) {
	const pages = 64
	e, want, spin := platters(t, pages*block.PageSize)
	e.Client.Transport = shaky{e.Client.Transport, e.Env.Sleep}
	r := hedge.Default()
	r.Floor, r.Ceiling, r.Burst, r.Probe = 1, int64(500*time.Microsecond), 1e9, 1
	e.hedges.st = hedge.New(r)
	spin(func([]byte) { e.Env.Sleep(time.Duration(rand.IntN(int(2 * time.Millisecond)))) })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			p := make([]byte, 4*block.PageSize)
			for range 100 {
				first, n := rand.IntN(pages-4), 1+rand.IntN(4)
				part := p[:n*block.PageSize]
				if err := e.Read(part, int64(first)*block.PageSize); err != nil || !bytes.Equal(part, want[first*block.PageSize:(first+n)*block.PageSize]) {
					t.Errorf("pages %d+%d: %v", first, n, err)
					return
				}
				e.Cache.(*mapCache).m.Clear()
				for i := range p {
					p[i] = byte(i)
				}
			}
		})
	}
	wg.Wait()
	if s := e.Status().Stats; s.Hedged < 100 || s.HedgesWon < 10 || s.BadPages == 0 {
		t.Errorf("%d hedges, %d won, %d bad pages", s.Hedged, s.HedgesWon, s.BadPages)
	}
}

// TestOrder: of replicas that answer, a slow one is asked after the others, the own one too; who holds nothing is asked behind who holds.
func TestOrder(t *testing.T) {
	e, _, _ := platters(t, block.PageSize)
	x := e.Status().Extent
	first := func() source { return reader{e: e}.sources(x)[0] }
	if s := first(); s.own == nil || !s.holder {
		t.Fatalf("the own replica is not asked first: %+v", s)
	}
	own := first().store
	now := int64(e.Env.Now())
	for range 100 {
		e.hedges.st.Asked(now, own, block.PageSize)
		e.hedges.st.Ended(now, own, block.PageSize, now-int64(40*time.Millisecond), true)
	}
	if s := first(); s.own != nil || !s.holder {
		t.Errorf("a slow own replica is asked first: %+v", s)
	}
	if s := (reader{e: e, local: true}).sources(x); len(s) != 1 || s[0].own == nil {
		t.Errorf("at hand: %+v", s)
	}
}

// one is the turn of the threads of a device of which one may wait.
type one struct{ taken atomic.Bool }

func (o *one) Take() bool { return o.taken.CompareAndSwap(false, true) }
func (o *one) Give()      { o.taken.Store(false) }

// TestFirstHang: a device's thread waits for the own disk, until that has held one up; from then on none does.
func TestFirstHang(t *testing.T) {
	e, want, spin := platters(t, 4*block.PageSize)
	slow := atomic.Bool{}
	spin(func([]byte) {
		if slow.Load() {
			e.Env.Sleep(hangs)
		}
	})
	p := make([]byte, block.PageSize)
	for _, hang := range []bool{false, true} {
		slow.Store(hang)
		if ok, err := e.TryRead(p, 0, &one{}); !ok || err != nil || !bytes.Equal(p, want[:block.PageSize]) {
			t.Fatalf("hang %t: read %t, %v", hang, ok, err)
		}
	}
	if ok, _ := e.TryRead(p, 0, &one{}); ok {
		t.Error("a device's thread waits for a disk that has just hung")
	}
}

// TestHangsForEver: of a device's threads, that begin before any hang was seen, one waits for the disk; what the others decline, and what comes later, others answer.
// Who serves alone never waits.
func TestHangsForEver(t *testing.T) {
	const pages, threads = 64, 32
	e, want, spin := platters(t, pages*block.PageSize)
	hung, began, ended := make(chan struct{}), make(chan struct{}), make(chan bool)
	turn, first := &one{}, sync.Once{}
	spin(func([]byte) {
		first.Do(func() { close(began) })
		<-hung
	})
	for i := range threads {
		go func() {
			ok, _ := e.TryRead(make([]byte, block.PageSize), int64(i)*block.PageSize, turn)
			ended <- ok
		}()
	}
	for range threads - 1 {
		if <-ended {
			t.Error("what is on a disk that hangs was read")
		}
	}
	<-began
	for page := range int64(pages) {
		p := make([]byte, block.PageSize)
		if ok, _ := e.TryRead(p, page*block.PageSize, turn); ok {
			t.Errorf("page %d was read at hand", page)
		}
		if ok, _ := e.TryRead(p, page*block.PageSize, nil); ok {
			t.Errorf("page %d was read by who must not wait", page)
		}
		if err := e.Read(p, page*block.PageSize); err != nil || !bytes.Equal(p, want[page*block.PageSize:(page+1)*block.PageSize]) {
			t.Errorf("page %d: %v", page, err)
		}
	}
	close(hung)
	if !<-ended || turn.taken.Load() {
		t.Error("who has waited gets nothing in the end, or keeps the turn")
	}
}
