package sim

import (
	"container/heap"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"mynetwork.io/mynetwork/nodeagent/task"
)

// killed is the panic that unwinds the tasks of a process that ended.
type killed struct{}

// sched runs tasks one at a time in virtual time. All choices come from rng.
type sched struct {
	rng    *rand.Rand
	now    time.Duration
	ready  []*coro
	timers timerHeap
	seq    uint64
	cur    *coro // nil while a callback or the scheduler itself runs
	steps  uint64
	hash   uint64
	ids    uint64
	tail   *tail   // the last lines of the trace; nil: not kept
	dying  []*proc // to be reaped after this step
	panics []string
	busy   busy
}

// proc is one process: what its end takes along.
type proc struct {
	s      *sched
	node   *node // nil for the world
	dead   bool
	tasks  []*coro
	offset time.Duration // of its clock
	frozen time.Duration // until then nothing of it runs
	conns  []*conn       // by node
}

// coro is one task.
type coro struct {
	p     *proc
	id    uint64
	name  string
	next  func() (struct{}, bool)
	halt  func()
	yield func(struct{}) bool
	at    int    // in p.tasks
	park  uint64 // counts waits, so that a late timer is known as such
	state coroState
	woken bool // the wait ended by Set or Notify, not by time
}

type coroState uint8

const (
	coroReady coroState = iota
	coroRunning
	coroParked
	coroDone
)

type timer struct {
	at   time.Duration
	seq  uint64
	fn   func()
	t    *coro
	park uint64
}

type timerHeap []timer

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || (h[i].at == h[j].at && h[i].seq < h[j].seq)
}
func (h timerHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)   { *h = append(*h, x.(timer)) }
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = timer{}
	*h = old[:len(old)-1]
	return t
}

func newSched(seed uint64) *sched {
	return &sched{rng: rand.New(rand.NewPCG(seed, 0x6d796e6574)), hash: 14695981039346656037}
}

// mix adds a word to the hash of the trace.
func (s *sched) mix(v uint64) {
	s.hash = (s.hash ^ v) * 1099511628211
}

// tracef writes a line of the trace. Arguments are formatted only when somebody will read them.
func (s *sched) tracef(format string, args ...any) {
	if s.tail != nil {
		s.tail.add(fmt.Sprintf("%11.6f ", s.now.Seconds()) + fmt.Sprintf(format, args...))
	}
}

func (s *sched) chance(p float64) bool { return p > 0 && s.rng.Float64() < p }

func (s *sched) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(s.rng.Int64N(int64(hi-lo)+1))
}

// after runs fn once, as a callback, d from now. It must not block.
func (s *sched) after(d time.Duration, fn func()) {
	s.seq++
	heap.Push(&s.timers, timer{at: s.now + max(d, 0), seq: s.seq, fn: fn})
}

// spawn starts a task in p.
func (s *sched) spawn(p *proc, name string, f func()) {
	if p.dead {
		return
	}
	s.ids++
	t := &coro{p: p, id: s.ids, name: name, at: len(p.tasks)}
	t.next, t.halt = iter.Pull(func(yield func(struct{}) bool) {
		t.yield = yield
		defer s.ended(t)
		f()
	})
	p.tasks = append(p.tasks, t)
	s.wakeUp(t)
}

// ended runs at a task's root, also when it was killed or has panicked.
func (s *sched) ended(t *coro) {
	t.state = coroDone
	p := t.p
	last := len(p.tasks) - 1
	p.tasks[t.at] = p.tasks[last]
	p.tasks[t.at].at = t.at
	p.tasks = p.tasks[:last]
	s.caught(recover(), t.name)
}

// caught sorts out what a task or callback ended with. A killed process is no error; anything else is.
func (s *sched) caught(r any, name string) {
	if r == nil {
		return
	}
	if _, ok := r.(killed); ok {
		return
	}
	s.panics = append(s.panics, fmt.Sprintf("%s: panic: %v\n%s", name, r, debug.Stack()))
}

// wakeUp makes a task ready, now or, where its node is slow, later.
func (s *sched) wakeUp(t *coro) {
	t.state = coroReady
	t.park++
	if t.p.node != nil {
		if d := t.p.node.wakeDelay(t.name); d > 0 {
			park := t.park
			s.after(d, func() {
				if t.state == coroReady && t.park == park {
					s.ready = append(s.ready, t)
				}
			})
			return
		}
	}
	s.ready = append(s.ready, t)
}

// wait parks the running task until somebody wakes it, or at most d (negative: without limit).
func (s *sched) wait(d time.Duration) (woken bool) {
	t := s.cur
	if t == nil {
		panic("a callback blocks")
	}
	if t.p.dead {
		panic(killed{})
	}
	t.state, t.woken = coroParked, false
	t.park++
	if d >= 0 {
		s.seq++
		heap.Push(&s.timers, timer{at: s.now + d, seq: s.seq, t: t, park: t.park})
	}
	if !t.yield(struct{}{}) || t.p.dead {
		panic(killed{})
	}
	return t.woken
}

func (s *sched) wake(t *coro) {
	if t.state == coroParked {
		t.woken = true
		s.wakeUp(t)
	}
}

