package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const ballast = "ballast"

// fault is one that is under way, with its own share of chance.
type fault struct {
	t    *thrash
	r    *rand.Rand
	node string // that it is done to; empty: none in particular
	name string
}

func (f *fault) say(format string, args ...any) {
	f.t.story.say(f.name, "%s", strings.TrimSpace(f.node+" "+fmt.Sprintf(format, args...)))
}

// between waits for a time from low to high.
func (f *fault) between(low, high time.Duration) time.Duration {
	d := low + rand.N(high-low+1)
	if f.r != nil {
		d = low + time.Duration(f.r.Int64N(int64(high-low)+1))
	}
	f.t.sleep(d)
	return d
}

func (t *thrash) sleep(d time.Duration) {
	select {
	case <-t.ctx.Done():
	case <-time.After(d):
	}
}

// kind is a kind of fault. Of those that are alone nothing else is done meanwhile.
type kind struct {
	name   string
	weight int
	on     func(name string) bool // which nodes it can be done to; nil: to the network
	alone  bool
	do     func(f *fault) error
}

func anyNode(string) bool { return true }

// hasDisk tells of nodes with a disk of their own.
func hasDisk(name string) bool { return slices.Contains([]string{"n1", "n2", "n3"}, name) }

func kinds() []kind {
	return []kind{
		{"kill", 6, anyNode, false, (*fault).kill},
		{"power", 3, anyNode, false, (*fault).power},
		{"away", 1, anyNode, false, (*fault).away},
		{"cut", 4, anyNode, false, (*fault).cut},
		{"oneway", 3, anyNode, false, (*fault).oneWay},
		{"slownet", 3, anyNode, false, (*fault).slowNet},
		{"slowdisk", 3, hasDisk, false, (*fault).slowDisk},
		{"fill", 2, hasDisk, false, (*fault).fill},
		{"rot", 1, anyNode, true, (*fault).rot},
		{"move", 4, nil, false, (*fault).move},
		{"clone", 3, nil, false, (*fault).clone},
		{"rollback", 2, nil, false, (*fault).rollback},
		{"drain", 2, func(n string) bool { return !hasDisk(n) }, false, (*fault).drain},
		{"add", 2, nil, true, (*fault).add},
	}
}

// faults is the test: load, faults until the time is over, and then everything must come right.
func (t *thrash) faults() error {
	if err := errors.Join(t.up(), t.begin()); err != nil {
		return err
	}
	t.sleep(2 * time.Second)
	var err error
	switch t.o.lie {
	case "disk":
		err = t.forgetful()
	case "copies":
		err = t.spoiled()
	default:
		err = t.hurt()
	}
	if err := errors.Join(t.failed(), err); err != nil {
		return err
	}
	return t.converge()
}

// lanes are what is under way.
type lanes struct {
	mu     sync.Mutex
	wg     sync.WaitGroup
	kinds  map[string]bool
	nodes  map[string]bool
	failed error
}

func (b *lanes) busy(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kinds[name] || b.nodes[name]
}

// free tells whether another fault may begin; the error is that of one that failed.
func (b *lanes) free() (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.kinds) < 2, b.failed
}

// begin does a fault beside what is under way; alone, after that has ended, and until it has ended itself.
func (b *lanes) begin(k *kind, f *fault) {
	if k.alone {
		b.wg.Wait()
	}
	b.mu.Lock()
	b.kinds[k.name], b.nodes[f.node] = true, true
	b.mu.Unlock()
	b.wg.Go(func() {
		err := k.do(f)
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.kinds, k.name)
		delete(b.nodes, f.node)
		if err != nil {
			b.failed = errors.Join(b.failed, fmt.Errorf("%s %s: %w", f.name, f.node, err))
			f.say("FAILED: %v", err)
		}
	})
	if k.alone {
		b.wg.Wait()
	}
}

// hurt makes faults, two at a time at most, until the time is over, and waits for their ends.
func (t *thrash) hurt() error {
	b := &lanes{kinds: map[string]bool{}, nodes: map[string]bool{}}
	for end := time.Now().Add(time.Duration(t.o.seconds * float64(time.Second))); time.Now().Before(end) && t.ctx.Err() == nil && t.failed() == nil; {
		free, err := b.free()
		if err != nil {
			break
		}
		var k *kind
		var f *fault
		if free {
			k, f = t.choose(b.busy)
		}
		if k == nil {
			t.sleep(100 * time.Millisecond)
			continue
		}
		t.mu.Lock()
		t.count[k.name]++
		t.mu.Unlock()
		b.begin(k, f)
		t.sleep(time.Duration(t.r.IntN(4000)) * time.Millisecond)
	}
	b.wg.Wait()
	return errors.Join(b.failed, t.ctx.Err())
}

