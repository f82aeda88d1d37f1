package fuse

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
	"mynetwork.io/mynetwork/nodeagent/export/uring"
)

// testRing is a ring of the test's thread whose answers reach no kernel: /dev/null takes no commands.
func testRing(tb testing.TB, b export.Backend, entries int) (*Server, *ring) {
	tb.Helper()
	runtime.LockOSThread()
	tb.Cleanup(runtime.UnlockOSThread)
	null, err := unix.Open("/dev/null", unix.O_RDWR, 0)
	if err != nil {
		tb.Fatal(err)
	}
	s := New(null, [16]byte{1}, b, Options{Transport: Uring, Entries: entries})
	r, err := newRing(s, 0, 1, 1)
	if err != nil {
		tb.Fatal(err)
	}
	err = r.open()
	tb.Cleanup(func() { r.free(); _ = unix.Close(null) })
	if errors.Is(err, uring.ErrUnavailable) {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return s, r
}

// put is what the kernel does: it places a request into the entry.
func (e *entry) put(op uint32, unique, node uint64, arg, data []byte) {
	native.PutUint32(e.h.inOut[4:], op)
	native.PutUint64(e.h.inOut[8:], unique)
	native.PutUint64(e.h.inOut[16:], node)
	copy(e.h.opIn[:], arg)
	copy(e.payload, data)
	e.h.ent.payloadSz, e.h.ent.commitID = uint32(len(data)), unique
}

// settle hands the answers over and takes the refusals of /dev/null.
func (r *ring) settle() {
	_ = r.flush()
	_ = r.u.Enter(false, 0)
	for {
		if _, ok := r.u.Next(); !ok {
			return
		}
	}
}

// Entries are where the kernel is told that they are, apart from each other, and belong to the right queues.
func TestEntries(t *testing.T) {
	const each, queues = 3, 5
	s := New(-1, [16]byte{}, exporttest.Volume(t, mib), Options{Entries: each})
	seen := map[uint16]int{}
	for first := range 2 {
		r, err := newRing(s, first, 2, queues)
		if err != nil {
			t.Fatal(err)
		}
		defer r.free()
		for i := range r.entries {
			e := &r.entries[i]
			seen[e.qid]++
			for j := range e.payload {
				if e.payload[j] != 0 {
					t.Fatalf("entry %d of ring %d shares byte %d", i, first, j)
				}
			}
			for j := range e.payload {
				e.payload[j] = 1
			}
			if e.h.inOut[0] != 0 {
				t.Fatalf("entry %d of ring %d shares its header", i, first)
			}
			e.h.inOut[0], e.h.ent.payloadSz = 1, math.MaxUint32
		}
	}
	for q := range uint16(queues) {
		if seen[q] != each {
			t.Errorf("queue %d has %d entries", q, seen[q])
		}
	}
}

// A request over io_uring takes no memory either.
func TestNoAllocationUring(t *testing.T) {
	m := exporttest.Volume(t, mib)
	s, r := testRing(t, m, 4)
	e := &r.entries[0]
	for name, put := range map[string]func(){
		"write": func() { e.put(opWrite, 2, fileNode, writeBody(0, page)[:writeIn], page) },
		"read":  func() { e.put(opRead, 2, fileNode, readBody(0, 4096), nil) },
	} {
		put()
		head := e.h.inOut
		if n := testing.AllocsPerRun(1000, func() {
			e.h.inOut, e.h.ent.payloadSz = head, pageSize
			if name == "read" {
				e.h.ent.payloadSz = 0
			}
			s.dispatch(e, e.request())
			r.settle()
		}); n != 0 {
			t.Errorf("a %s allocates %v times", name, n)
		}
	}
	if n := m.Count(exporttest.OpWrite); n < 1000 || m.Count(exporttest.OpAnswered) != n {
		t.Errorf("%d writes and %d answers reached the backend", n, m.Count(exporttest.OpAnswered))
	}
}

// The backend hears of an answer after the kernel, not before: until flush the answer is only prepared.
func TestAnsweredAfterCommit(t *testing.T) {
	m := exporttest.Volume(t, mib)
	s, r := testRing(t, m, 4)
	e := &r.entries[0]
	e.put(opWrite, 2, fileNode, writeBody(0, page)[:writeIn], page)
	s.dispatch(e, e.request())
	if n := m.Count(exporttest.OpAnswered); n != 0 || r.u.Pending() != 1 {
		t.Errorf("%d answers before the kernel had one, %d pending", n, r.u.Pending())
	}
	if err := r.flush(); err != nil {
		t.Fatal(err)
	}
	if n := m.Count(exporttest.OpAnswered); n != 1 || r.u.Pending() != 0 {
		t.Errorf("%d answers, %d pending", n, r.u.Pending())
	}
}

// Pages that only large requests use are given back, except those that workers have.
func TestTrim(t *testing.T) {
	_, r := testRing(t, exporttest.Volume(t, mib), 2)
	for i := range r.entries {
		r.entries[i].payload[MaxIO-1] = 'x'
	}
	r.entries[1].job(request{head: make([]byte, inHeader)}, MaxIO)
	r.large = true
	r.trim()
	if r.entries[0].payload[MaxIO-1] != 0 || r.entries[1].payload[MaxIO-1] != 'x' || r.large {
		t.Error("the wrong pages were given back")
	}
}

// On a machine of very many CPUs a ring has fewer entries for each, not more than the kernel takes.
func TestManyCPUs(t *testing.T) {
	const queues = 8192
	r, err := newRing(New(-1, [16]byte{}, exporttest.Volume(t, mib), Options{}), 0, maxRings, queues)
	if err != nil {
		t.Fatal(err)
	}
	defer r.free()
	seen := map[uint16]bool{}
	for i := range r.entries {
		seen[r.entries[i].qid] = true
	}
	if len(r.entries) > maxEntries || len(seen) != queues/maxRings {
		t.Errorf("%d entries for %d queues", len(r.entries), len(seen))
	}
}

// A process that gets no ring, for want of a descriptor at whatever step, learns it before the kernel is told anything, and
// nothing of the server stays.
func TestNoRing(t *testing.T) {
	k, fd := pair(t)
	defer func() { _ = unix.Close(k.fd); _ = unix.Close(fd) }()
	m := exporttest.Volume(t, mib)
	cpus, err := possibleCPUs()
	if err != nil {
		t.Fatal(err)
	}
	for room := range 2 * min(cpus, maxRings) { // each ring takes an eventfd and itself
		s := New(fd, [16]byte{1}, m, Options{Transport: Uring})
		if err := withRoom(t, room, s.Start); !errors.Is(err, uring.ErrUnavailable) {
			t.Errorf("with room for %d descriptors: %v", room, err)
		}
		<-s.Done()
	}
	if m.Count(exporttest.OpResent) != 0 {
		t.Error("the backend was told of a server that did not start")
	}
	s := New(fd, [16]byte{1}, m, Options{}) // what a device that may choose does then
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	k.send(opInit, 2, 0, initBody(7, 45, ^uint64(0)))
	k.want(2, 0)
	<-s.ready
	if got, err := s.Transport(); got != DevFuse || err != nil {
		t.Errorf("transport %s, %v", got, err)
	}
	_ = unix.Shutdown(k.fd, unix.SHUT_RDWR)
	<-s.Done()
}

// withRoom runs f while this process can open at most n descriptors more.
func withRoom(t *testing.T, n int, f func() error) error {
	t.Helper()
	free, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(free) // the lowest that is free
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free + n), Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	}()
	return f()
}

