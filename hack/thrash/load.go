package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	page      = 4096
	loadPages = 8192
	mostPages = 16 // of one write
)

// load is a volume with a writer that knows what it must hold. Every page says of which write it is.
type load struct {
	t    *thrash
	name string
	salt uint64
	r    *rand.Rand

	written, read, syncs atomic.Int64
	longest              atomic.Int64 // nanoseconds between two answers
	powerless            atomic.Bool  // its node has no power: errors are expected, and what was not synced may be lost
	stop                 atomic.Bool
	ended                chan struct{}

	mu     sync.Mutex // held over each step, and while the volume is somewhere else
	node   string
	f      *os.File // nil: not attached
	next   uint64
	synced []uint64         // by page: the version that is there at least
	later  map[int][]uint64 // versions written after it, in order, the last of which is there while the node has power
	buf    []byte
}

func (t *thrash) newLoad(name string, salt uint64) *load {
	return &load{t: t, name: name, salt: salt, r: rand.New(rand.NewPCG(t.o.seed, salt)), synced: make([]uint64, loadPages), later: map[int][]uint64{}, ended: make(chan struct{}), buf: aligned(mostPages * page)}
}

// aligned is memory for direct I/O.
func aligned(n int) []byte {
	b := make([]byte, n+page)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (page - 1))
	return b[skip : skip+n : skip+n]
}

// stamp fills a page; version 0 is a page that was never written.
func stamp(b []byte, at int, version, salt uint64) {
	if version == 0 {
		clear(b)
		return
	}
	x := version*0x9e3779b97f4a7c15 ^ salt<<32 ^ uint64(at)
	for i := 0; i < len(b); i += 16 {
		x = x*6364136223846793005 + 1442695040888963407
		binary.LittleEndian.PutUint64(b[i:], version)
		binary.LittleEndian.PutUint64(b[i+8:], x)
	}
}

// attach makes the volume a device of a node and opens it. The caller holds mu.
func (l *load) attach(on string, more ...string) error {
	o := l.t.eventually(4*time.Minute, append([]string{"volume", "attach", l.name, "--node", on, "-o", "json"}, more...)...)
	if err := o.Err(); err != nil {
		return err
	}
	var v struct{ Device string }
	if err := json.Unmarshal([]byte(o.Stdout), &v); err != nil || v.Device == "" {
		return fmt.Errorf("attach %s to %s printed no device: %q", l.name, on, o.Stdout)
	}
	f, err := os.OpenFile(v.Device, os.O_RDWR|syscall.O_DIRECT, 0)
	if err != nil {
		return err
	}
	l.f, l.node = f, on
	return nil
}

// detach waits for everything to be durable and ends the device. The caller holds mu.
func (l *load) detach() error {
	_ = l.f.Close()
	l.f = nil
	if err := l.t.eventually(4*time.Minute, "volume", "detach", l.name, "--node", l.node).Err(); err != nil {
		return err
	}
	l.settle()
	return nil
}

// away tells that the volume is nowhere at the moment, or where there is no power any more. The caller holds mu.
func (l *load) away() bool { return l.f == nil || l.powerless.Load() }

// settle notes that all that was written is durable.
func (l *load) settle() {
	for p, list := range l.later {
		l.synced[p] = list[len(list)-1]
	}
	clear(l.later)
}

// run writes, reads and syncs until stop. A promise that is seen broken ends it.
func (l *load) run() {
	defer close(l.ended)
	last := time.Now()
	for n := 1; !l.stop.Load(); n++ {
		l.mu.Lock()
		if l.f == nil {
			l.mu.Unlock()
			time.Sleep(50 * time.Millisecond)
			last = time.Now()
			continue
		}
		err := l.step(n%12 == 0)
		if err != nil {
			_ = l.f.Close()
			l.f = nil
			if !l.powerless.Load() {
				l.t.broken(fmt.Errorf("volume %s on %s: %w", l.name, l.node, err))
				l.stop.Store(true)
			}
		}
		l.mu.Unlock()
		now := time.Now()
		l.longest.Store(max(l.longest.Load(), int64(now.Sub(last))))
		last = now
		time.Sleep(3 * time.Millisecond)
	}
}

