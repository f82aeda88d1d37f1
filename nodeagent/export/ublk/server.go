package ublk

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/uring"
)

// MaxIO is the greatest length of one read or write, in bytes; the kernel splits what is longer and keeps the parts in flight together.
const MaxIO = 256 << 10

const (
	maxDepth = 4096
	// smallMemory is how much of the tags' buffers stays in memory while the device is idle, in bytes.
	smallMemory = 256 << 10
	// trimAfter is how long the thread must be without work before the buffers' pages are given back, in ns.
	trimAfter = 1e9
	// bell is the completion that wakes the thread; that of tag i is i+1.
	bell = 0
)

// ring is an io_uring of the serving thread. See uring.Ring.
type ring interface {
	Command(fd int, code uint32, addr uintptr, n uint32, data uint64) []byte
	Read(fd int, p []byte, data uint64) bool
	Pending() int
	Enter(wait bool, limit int64) error
	Next() (uring.Completion, bool)
	Close() error
}

var _ ring = (*uring.Ring)(nil)

// tag is one place for a request under way.
type tag struct {
	n      int
	buf    []byte // MaxIO; the kernel copies writes to it and reads from it, inside the thread's Enter
	resent bool   // a former server left its request unanswered, and it has not come again
	known  bool   // the backend had accepted it
	high   int    // of buf that was used since the last trim, in bytes
	job    *job
}

// answer is one to a change, which the kernel has not been told of.
type answer struct {
	tag      int
	id       export.RequestID
	accepted bool
}

// server answers the requests of one device.
type server struct {
	fd    int // /dev/ublkcN
	back  export.Backend
	table *table
	open  func(entries int) (ring, error)

	u       ring // the thread's
	descs   []byte
	mem     []byte
	scratch []byte // what is written to a device that is cut off
	tags    []tag
	answers []answer // of changes
	alive   int      // tags that the kernel knows
	used    int      // sum of high
	bellFD  int
	started bool
	rung    []byte
	cut     bool // the thread has seen aborted

	mu      sync.Mutex
	done    []*job // from workers
	asleep  atomic.Bool
	aborted atomic.Bool
	halted  atomic.Bool

	work    chan *job    // to idle workers; never buffered
	live    atomic.Int32 // the thread, and jobs that are under way
	ended   chan struct{}
	emu     sync.Mutex
	err     error
	flusher error // set before the thread is ready
}

// newServer makes a server with a tag for each of the table's. descs is the mapped memory of the kernel's requests. The server owns fd, descs
// and table once start has succeeded, and gives them back with free.
func newServer(fd int, descs []byte, b export.Backend, t *table) (s *server, err error) {
	n := t.tags()
	s = &server{
		fd: fd, descs: descs, back: b, table: t, bellFD: -1, tags: make([]tag, n), answers: make([]answer, 0, n), done: make([]*job, 0, n),
		work: make(chan *job), ended: make(chan struct{}),
		open: func(entries int) (ring, error) { return uring.New(entries) },
	}
	page := os.Getpagesize()
	const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE
	if s.mem, err = unix.Mmap(-1, 0, page+(n+1)*MaxIO, prot, flags); err != nil {
		return nil, fmt.Errorf("address space for %d buffers: %w", n, err)
	}
	_ = unix.Madvise(s.mem, unix.MADV_NOHUGEPAGE) // a huge page would come for each small request, and stay; EINVAL: there are none
	if s.bellFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		_ = unix.Munmap(s.mem)
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	s.rung, s.scratch = s.mem[:8], s.mem[page+n*MaxIO:]
	for i := range s.tags {
		s.tags[i] = tag{n: i, buf: s.mem[page+i*MaxIO:][:MaxIO:MaxIO], job: &job{tag: i}}
	}
	return s, nil
}

// free gives back what the server has, once it has ended or if it was not started.
func (s *server) free() {
	_ = unix.Close(s.bellFD)
	_ = unix.Munmap(s.mem)
}

// recover asks the backend for all requests that a former server has left unanswered. tagsKept tells that the kernel sends them under the tags
// that they had.
func (s *server) recover(tagsKept bool) {
	var lost []export.RequestID
	for i := range s.tags {
		t := &s.tags[i]
		id, ok := s.table.unanswered(i)
		if !ok {
			continue
		}
		switch known := s.back.Accepted(id); {
		case tagsKept:
			t.resent, t.known = true, known
		case known: // it comes under another tag, as a new one
			lost = append(lost, id)
		}
	}
	s.back.Resent()
	for _, id := range lost {
		s.back.Answered(id)
	}
}

// start starts the thread and returns when the kernel has all tags.
func (s *server) start() error {
	ready := make(chan error, 1)
	s.started = true
	s.live.Add(1)
	go func() {
		defer s.leave()
		runtime.LockOSThread() // for good: the thread ends with the goroutine, and its flag with it
		s.flusher = unix.Prctl(unix.PR_SET_IO_FLUSHER, 1, 0, 0, 0)
		err := s.fetch()
		if s.u != nil {
			defer s.u.Close()
		}
		ready <- err
		if err == nil {
			s.fail(s.loop())
		}
	}()
	return <-ready
}