// run executes until done says so, nothing is left, or a task has panicked.
func (s *sched) run(done func() bool) {
	for len(s.panics) == 0 && !done() {
		if n := len(s.ready); n > 0 {
			i := s.rng.IntN(n)
			t := s.ready[i]
			s.ready[i] = s.ready[n-1]
			s.ready[n-1] = nil
			s.ready = s.ready[:n-1]
			if s.busy.count(s.now) {
				s.panics = append(s.panics, fmt.Sprintf("%s and others do not come to rest at %v", t.name, s.now))
			}
			s.step(t)
			s.bury()
			continue
		}
		if len(s.timers) == 0 {
			return
		}
		tm := heap.Pop(&s.timers).(timer)
		s.now = max(s.now, tm.at)
		if tm.t != nil {
			if tm.t.state == coroParked && tm.t.park == tm.park {
				s.wakeUp(tm.t)
			}
			continue
		}
		s.call(tm.fn)
		s.bury()
	}
}

// busy counts the steps that are taken in a while, and signals that are there before one waits for them.
type busy struct {
	since time.Duration
	steps int
}

// In busyTime there are so many at most: more are a loop that waits for nothing.
const (
	busyTime  = 100 * time.Millisecond
	busySteps = 1 << 20
)

// count tells whether there were more.
func (b *busy) count(now time.Duration) bool {
	if now >= b.since+busyTime {
		b.since, b.steps = now, 0
	}
	b.steps++
	return b.steps > busySteps
}

// bury reaps the processes that ended during the last step.
func (s *sched) bury() {
	for len(s.dying) > 0 {
		p := s.dying[0]
		s.dying = s.dying[1:]
		s.reap(p)
	}
}

// kill ends a process. Its tasks are unwound as soon as the running step is over; a caller that is one of them, or acts
// in its name, panics with killed itself.
func (s *sched) kill(p *proc) {
	if !p.dead {
		p.dead = true
		s.dying = append(s.dying, p)
	}
}

func (s *sched) call(fn func()) {
	defer func() { s.caught(recover(), "callback") }()
	fn()
}

func (s *sched) step(t *coro) {
	if t.state != coroReady {
		return
	}
	if t.p.frozen > s.now && !t.p.dead {
		park := t.park
		s.after(t.p.frozen-s.now, func() {
			if t.state == coroReady && t.park == park {
				s.ready = append(s.ready, t)
			}
		})
		return
	}
	s.steps++
	s.mix(uint64(s.now))
	s.mix(t.id)
	t.state = coroRunning
	s.cur = t
	t.next()
	s.cur = nil
}

// reap ends all tasks of a dead process. It is called between steps.
func (s *sched) reap(p *proc) {
	p.dead = true
	for len(p.tasks) > 0 {
		t := p.tasks[len(p.tasks)-1]
		if t.yield == nil { // never started
			t.state = coroDone
			p.tasks = p.tasks[:len(p.tasks)-1]
			t.halt()
			continue
		}
		was := s.cur
		s.cur = t
		t.halt()
		s.cur = was
		if t.state != coroDone {
			panic("task " + t.name + " survives its end")
		}
	}
}

var _ task.Env = (*proc)(nil)

// Go implements task.Env.
func (p *proc) Go(name string, f func()) { p.s.spawn(p, name, f) }

// Now implements task.Env.
func (p *proc) Now() time.Duration { return p.s.now + p.offset }

// Sleep implements task.Env.
func (p *proc) Sleep(d time.Duration) { p.s.wait(max(d, 0)) }

// Rand implements task.Env.
func (p *proc) Rand() uint64 { return p.s.rng.Uint64() }

// NewEvent implements task.Env.
func (p *proc) NewEvent() task.Event { return &event{s: p.s} }

// NewSignal implements task.Env.
func (p *proc) NewSignal() task.Signal { return &signal{s: p.s} }

type event struct {
	s       *sched
	set     bool
	waiters []*coro
}

func (e *event) Set() {
	if e.set {
		return
	}
	e.set = true
	for _, t := range e.waiters {
		e.s.wake(t)
	}
	e.waiters = nil
}

func (e *event) Wait() { e.WaitFor(-1) }

func (e *event) WaitFor(d time.Duration) bool {
	if e.set {
		return true
	}
	if d == 0 {
		return false
	}
	t := e.s.cur
	e.waiters = append(e.waiters, t)
	if !e.s.wait(d) {
		e.waiters = without(e.waiters, t)
	}
	return e.set
}

type signal struct {
	s       *sched
	set     bool
	waiters []*coro
}

func (g *signal) Notify() {
	if len(g.waiters) > 0 {
		t := g.waiters[0]
		g.waiters = g.waiters[1:]
		g.s.wake(t)
		return
	}
	g.set = true
}

func (g *signal) Wait() { g.WaitFor(-1) }

func (g *signal) WaitFor(d time.Duration) bool {
	if g.set {
		g.set = false
		if g.s.busy.count(g.s.now) {
			panic("this task does not come to rest")
		}
		return true
	}
	if d == 0 {
		return false
	}
	t := g.s.cur
	g.waiters = append(g.waiters, t)
	if g.s.wait(d) {
		return true
	}
	g.waiters = without(g.waiters, t)
	return false
}

func without(list []*coro, t *coro) []*coro {
	for i, x := range list {
		if x == t {
			return append(list[:i:i], list[i+1:]...)
		}
	}
	return list
}

// tail keeps the last lines of a trace.
type tail struct {
	lines []string
	next  int
}

func newTail(n int) *tail { return &tail{lines: make([]string, n)} }

func (t *tail) add(line string) {
	t.lines[t.next%len(t.lines)] = line
	t.next++
}

func (t *tail) all() []string {
	if t.next <= len(t.lines) {
		return t.lines[:t.next]
	}
	at := t.next % len(t.lines)
	return append(append([]string(nil), t.lines[at:]...), t.lines[:at]...)
}
