package sim

import (
	"encoding/binary"
	"fmt"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// The model of a volume is a log: what was accepted, in the order in which it was. A reign is the time of one writer
// epoch. It inherits a prefix of the log of the reign before, which must include all that a FLUSH has covered: that is
// buffered linearizability. A writer whose process is killed and comes back with its ring goes on with the same reign.

type entryKind uint8

const (
	entryWrite    entryKind = iota // pages get values first, first+1, ...
	entryDiscard                   // pages become zeros
	entryContent                   // everything becomes content: rollback, start of a clone
	entryResize                    // the volume gets n pages
	entrySnapshot                  // nothing changes
)

// entry is one accepted change.
type entry struct {
	kind    entryKind
	page, n int
	first   uint64
	content []uint64
}

func (e *entry) apply(state []uint64) []uint64 {
	switch e.kind {
	case entryWrite:
		for i := range e.n {
			state[e.page+i] = e.first + uint64(i)
		}
	case entryDiscard:
		clear(state[e.page : e.page+e.n])
	case entryContent:
		state = append(state[:0:0], e.content...)
	case entryResize:
		for len(state) < e.n {
			state = append(state, 0)
		}
	}
	return state
}

// stateAt is the content after the first k entries of a log.
func stateAt(log []entry, k int) []uint64 {
	var s []uint64
	for i := range k {
		s = log[i].apply(s)
	}
	return s
}

// version is a value that a page had from a time on.
type version struct {
	from time.Duration
	v    uint64
}

// reign is the time of one writer.
type reign struct {
	vol     *vol
	n       int // of the volume, from 1
	log     []entry
	flushed int // so many entries are covered by an answered FLUSH
	state   []uint64
	pages   [][]version
	ops     []opRecord // for porcupine
	clients []*client
	next    *reign        // that took over
	cut     int           // how much of log next inherited
	w       uint64        // last write sequence seen, to check the order
	base    int           // so many entries were there at the start
	cutBack bool          // an entry of unknown outcome was taken out
	since   time.Duration // when its writer was found to serve
	given   bool          // the next reign is in a new history
}

func (v *vol) newReign(log []entry, now time.Duration) *reign {
	r := &reign{vol: v, since: now, log: log, flushed: len(log), state: stateAt(log, len(log)), base: len(log)}
	v.reigns++
	r.n = v.reigns
	r.reset(now)
	return r
}

func (r *reign) reset(now time.Duration) {
	r.pages = make([][]version, len(r.state))
	for p, v := range r.state {
		r.pages[p] = append(r.pages[p], version{now, v})
	}
}

// accept appends an entry that has just taken effect.
func (r *reign) accept(e entry, now time.Duration) {
	r.log = append(r.log, e)
	r.state = e.apply(r.state)
	r.pages = r.pages[:min(len(r.pages), len(r.state))]
	for len(r.pages) < len(r.state) {
		r.pages = append(r.pages, []version{{now, 0}})
	}
	lo, hi := e.page, e.page+e.n
	switch e.kind {
	case entryContent:
		lo, hi = 0, len(r.state)
	case entryResize, entrySnapshot:
		return
	}
	for p := lo; p < hi; p++ {
		if h := r.pages[p]; h[len(h)-1].v != r.state[p] {
			r.pages[p] = append(h, version{now, r.state[p]})
		}
	}
}

// allowed tells whether a read between two times may have returned v.
func (r *reign) allowed(page int, v uint64, from, to time.Duration) bool {
	h := r.pages[page]
	for i := len(h) - 1; i >= 0; i-- {
		if h[i].from <= to && h[i].v == v {
			return true
		}
		if h[i].from < from {
			return false // this one was in force when the read began: older ones were gone
		}
	}
	return false
}

// match finds the longest prefix of log, of at least lo and at most hi entries, whose content is got. Shorter ones may have it too, as of a
// volume that was discarded twice.
func match(log []entry, lo, hi int, got []uint64) (k int, ok bool) {
	s := stateAt(log, lo)
	for n := lo; ; n++ {
		if equal(s, got) {
			k, ok = n, true
		}
		if n == hi {
			return k, ok
		}
		s = log[n].apply(s)
	}
}

func equal(a, b []uint64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// explain says how got differs from the nearest permitted state.
func explain(log []entry, lo, hi int, got []uint64) string {
	best, bestK := 1<<30, lo
	s := stateAt(log, lo)
	for k := lo; ; k++ {
		d := 0
		for i := range max(len(s), len(got)) {
			if i >= len(s) || i >= len(got) || s[i] != got[i] {
				d++
			}
		}
		if d < best {
			best, bestK = d, k
		}
		if k == hi {
			break
		}
		s = log[k].apply(s)
	}
	s = stateAt(log, bestK)
	out := fmt.Sprintf("nearest is prefix %d of [%d,%d], sizes %d and %d;", bestK, lo, hi, len(s), len(got))
	for i := range min(len(s), len(got)) {
		if s[i] != got[i] {
			out += fmt.Sprintf(" page %d: want %d got %d (entry %d);", i, s[i], got[i], entryOf(log, i, got[i]))
			if len(out) > 600 {
				break
			}
		}
	}
	return out
}

// entryOf is the index of the entry that wrote v to page; -1 if none did.
func entryOf(log []entry, page int, v uint64) int {
	for k := range log {
		e := &log[k]
		if e.kind == entryWrite && page >= e.page && page < e.page+e.n && e.first+uint64(page-e.page) == v {
			return k
		}
	}
	return -1
}

// snapshot is a point in time that was, or may have been, kept.
type snapshot struct {
	id      [16]byte
	name    string
	log     []entry // of its reign, up to the latest entry that it can contain
	lo      int     // and at least so many
	content []uint64
	sure    bool // it was acknowledged
	gone    bool // it was, or may have been, deleted
	clones  int
}

// settle tells what the snapshot was seen to contain.
func (s *snapshot) settle(got []uint64) bool {
	if s.content != nil {
		return equal(s.content, got)
	}
	if _, ok := match(s.log, s.lo, len(s.log), got); !ok {
		return false
	}
	s.content = append([]uint64{}, got...)
	return true
}

// fillPage makes the content of a page from its value: every byte depends on it. 0 is a page of zeros.
func fillPage(p []byte, v uint64) {
	if v == 0 {
		clear(p)
		return
	}
	binary.LittleEndian.PutUint64(p, v)
	x := v * 0x9e3779b97f4a7c15
	step := x | 1
	if v%4 == 0 {
		step = 0 // this one compresses
	}
	for i := 8; i < block.PageSize; i += 8 {
		x += step
		x ^= x >> 29 * (step & 1)
		binary.LittleEndian.PutUint64(p[i:], x)
	}
}

// pageValue is the value whose content p is; ok is false if p is no page that was ever written.
func pageValue(p []byte) (v uint64, ok bool) {
	v = binary.LittleEndian.Uint64(p)
	var want [block.PageSize]byte
	if v != 0 {
		fillPage(want[:], v)
	}
	return v, string(want[:]) == string(p)
}