// fetch makes the ring and asks for the first request of each tag.
func (s *server) fetch() error {
	u, err := s.open(len(s.tags) + 1)
	if err != nil {
		return err
	}
	s.u = u
	for i := range s.tags {
		s.submit(&s.tags[i], ioFetch, 0)
	}
	s.u.Read(s.bellFD, s.rung, bell)
	if err := s.hand(); err != nil {
		return err
	}
	s.alive = len(s.tags)
	if c, ok := s.u.Next(); ok { // no request comes before the device is started: this is a refusal
		return fmt.Errorf("fetch from the ublk device: %w", syscall.Errno(-c.Res))
	}
	return nil
}

// submit submits a command of a tag. There is always room: a tag has one at a time.
func (s *server) submit(t *tag, code uint32, result int32) {
	c := (*tagCmd)(unsafe.Pointer(unsafe.SliceData(s.u.Command(s.fd, code, 0, 0, uint64(t.n+1)))))
	*c = tagCmd{tag: uint16(t.n), result: result, addr: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(t.buf))))}
}

// hand hands all submissions to the kernel, without waiting.
func (s *server) hand() error {
	for {
		if err := s.u.Enter(false, 0); err != nil || s.u.Pending() == 0 {
			return err
		}
	}
}

// loop serves until the kernel has given up all tags.
func (s *server) loop() error {
	for s.alive > 0 && !s.halted.Load() {
		if err := s.flush(); err != nil {
			return err
		}
		if err := s.sleep(); err != nil {
			return err
		}
		for {
			c, ok := s.u.Next()
			if !ok {
				break
			}
			s.complete(c)
		}
		s.collect()
	}
	return nil
}

// flush hands over the answers to changes and tells table and backend of them, before anything waits. Other answers may wait for the next
// Enter, which is at once.
func (s *server) flush() error {
	if len(s.answers) == 0 {
		return nil
	}
	for i := range s.answers {
		s.table.end(s.answers[i].tag) // before: see the package's invariants
	}
	if err := s.hand(); err != nil {
		return err
	}
	for i := range s.answers {
		if a := &s.answers[i]; a.accepted {
			s.back.Answered(a.id)
		}
	}
	s.answers = s.answers[:0]
	return nil
}

// sleep hands over what there is and waits for the next completion.
func (s *server) sleep() error {
	s.asleep.Store(true)
	s.mu.Lock()
	wait := len(s.done) == 0 && s.aborted.Load() == s.cut && !s.halted.Load()
	s.mu.Unlock()
	var limit int64
	if s.used > smallMemory {
		limit = trimAfter
	}
	err := s.u.Enter(wait, limit)
	s.asleep.Store(false)
	if errors.Is(err, unix.ETIME) {
		s.trim()
		return nil
	}
	return err
}

// trim gives back the pages of buffers that no worker has: the kernel uses them inside this thread's Enter alone.
func (s *server) trim() {
	s.used = 0
	for i := range s.tags {
		t := &s.tags[i]
		if t.high > 0 && !t.job.busy {
			_ = unix.Madvise(t.buf, unix.MADV_DONTNEED)
			t.high = 0
		}
	}
}

// complete deals with one completion: a request, or the end of a tag.
func (s *server) complete(c uring.Completion) {
	if c.Data == bell {
		s.u.Read(s.bellFD, s.rung, bell)
		return
	}
	if c.Res < 0 {
		s.alive--
		if e := syscall.Errno(-c.Res); e != unix.ENODEV { // that one: the device is stopped
			s.fail(fmt.Errorf("tag %d of the ublk device: %w", c.Data-1, e))
		}
		return
	}
	t := &s.tags[c.Data-1]
	s.dispatch(t, (*ioDesc)(unsafe.Pointer(&s.descs[t.n*int(unsafe.Sizeof(ioDesc{}))])))
}

// ring rings the bell, if the thread sleeps.
func (s *server) ring() {
	if s.asleep.CompareAndSwap(true, false) {
		one := [8]byte{1}
		_, _ = unix.Write(s.bellFD, one[:]) // fails only if the counter is near 2^64
	}
}

// abort has all requests fail with EIO, those that wait and those to come.
func (s *server) abort() {
	s.aborted.Store(true)
	s.ring()
}

// halt ends the thread as its death would: the kernel's device stays, and its requests wait for the next server.
func (s *server) halt() {
	s.halted.Store(true)
	s.ring()
}

// leave ends the thread or a job. With the last of them nothing uses the server any more.
func (s *server) leave() {
	if s.live.Add(-1) > 0 {
		return
	}
	for _, j := range s.done { // their requests were failed before, and do not come again
		if j.accepted && !s.halted.Load() {
			s.back.Answered(j.id)
		}
	}
	close(s.ended)
}

func (s *server) fail(err error) {
	s.emu.Lock()
	defer s.emu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *server) failure() error {
	s.emu.Lock()
	defer s.emu.Unlock()
	return s.err
}