// choose takes a kind, and a node that nothing else is done to.
func (t *thrash) choose(busy func(string) bool) (*kind, *fault) {
	var list []kind
	total := 0
	for _, k := range kinds() {
		if t.o.only == "" || slices.Contains(strings.Split(t.o.only, ","), k.name) {
			list = append(list, k)
			total += k.weight
		}
	}
	at := t.r.IntN(total)
	i := slices.IndexFunc(list, func(k kind) bool { at -= k.weight; return at < 0 })
	k, f := list[i], &fault{t: t, r: rand.New(rand.NewPCG(t.r.Uint64(), 3)), name: list[i].name}
	if busy(k.name) {
		return nil, nil
	}
	nodes := t.nodes()
	switch {
	case k.name == "drain" && len(nodes) < 5, k.name == "add" && len(nodes) >= t.o.nodes+1:
		return nil, nil
	case k.on == nil:
		return &k, f
	}
	nodes = slices.DeleteFunc(nodes, func(n string) bool { return busy(n) || !k.on(n) })
	if len(nodes) == 0 {
		return nil, nil
	}
	f.node = nodes[t.r.IntN(len(nodes))]
	return &k, f
}

// start starts what does not run of the node.
func (f *fault) start() error {
	err := f.t.eventually(2*time.Minute, "node", "start", f.node).Err()
	f.say("runs again")
	return err
}

func (f *fault) kill() error {
	f.say("agent is killed")
	if err := f.t.eventually(time.Minute, "node", "kill", f.node).Err(); err != nil {
		return err
	}
	f.between(100*time.Millisecond, 8*time.Second)
	return f.start()
}

// power takes the node's agent and holder at once, and gives them back soon.
func (f *fault) power() error {
	return f.outage("loses its power", time.Second, 10*time.Second)
}

// away is a loss of power for so long that the node's copies are made elsewhere.
func (f *fault) away() error {
	return f.outage("is away for longer than the grace time", grace+10*time.Second, grace+20*time.Second)
}

// outage takes the node's agent and holder at once: its devices end, and its volumes go to others. It comes back between from and to later.
func (f *fault) outage(what string, from, to time.Duration) error {
	f.t.doom(f.node, true)
	defer f.t.doom(f.node, false)
	mine := f.hold()
	f.say("%s, with %d volumes", what, len(mine))
	err := f.t.eventually(time.Minute, "node", "kill", f.node, "--holder").Err()
	for _, l := range mine {
		err = errors.Join(err, f.takeOver(l))
	}
	if err != nil {
		return err
	}
	f.between(from, to)
	return f.start()
}

// hold tells the writers of the node that it will have no power.
func (f *fault) hold() (mine []*load) {
	for _, l := range f.t.loads {
		l.mu.Lock()
		if l.node == f.node {
			l.powerless.Store(true)
			mine = append(mine, l)
		}
		l.mu.Unlock()
	}
	return mine
}

// takeOver attaches a volume of a dead node elsewhere, and compares what is there.
func (f *fault) takeOver(l *load) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		_ = l.f.Close()
		l.f = nil
	}
	to := f.elsewhere(l.node)
	begin := time.Now()
	if err := l.attach(to, "--force"); err != nil {
		return err
	}
	l.powerless.Store(false)
	if err := l.recovered(); err != nil {
		f.t.broken(fmt.Errorf("volume %s on %s: %w", l.name, to, err))
		return nil
	}
	f.say("volume %s was taken over by %s and compared within %.1f s", l.name, to, time.Since(begin).Seconds())
	return nil
}

// elsewhere is a node that runs, other than one.
func (f *fault) elsewhere(not string) string {
	var nodes []string
	for _, s := range f.t.states() {
		if s.Answers && s.State == "active" && s.Name != not && !f.t.doomed(s.Name) {
			nodes = append(nodes, s.Name)
		}
	}
	if len(nodes) == 0 {
		return not
	}
	return nodes[f.r.IntN(len(nodes))]
}

