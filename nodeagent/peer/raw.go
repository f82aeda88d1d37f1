package peer

import (
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// rawConn lies between TLS and the socket. Once async, a Write never blocks: what the kernel does not take is kept, and
// drain sends it. So a goroutine that must not wait for the other side can still seal and send by itself.
//
// TLS writes each record by itself. As long as more of a chunk is to come, or another chunk, the kernel is told so: it sends them as a
// whole, and the other side is woken once for it.
type rawConn struct {
	net.Conn
	beforeRead func() // runs before each read from the socket, which may block

	sys   syscall.RawConn // nil: the connection has no descriptor, and all goes through drain
	tryFn func(fd uintptr) bool

	mu     sync.Mutex
	async  bool
	rest   []byte // sealed, not yet sent
	spare  []byte
	left   int    // bytes of the chunk that TLS has not written yet, and one if another chunk follows
	try    []byte // argument of tryFn
	tryN   int
	tryErr error
}

func newRawConn(c net.Conn) *rawConn {
	r := &rawConn{Conn: c, beforeRead: func() {}}
	if sc, ok := c.(syscall.Conn); ok {
		if sys, err := sc.SyscallConn(); err == nil {
			r.sys = sys
		}
	}
	r.tryFn = func(fd uintptr) bool {
		for {
			flags := unix.MSG_NOSIGNAL
			if r.left > 0 {
				flags |= unix.MSG_MORE
			}
			r.tryN, r.tryErr = unix.SendmsgN(int(fd), r.try, nil, nil, flags)
			if r.tryErr != syscall.EINTR {
				return true
			}
		}
	}
	return r
}

// Read implements net.Conn.
func (r *rawConn) Read(p []byte) (int, error) {
	r.beforeRead()
	return r.Conn.Read(p)
}

// unread is how many bytes the kernel has that were not read yet, as far as that is known.
func (r *rawConn) unread() (n int) {
	if r.sys == nil {
		return 0
	}
	err := r.sys.Control(func(fd uintptr) {
		var err error
		if n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ); err != nil {
			n = 0
		}
	})
	if err != nil {
		return 0
	}
	return n
}

// Write implements net.Conn.
func (r *rawConn) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.async {
		return r.Conn.Write(p)
	}
	n := 0
	r.left -= len(p) - recordCost
	if len(r.rest) == 0 && r.sys != nil {
		r.try = p
		err := r.sys.Write(r.tryFn)
		r.try = nil
		if err == nil && r.tryErr != syscall.EAGAIN {
			err = r.tryErr
		}
		if err != nil {
			return 0, err
		}
		n = max(r.tryN, 0)
	}
	r.rest = append(r.rest, p[n:]...)
	return len(p), nil
}

// recordCost is what TLS 1.3 adds to a record: header, type and tag. If it were less, the last bytes of a chunk would be held back.
const recordCost = 5 + 1 + 16

// begin tells that TLS will write a chunk of n bytes, and whether another one will follow.
func (r *rawConn) begin(n int, more bool) {
	r.mu.Lock()
	r.left = n
	if more {
		r.left++
	}
	r.mu.Unlock()
}

// behind reports whether sealed bytes wait for drain.
func (r *rawConn) behind() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.rest) > 0
}

// drain sends what waits, and blocks until the kernel has taken it.
func (r *rawConn) drain() error {
	for {
		r.mu.Lock()
		p := r.rest
		r.rest, r.spare = r.spare[:0], nil
		r.mu.Unlock()
		if len(p) == 0 {
			r.giveBack(p)
			return nil
		}
		_, err := r.Conn.Write(p)
		r.giveBack(p)
		if err != nil {
			return err
		}
	}
}

func (r *rawConn) giveBack(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spare == nil && cap(p) <= 2*chunkSize {
		r.spare = p[:0]
	}
}
