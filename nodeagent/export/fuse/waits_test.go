package fuse

import (
	"bytes"
	"runtime"
	"sync/atomic"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/exporttest"
)

// hanging is a backend whose disk hangs in whoever has the turn to wait for it, until the test lets it go.
type hanging struct {
	*exporttest.Memory
	release atomic.Pointer[chan struct{}]
	hung    atomic.Int32 // how many have waited
}

func (h *hanging) TryRead(p []byte, off int64, turn export.Turn) (bool, error) {
	until := h.release.Load()
	if until == nil {
		return h.Memory.TryRead(p, off, turn)
	}
	if turn == nil || !turn.Take() {
		return false, nil
	}
	h.hung.Add(1)
	<-*until
	turn.Give()
	for i := range p {
		p[i] = 0xff
	}
	return true, nil
}

// TestDiskHangs: while a disk hangs, no more readers wait for it than there are, and their requests too are answered by others; reads, writes and flushes go on. When the disk answers,
// nobody hears of it, and there are as many readers as before.
func TestDiskHangs(t *testing.T) {
	h := &hanging{Memory: exporttest.Volume(t, 1<<20)}
	k, s := serve(t, h, (*Server).Start)
	const turns, reads, large = 3, 32, 128 << 10
	unique := uint64(0)
	ask := func() { // reads at once, the first of them long in every second turn
		t.Helper()
		at := unique
		for i := range uint64(reads) {
			n := uint32(4096)
			if unique++; i == 0 && at%(2*2*reads) == 0 {
				n = large
			}
			k.send(opRead, unique, fileNode, readBody(0, n))
		}
		seen := map[uint64]bool{}
		for range reads {
			u, errno, p := k.reply()
			if seen[u] || u <= at || u > at+reads || errno != 0 || !bytes.Equal(p, h.Bytes()[:len(p)]) || len(p) < 4096 {
				t.Fatalf("answer to %d: error %d, %d bytes", u, errno, len(p))
			}
			seen[u] = true
		}
	}
	for turn := range turns {
		release := make(chan struct{})
		h.release.Store(&release)
		ask()
		ask()
		if n := h.hung.Swap(0); n < 1 || n > int32(s.opt.Readers) {
			t.Errorf("turn %d: %d readers have waited for the disk", turn, n)
		}
		k.send(opWrite, 1<<20, fileNode, writeBody(0, page))
		k.want(1<<20, 0)
		k.send(opFsync, 1<<21, fileNode, make([]byte, 16))
		k.want(1<<21, 0)
		h.release.Store(nil)
		close(release)
		for s.away.Load() != 0 || s.live.Load() != int32(s.opt.Readers) { // until the reader that it held up has ended
			runtime.Gosched()
		}
	}
	ask()
}

// TestWatchEnds: who looks after waiting readers stays as long as one waits. None waits while requests that are sent again are read.
func TestWatchEnds(t *testing.T) {
	s := New(-1, [16]byte{}, exporttest.Volume(t, 1<<20), Options{})
	r := &reader{s: s}
	s.waits.watching = true // as if by another, so that none looks but this test
	s.away.Store(int32(s.opt.Readers))
	if r.Take() {
		t.Error("waits before all resent requests are read")
	}
	s.away.Store(0)
	if !r.Take() || !(&reader{s: s}).Take() {
		t.Fatal("has no turn")
	}
	if s.unwatch() {
		t.Error("nobody looks after a reader that waits")
	}
	if seen := s.rescue(0); seen != 2 || r.gone {
		t.Errorf("after one look: %d turns, gone %t", seen, r.gone)
	}
	r.Give()
	if s.unwatch() {
		t.Error("nobody looks after the other one")
	}
	s.waits.of[0].Give()
	if !s.unwatch() || s.waits.watching {
		t.Error("nobody waits, and is looked after")
	}
}
