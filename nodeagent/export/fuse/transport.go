package fuse

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
)

// Transport is how requests and answers travel between the kernel and a server.
type Transport string

// The transports.
const (
	// DevFuse is read and write on /dev/fuse. The next server process goes on with what a killed one left.
	DevFuse Transport = "devfuse"
	// Uring is FUSE over io_uring. The kernel does not send requests again that were in the rings of a killed process, so a
	// connection ends with its server.
	Uring Transport = "io_uring"
)

// ErrNoUring tells that there is no FUSE over io_uring to be had.
var ErrNoUring = errors.New("the kernel does not offer FUSE over io_uring")

// uringParameter is the kernel's own switch, which is off unless the machine's administrator turns it on.
const uringParameter = "/sys/module/fuse/parameters/enable_uring"

// OffersUring tells why connections that are made now cannot use io_uring; nil if they can, as far as the kernel's
// switch goes.
func OffersUring() error {
	b, err := os.ReadFile(uringParameter)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: it is older than 6.14 or built without it", ErrNoUring)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNoUring, err)
	case strings.TrimSpace(string(b)) != "Y":
		return fmt.Errorf("%w: %s is not Y", ErrNoUring, uringParameter)
	}
	return nil
}

// rings are the io_urings of a server, and their way from INIT to service.
type rings struct {
	all     []*ring
	begin   chan bool    // told once per ring whether the kernel's INIT had it so
	missing atomic.Int32 // rings that have not registered
	err     atomic.Pointer[error]
}

// startRings makes the rings and starts their threads, which wait for INIT.
func (s *Server) startRings() error {
	queues, err := possibleCPUs()
	if err != nil {
		return err
	}
	n := min(queues, maxRings)
	x := &rings{begin: make(chan bool, n)}
	x.missing.Store(int32(n))
	opened := make(chan error, n)
	for i := range n {
		r, e := newRing(s, i, n, queues)
		if e != nil {
			err = e
			break
		}
		x.all = append(x.all, r)
		s.live.Add(1)
		go r.serve(opened, x.begin)
	}
	for range x.all {
		err = errors.Join(err, <-opened)
	}
	if err != nil {
		close(x.begin) // whoever waits gets false
		return err
	}
	s.rings = x
	return nil
}

// initialised tells the rings how INIT went. It is called once, after INIT was answered.
func (s *Server) initialised(over bool) {
	if s.rings == nil {
		s.once.Do(func() { close(s.ready) })
		return
	}
	for range s.rings.all {
		s.rings.begin <- over
	}
	if !over {
		s.rings.err.Store(&ErrNoUring)
		s.once.Do(func() { close(s.ready) })
	}
}

// registered is how one ring's registration went. After a failed one the kernel goes on with /dev/fuse.
func (s *Server) registered(err error) {
	if err != nil {
		s.rings.err.CompareAndSwap(nil, &err)
	}
	if s.rings.missing.Add(-1) == 0 {
		s.once.Do(func() { close(s.ready) })
	}
}

// Transport is what the connection uses; it is known after Ready. With DevFuse, err is why it is not the Uring that was
// asked for.
func (s *Server) Transport() (t Transport, err error) {
	if s.opt.Transport != Uring {
		return DevFuse, nil
	}
	if s.rings == nil {
		return DevFuse, ErrNoUring
	}
	if e := s.rings.err.Load(); e != nil {
		return DevFuse, *e
	}
	return Uring, nil
}