func TestPossibleCPUs(t *testing.T) {
	n, err := possibleCPUs()
	if err != nil || n < runtime.NumCPU() {
		t.Errorf("%d possible CPUs, %v; %d are here", n, err, runtime.NumCPU())
	}
	for list, want := range map[string]int{"0": 1, "0-1": 2, "0-3,8-11": 12, "0,2": 3} {
		if n, err := parseCPUs(list); err != nil || n != want {
			t.Errorf("%q: %d, %v", list, n, err)
		}
	}
	for _, list := range []string{"", "x", "-", "0-70000"} {
		if n, err := parseCPUs(list); err == nil {
			t.Errorf("%q: %d", list, n)
		}
	}
}

// FuzzEntry: whatever is in an entry, the server does not panic and touches nothing outside the volume.
func FuzzEntry(f *testing.F) {
	f.Add(uint32(opWrite), uint64(2), uint32(4096), writeBody(0, nil))
	f.Add(uint32(opRead), uint64(2), uint32(0), readBody(0, 4096))
	f.Add(uint32(opLookup), uint64(1), uint32(7), []byte(FileName))
	f.Add(uint32(opFallocate), uint64(2), uint32(math.MaxUint32), fallocBody(0, 4096, unix.FALLOC_FL_PUNCH_HOLE))
	f.Add(uint32(opInit), uint64(0), uint32(0), initBody(7, 45, ^uint64(0)))
	m, err := exporttest.NewMemory(mib, mib)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, op uint32, node uint64, size uint32, arg []byte) {
		s, r := testRing(t, m, 1)
		e := &r.entries[0]
		e.put(op, 2, node, arg, nil)
		e.h.ent.payloadSz = size
		s.live.Add(1)
		s.dispatch(e, e.request())
		s.leave()
		<-s.Done()
		r.collect()
		r.settle()
		if got := native.Uint64(e.h.inOut[8:]); got != 2 {
			t.Errorf("the answer is for request %d", got)
		}
	})
}

func TestOffersUring(t *testing.T) {
	if err := OffersUring(); err != nil && !errors.Is(err, ErrNoUring) {
		t.Error(err)
	}
	exporttest.NeedUring(t)
	if err := OffersUring(); err != nil {
		t.Error(fmt.Errorf("with the kernel's switch on: %w", err))
	}
}
