package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	page      = 4096
	loadPages = 8192 // of the device that the load uses
)

// load writes to a device past every cache, syncs, and reads back: each page holds which write it is of.
type load struct {
	f       *os.File
	r       *rand.Rand
	version []uint64
	next    uint64
	flushes atomic.Int64 // that were answered
	longest atomic.Int64 // nanoseconds between two answers
	stop    chan struct{}
	ended   chan struct{}
	err     error // after ended
}

func newLoad(device string, seed uint64) (*load, error) {
	f, err := os.OpenFile(device, os.O_RDWR|syscall.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	l := &load{f: f, r: rand.New(rand.NewPCG(seed, 2)), version: make([]uint64, loadPages), stop: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		l.err = l.run()
	}()
	return l, nil
}

// aligned is memory for direct I/O.
func aligned() []byte {
	b := make([]byte, 2*page)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (page - 1)
	return b[skip : skip+page : skip+page]
}

func stamp(b []byte, at int, version uint64) {
	for i := 0; i < len(b); i += 16 {
		binary.LittleEndian.PutUint64(b[i:], version)
		binary.LittleEndian.PutUint64(b[i+8:], uint64(at)*version)
	}
}

func (l *load) run() error {
	b, want, last := aligned(), make([]byte, page), time.Now()
	for n := 0; ; n++ {
		select {
		case <-l.stop:
			return nil
		default:
		}
		at := l.r.IntN(loadPages)
		l.next++
		stamp(b, at, l.next)
		if _, err := l.f.WriteAt(b, int64(at)*page); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		l.version[at] = l.next
		if err := l.check(l.r.IntN(loadPages), b, want); err != nil {
			return err
		}
		if n%8 != 0 {
			continue
		}
		if err := l.f.Sync(); err != nil {
			return fmt.Errorf("fsync: %w", err)
		}
		now := time.Now()
		l.longest.Store(max(l.longest.Load(), int64(now.Sub(last))))
		last = now
		l.flushes.Add(1)
	}
}

func (l *load) check(at int, b, want []byte) error {
	if _, err := l.f.ReadAt(b, int64(at)*page); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	stamp(want, at, l.version[at])
	if !bytes.Equal(b, want) {
		return fmt.Errorf("page %d is of version %d, must be of %d", at, binary.LittleEndian.Uint64(b), l.version[at])
	}
	return nil
}

// failed is the error that ended the load, nil while it runs.
func (l *load) failed() error {
	select {
	case <-l.ended:
		if l.err == nil {
			return os.ErrClosed
		}
		return l.err
	default:
		return nil
	}
}

// finish ends the load and reads every page.
func (l *load) finish() error {
	close(l.stop)
	<-l.ended
	if l.err != nil {
		return l.err
	}
	b, want := aligned(), make([]byte, page)
	for at := range l.version {
		if err := l.check(at, b, want); err != nil {
			return fmt.Errorf("at the end: %w", err)
		}
	}
	return l.f.Close()
}
