package fuse

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/uring"
)

const (
	// maxRings bounds the threads of one volume: the kernel has a queue for each CPU that there may be, and a ring serves
	// several of them.
	maxRings = 4
	// maxEntries bounds the entries of a ring, below what the kernel takes (32768), on machines of thousands of CPUs.
	maxEntries = 16 << 10
	// entrySlot is the room of an entry's header and of the iovecs that register it.
	entrySlot = 512
	iovAt     = entrySlot - 2*int(unsafe.Sizeof(iovec{}))
	// bell is the completion that wakes a ring's thread; entry i is i+1.
	bell = 0
	// trimAfter is how long a ring must be without work before the pages of large requests are given back, in ns.
	trimAfter = 1e9
)

// entry is a place in which one request after the other is exchanged with the kernel.
type entry struct {
	ring    *ring
	number  uint64
	qid     uint16
	h       *uringHeader
	payload []byte // MaxIO
	j       job
	done    finished
}

// finished is how a worker has left an entry.
type finished struct {
	errno    syscall.Errno
	n        int
	accepted bool
}

var _ exchange = (*entry)(nil)

// ring is one thread's io_uring, its entries, and what workers hand back to it.
type ring struct {
	s       *Server
	u       *uring.Ring // the thread's
	fd      int         // eventfd: the bell
	mem     []byte
	rung    []byte // where the bell's counter is read
	entries []entry

	accepted []export.RequestID // of the answers that the kernel has not been told of
	alive    int                // entries that the kernel knows
	large    bool               // a payload beyond smallBuf was used since the last trim

	mu     sync.Mutex
	done   []*entry // from workers
	asleep atomic.Bool
}

// possibleCPUs is the number of queues that the kernel wants: one for each CPU that there may ever be.
func possibleCPUs() (int, error) {
	b, err := os.ReadFile("/sys/devices/system/cpu/possible")
	if err != nil {
		return 0, fmt.Errorf("%w: count the CPUs: %w", uring.ErrUnavailable, err)
	}
	return parseCPUs(strings.TrimSpace(string(b)))
}

// parseCPUs gives the number after the highest in a list such as 0-3,8-11.
func parseCPUs(list string) (int, error) {
	last := list[strings.LastIndexAny(list, ",-")+1:]
	n, err := strconv.Atoi(last)
	if err != nil || n < 0 || n >= 1<<16-1 {
		return 0, fmt.Errorf("%w: count the CPUs: %q", uring.ErrUnavailable, list)
	}
	return n + 1, nil
}

// newRing makes the buffers of the entries of queues first, first+step, … below queues. What belongs to the thread is made by open.
func newRing(s *Server, first, step, queues int) (r *ring, err error) {
	r = &ring{s: s, fd: -1}
	served := (queues - first + step - 1) / step
	each := max(1, min(s.opt.Entries, maxEntries/served))
	n := served * each
	heads := pageSize + (n*entrySlot+pageSize-1)/pageSize*pageSize
	if r.mem, err = unix.Mmap(-1, 0, heads+n*MaxIO, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE); err != nil {
		return nil, fmt.Errorf("%w: address space for %d buffers: %w", uring.ErrUnavailable, n, err)
	}
	if r.fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		r.free()
		return nil, fmt.Errorf("%w: make an eventfd: %w", uring.ErrUnavailable, err)
	}
	r.rung = r.mem[:8]
	r.entries = make([]entry, n)
	r.done, r.accepted = make([]*entry, 0, n), make([]export.RequestID, 0, n)
	for i := range r.entries {
		slot := r.mem[pageSize+i*entrySlot:][:entrySlot]
		r.entries[i] = entry{
			ring: r, number: uint64(i + 1), qid: uint16(first + i/each*step),
			h: (*uringHeader)(ptr(slot)), payload: r.mem[heads+i*MaxIO:][:MaxIO:MaxIO],
		}
		iov := (*[2]iovec)(ptr(slot[iovAt:]))
		iov[0] = iovec{uint64(uintptr(ptr(slot))), uint64(unsafe.Sizeof(uringHeader{}))}
		iov[1] = iovec{uint64(uintptr(ptr(r.entries[i].payload))), MaxIO}
	}
	return r, nil
}

func (r *ring) free() {
	if r.u != nil {
		_ = r.u.Close()
	}
	if r.fd >= 0 {
		_ = unix.Close(r.fd)
	}
	_ = unix.Munmap(r.mem)
}

// open makes the kernel's ring, which belongs to the calling thread from then on.
func (r *ring) open() (err error) {
	r.u, err = uring.New(len(r.entries) + 1)
	return err
}

// register gives all entries to the kernel, which must have been told in INIT's answer. An error means that the kernel goes
// on with /dev/fuse.
func (r *ring) register() error {
	for i := range r.entries {
		e := &r.entries[i]
		e.submit(cmdRegister, uintptr(unsafe.Pointer(e.h))+uintptr(iovAt), 2)
	}
	r.u.Read(r.fd, r.rung, bell)
	for r.u.Pending() > 0 {
		if err := r.u.Enter(false, 0); err != nil {
			return err
		}
	}
	r.alive = len(r.entries)
	if c, ok := r.u.Next(); ok { // nothing is asked of the kernel before all rings are registered: this is a refusal
		return fmt.Errorf("register with FUSE over io_uring: %w", syscall.Errno(-c.Res))
	}
	return nil
}

