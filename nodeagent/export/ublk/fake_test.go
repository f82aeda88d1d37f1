package ublk

import (
	"testing"
	"time"
	"unsafe"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
	"mynetwork.io/mynetwork/nodeagent/export/uring"
)

const mib = 1 << 20

// kernel is the driver's side of a device, as far as a server sees it: a scripted fake.
type kernel struct {
	tb    testing.TB
	descs []ioDesc
	s     *server

	queue   []submission          // what the server has not handed over
	cqes    chan uring.Completion // to the server
	replies chan reply            // commits
	buf     [][]byte              // of each tag, as the server gave it
	handed  func()                // called before commits become visible
}

type submission struct {
	code uint32
	cmd  []byte
	data uint64
}

type reply struct {
	tag    int
	result int32
}

const tags = 4

// newKernel serves b with table t against a fake, and fetches all tags.
func newKernel(tb testing.TB, b export.Backend, t *table, prepare func(s *server)) *kernel {
	tb.Helper()
	k := &kernel{tb: tb, descs: make([]ioDesc, tags), cqes: make(chan uring.Completion, 64), replies: make(chan reply, 64), buf: make([][]byte, tags)}
	s, err := newServer(-1, unsafe.Slice((*byte)(unsafe.Pointer(&k.descs[0])), tags*int(unsafe.Sizeof(ioDesc{}))), b, t)
	if err != nil {
		tb.Fatal(err)
	}
	k.s = s
	s.open = func(int) (ring, error) { return &fakeRing{kernel: k}, nil }
	prepare(s)
	if err := s.start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(k.stop)
	return k
}

// stop ends all tags as the kernel does for a device that is stopped.
func (k *kernel) stop() {
	select {
	case <-k.s.ended:
		return
	default:
	}
	for i := range tags {
		k.cqes <- uring.Completion{Data: uint64(i + 1), Res: -19}
	}
	<-k.s.ended
	k.s.free()
}

// send gives a request to the server.
func (k *kernel) send(tag int, opFlags uint32, off, n int64) {
	k.descs[tag] = ioDesc{opFlags: opFlags, sectors: uint32(n >> sectorLog), start: uint64(off) >> sectorLog}
	k.cqes <- uring.Completion{Data: uint64(tag + 1)}
}

// write sends a write of a block of c.
func (k *kernel) write(tag int, c byte, off int64) {
	for i := range export.BlockSize {
		k.buf[tag][i] = c
	}
	k.send(tag, opWrite, off, export.BlockSize)
}

// answer waits for the next commit.
func (k *kernel) answer() reply {
	k.tb.Helper()
	select {
	case r := <-k.replies:
		return r
	case <-time.After(20 * time.Second): // only a failed test waits so long
		k.tb.Fatal("no answer")
		return reply{}
	}
}

func (k *kernel) mustAnswer(tag int, result int32) {
	k.tb.Helper()
	if r := k.answer(); r.tag != tag || r.result != result {
		k.tb.Fatalf("answer %+v, want tag %d with %d", r, tag, result)
	}
}

type fakeRing struct {
	*kernel
	ready []uring.Completion
}

func (r *fakeRing) Command(_ int, code uint32, _ uintptr, _ uint32, data uint64) []byte {
	cmd := make([]byte, uring.CmdSize)
	r.queue = append(r.queue, submission{code, cmd, data})
	return cmd
}

func (r *fakeRing) Read(int, []byte, uint64) bool { return true }
func (r *fakeRing) Pending() int                  { return len(r.queue) }
func (r *fakeRing) Close() error                  { return nil }

func (r *fakeRing) Enter(wait bool, limit int64) error {
	for _, q := range r.queue {
		c := (*tagCmd)(unsafe.Pointer(&q.cmd[0]))
		if q.data != uint64(c.tag)+1 {
			r.tb.Errorf("tag %d with data %d", c.tag, q.data)
		}
		r.buf[c.tag] = unsafe.Slice((*byte)(unsafe.Add(nil, uintptr(c.addr))), MaxIO)
		if q.code == ioCommit {
			if r.handed != nil {
				r.handed()
			}
			r.replies <- reply{int(c.tag), c.result}
		}
	}
	r.queue = r.queue[:0]
	if !wait {
		return nil
	}
	select {
	case c := <-r.cqes:
		r.ready = append(r.ready, c)
	case <-time.After(time.Millisecond): // the bell, and a time that has passed
	}
	return nil
}

func (r *fakeRing) Next() (uring.Completion, bool) {
	if len(r.ready) == 0 {
		return uring.Completion{}, false
	}
	c := r.ready[0]
	r.ready = r.ready[1:]
	return c, true
}

func fresh(tb testing.TB) *table {
	tb.Helper()
	t, err := newTable([16]byte{1, 2, 3}, tags)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(t.close)
	return t
}

func begin(m *exporttest.Memory) func(s *server) { return func(*server) { m.Resent() } }