// ways are the ways between the node and all others; from and to say which.
func (f *fault) ways(from, to bool) (out []string) {
	for i := 1; i <= f.t.o.nodes+4; i++ {
		if n := node(i); n != f.node {
			if from {
				out = append(out, f.node+">"+n)
			}
			if to {
				out = append(out, n+">"+f.node)
			}
		}
	}
	return out
}

func (f *fault) net(w way, ways []string, low, high time.Duration, what string) error {
	f.say("%s", what)
	f.t.proxies.set(w, f.r.IntN(3) == 0, ways...)
	d := f.between(low, high)
	f.t.proxies.set(way{}, false, ways...)
	f.say("network is well after %.1f s", d.Seconds())
	return nil
}

func (f *fault) cut() error {
	return f.net(way{cut: true}, f.ways(true, true), 2*time.Second, 20*time.Second, "is cut off")
}

func (f *fault) oneWay() error {
	out := f.r.IntN(2) == 0
	return f.net(way{cut: true}, f.ways(out, !out), 2*time.Second, 15*time.Second, map[bool]string{true: "is heard by nobody", false: "hears nobody"}[out])
}

func (f *fault) slowNet() error {
	w := way{delay: time.Duration(20+f.r.IntN(300)) * time.Millisecond}
	if f.r.IntN(2) == 0 {
		w = way{rate: float64(1+f.r.IntN(8)) * 1e6}
	}
	return f.net(w, f.ways(true, true), 4*time.Second, 15*time.Second, fmt.Sprintf("has a slow network: %s later, %.0f MB/s", w.delay, w.rate/1e6))
}

// slowDisk stops the node's file system for moments.
func (f *fault) slowDisk() error {
	dir := f.t.path(f.node, "store")
	f.say("disk stands still again and again")
	for range 2 + f.r.IntN(4) {
		if err := f.t.exec("fsfreeze", "-f", dir).Err(); err != nil {
			return err
		}
		f.between(300*time.Millisecond, 2500*time.Millisecond)
		if err := f.t.exec("fsfreeze", "-u", dir).Err(); err != nil {
			return err
		}
		f.between(100*time.Millisecond, 1500*time.Millisecond)
	}
	f.say("disk is well")
	return nil
}

// fill leaves no byte to the node's store.
func (f *fault) fill() error {
	file := f.t.path(f.node, "store", ballast)
	f.say("disk is filled by something else")
	for size := int64(diskMiB) << 20; size > 4096; size /= 2 { // as much as there is
		for f.t.exec("fallocate", "-o", fmt.Sprint(sizeOf(file)), "-l", fmt.Sprint(size), file).Code == 0 && f.t.ctx.Err() == nil {
		}
	}
	f.between(3*time.Second, 15*time.Second)
	err := os.Remove(file)
	f.say("disk has room again")
	return err
}

func sizeOf(file string) int64 {
	st, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return st.Size()
}

// rot inverts bits of closed extents, and has every volume scrubbed: after that nothing is wrong any more.
func (f *fault) rot() error {
	n, err := f.t.spoil(f.node, 1+f.r.IntN(12), f.r)
	if err != nil {
		return err
	}
	f.say("has %d flipped bits", n)
	for _, l := range f.t.loads {
		c, err := f.t.check("volume", "scrub", l.name)
		if err != nil {
			return err
		}
		if c.Errors > 0 {
			f.say("scrub of %s: %d errors, %d repaired", l.name, c.Errors, c.Repaired)
		}
		if c, err = f.t.check("volume", "scrub", l.name); err != nil || c.Errors > 0 {
			f.t.broken(fmt.Errorf("scrub of %s finds %d errors after it has repaired: %w", l.name, c.Errors, err))
		}
	}
	return nil
}

// spoil inverts a bit in some pages of closed extents of a node.
func (t *thrash) spoil(node string, n int, r *rand.Rand) (done int, err error) {
	footers, err := filepath.Glob(t.path(node, "store", "ext", "*", "*.ftr"))
	if err != nil || len(footers) == 0 {
		return 0, err
	}
	for range 50 * n {
		if done == n {
			break
		}
		name := strings.TrimSuffix(footers[r.IntN(len(footers))], "ftr") + "dat"
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			continue // it was freed
		}
		off := r.Int64N(max(sizeOf(name), 1))
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, off); err == nil && b[0] != 0 {
			b[0] ^= 1 << r.IntN(8)
			if _, err := f.WriteAt(b, off); err == nil {
				done++
			}
		}
		_ = f.Close()
	}
	return done, nil
}