// submit submits a command for the entry. There is always room: an entry has one at a time.
func (e *entry) submit(code uint32, addr uintptr, n uint32) {
	c := (*uringCmd)(ptr(e.ring.u.Command(e.ring.s.fd, code, addr, n, e.number)))
	c.qid, c.commitID = e.qid, e.h.ent.commitID
}

// loop serves until the kernel has given up all entries.
func (r *ring) loop() error {
	for r.alive > 0 {
		if err := r.flush(); err != nil {
			return err
		}
		if err := r.sleep(); err != nil {
			return err
		}
		for {
			c, ok := r.u.Next()
			if !ok {
				break
			}
			r.complete(c)
		}
		r.collect()
	}
	return r.flush()
}

// flush hands over the answers to changes and tells the backend of them, before anything waits. Other answers may wait for
// the next Enter, which is at once.
func (r *ring) flush() error {
	if len(r.accepted) == 0 {
		return nil
	}
	for r.u.Pending() > 0 {
		if err := r.u.Enter(false, 0); err != nil {
			return err
		}
	}
	for _, id := range r.accepted {
		r.s.back.Answered(id)
	}
	r.accepted = r.accepted[:0]
	return nil
}

// sleep hands over what there is and waits for the next completion.
func (r *ring) sleep() error {
	r.asleep.Store(true)
	r.mu.Lock()
	wait := len(r.done) == 0
	r.mu.Unlock()
	var limit int64
	if r.large {
		limit = trimAfter
	}
	err := r.u.Enter(wait, limit)
	r.asleep.Store(false)
	if errors.Is(err, unix.ETIME) {
		r.trim()
		return nil
	}
	return err
}

// trim gives back the pages of payloads, after large requests were there. The kernel fills payloads inside this thread's Enter alone, so
// no request is under way in the entries that workers do not have.
func (r *ring) trim() {
	for i := range r.entries {
		if e := &r.entries[i]; e.j.ent == nil {
			_ = unix.Madvise(e.payload, unix.MADV_DONTNEED)
		}
	}
	r.large = false
}

// complete deals with one completion: a request, or the end of an entry.
func (r *ring) complete(c uring.Completion) {
	if c.Data == bell {
		r.u.Read(r.fd, r.rung, bell)
		return
	}
	e := &r.entries[c.Data-1]
	if c.Res < 0 { // the connection has ended
		r.alive--
		return
	}
	if e.h.ent.payloadSz > smallBuf {
		r.large = true
	}
	r.s.dispatch(e, e.request())
}

// collect answers what workers have done.
func (r *ring) collect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.done {
		id := e.j.id
		e.j.ent = nil
		e.commit(e.j.unique, e.done.errno, e.done.n)
		if e.done.accepted {
			e.answered(id)
		}
	}
	r.done = r.done[:0]
}

// finish takes an entry back from a worker.
func (r *ring) finish(e *entry, errno syscall.Errno, n int, accepted bool) {
	e.done = finished{errno, n, accepted}
	r.mu.Lock()
	r.done = append(r.done, e)
	r.mu.Unlock()
	if r.asleep.CompareAndSwap(true, false) {
		one := [8]byte{1}
		_, _ = unix.Write(r.fd, one[:]) // fails only if the counter is near 2^64
	}
}

// request is a view of what the kernel has put into the entry.
func (e *entry) request() request {
	q := request{head: e.h.inOut[:inHeader], data: e.payload[:min(e.h.ent.payloadSz, MaxIO)]}
	q.arg = e.h.opIn[:argSize(q.op())]
	return q
}

// commit submits the answer.
func (e *entry) commit(unique uint64, errno syscall.Errno, n int) {
	if n > smallBuf {
		e.ring.large = true
	}
	putHeader(e.h.inOut[:], unique, errno, n)
	e.h.ent.payloadSz = uint32(n)
	e.submit(cmdCommit, 0, 0)
}

// room implements exchange.
func (e *entry) room(n int) []byte { return e.payload[:n] }

// reply implements exchange.
func (e *entry) reply(q request, errno syscall.Errno, n int) {
	if errno != 0 {
		n = 0
	}
	e.commit(q.unique(), errno, n)
}

// answered implements exchange.
func (e *entry) answered(id export.RequestID) { e.ring.accepted = append(e.ring.accepted, id) }

// turn implements exchange: see fsync.
func (e *entry) turn(request, int) export.Turn { return nil }

// lost implements exchange.
func (e *entry) lost() bool { return false }

// fsync implements exchange. This thread must not wait: nobody else serves its CPUs' queues.
func (e *entry) fsync(q request) { e.ring.s.later(e.job(q, 0)) }

// job implements exchange: the entry stays the request's until it is answered.
func (e *entry) job(q request, n int) *job {
	e.j = job{op: q.op(), unique: q.unique(), id: q.id(e.ring.s.conn), size: n, ent: e}
	return &e.j
}

// serve is a ring's thread. It reports on opened whether there is a ring at all, waits for begin, and registers.
func (r *ring) serve(opened chan<- error, begin <-chan bool) {
	defer r.s.leave()
	defer r.free()
	runtime.LockOSThread()
	r.s.mark()
	err := r.open()
	opened <- err
	if err != nil || !<-begin {
		return
	}
	err = r.register()
	r.s.registered(err)
	if err == nil {
		r.s.fail(r.loop())
	}
}