// step writes a run of pages, compares another, and with sync has everything made durable.
func (l *load) step(sync bool) error {
	n := 1 + l.r.IntN(mostPages)
	at := l.r.IntN(loadPages - n)
	l.next++
	for i := range n {
		stamp(l.buf[i*page:][:page], at+i, l.next, l.salt)
		l.later[at+i] = append(l.later[at+i], l.next)
	}
	if _, err := l.f.WriteAt(l.buf[:n*page], int64(at)*page); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	l.written.Add(int64(n) * page)
	at = l.r.IntN(loadPages - mostPages)
	if err := l.compare(at, mostPages, l.present); err != nil {
		return err
	}
	if !sync {
		return nil
	}
	if err := l.f.Sync(); err != nil {
		return fmt.Errorf("fsync: %w", err)
	}
	l.settle()
	l.syncs.Add(1)
	return nil
}

// present is what a page must be as long as the node has power.
func (l *load) present(at int, version uint64) bool {
	if list := l.later[at]; len(list) > 0 {
		return version == list[len(list)-1]
	}
	return version == l.synced[at]
}

// survivor is what a page may be after a power cut.
func (l *load) survivor(at int, version uint64) bool {
	return version == l.synced[at] || slices.Contains(l.later[at], version)
}

// compare reads pages and asks of each whether it may be of the version that it says, and whole.
func (l *load) compare(at, n int, may func(at int, version uint64) bool) error {
	b, want := l.buf[:n*page], make([]byte, page)
	if _, err := l.f.ReadAt(b, int64(at)*page); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	for i := range n {
		p := b[i*page:][:page]
		v := binary.LittleEndian.Uint64(p)
		stamp(want, at+i, v, l.salt)
		if !may(at+i, v) || !bytes.Equal(p, want) {
			return fmt.Errorf("page %d says that it is of write %d, and is whole %v; synced is %d, written since %v", at+i, v, bytes.Equal(p, want), l.synced[at+i], l.later[at+i])
		}
	}
	l.read.Add(int64(n) * page)
	return nil
}

// all compares every page.
func (l *load) all(may func(at int, version uint64) bool) error {
	for at := 0; at < loadPages; at += mostPages {
		if err := l.compare(at, mostPages, may); err != nil {
			return err
		}
	}
	return nil
}

// recovered compares every page after a power cut, and takes what is there for what has to be there.
func (l *load) recovered() error {
	found := make([]uint64, loadPages)
	if err := l.all(func(at int, v uint64) bool { found[at] = v; return l.survivor(at, v) }); err != nil {
		return fmt.Errorf("after a power cut: %w", err)
	}
	clear(l.later)
	copy(l.synced, found)
	return nil
}

// close ends the writer and gives the device back.
func (l *load) close() {
	l.end()
	if l.mu.TryLock() {
		defer l.mu.Unlock()
		if l.f != nil {
			_ = l.f.Close()
			l.f = nil
		}
	}
}

// end stops the writer. It may wait for an answer.
func (l *load) end() {
	if l.stop.Swap(true) {
		return
	}
	select {
	case <-l.ended:
	case <-time.After(time.Minute):
		l.t.story.say("thrash", "the writer of %s does not end", l.name)
	}
}

// begin creates the volumes and starts their writers.
func (t *thrash) begin() error {
	for i := range t.o.volumes {
		l := t.newLoad(fmt.Sprint("v", i+1), uint64(i+1))
		l.mu.Lock()
		err := t.my("volume", "create", l.name, "--size", fmt.Sprint(loadPages*page), "--extent-size", "4Mi").Err()
		err = errors.Join(err, l.attach(node(1+i%t.o.nodes)))
		l.mu.Unlock()
		if err != nil {
			return err
		}
		t.loads = append(t.loads, l)
		go l.run()
	}
	return nil
}
