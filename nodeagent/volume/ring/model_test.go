package ring

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

var (
	testVolume = block.VolumeID{1, 2, 3}
	testEpoch  = block.Epoch{Number: 7, Session: 1, Token: 9}
)

// smallSize gives a ring of 64 slots and not much data, so that it wraps often.
const smallSize = headSize + 64*slotSize + 4*SlotPages*block.PageSize + 5*block.PageSize

// payloadOf is what write w of a test holds: every page tells w and its place.
func payloadOf(w, page uint64, p []byte) {
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], w*1_000_003+page*101+uint64(i))
	}
}

// twinSlot is a slot as the naive twin keeps it.
type twinSlot struct {
	slot      Slot
	committed bool
	answered  bool
}

// twin is the ring as a list: no memory, no arithmetic.
type twin struct {
	low   uint64
	slots []twinSlot // from low on
	freed uint64     // highest write sequence ever freed
}

func (m *twin) next() uint64 { return m.low + uint64(len(m.slots)) }

// kill is what a process's end does: trailing slots that were not committed are gone, others are holes.
func (m *twin) kill() {
	for len(m.slots) > 0 && !m.slots[len(m.slots)-1].committed {
		m.slots = m.slots[:len(m.slots)-1]
	}
}

// compare reports the first difference between ring and twin.
func compare(r *Ring, m *twin) error {
	if r.Low() != m.low || r.Next() != m.next() {
		return fmt.Errorf("ring [%d,%d), twin [%d,%d)", r.Low(), r.Next(), m.low, m.next())
	}
	if len(m.slots) == 0 && r.Used() != 0 {
		return fmt.Errorf("%d bytes in use in an empty ring", r.Used())
	}
	for i := range m.slots {
		w, t := m.low+uint64(i), &m.slots[i]
		s, ok := r.Get(w)
		if ok != t.committed {
			return fmt.Errorf("write %d: committed %v, twin %v", w, ok, t.committed)
		}
		if !ok {
			continue
		}
		if s.ID != t.slot.ID || s.Op != t.slot.Op || s.Page != t.slot.Page || s.Pages != t.slot.Pages || s.WSeq != w {
			return fmt.Errorf("write %d: %+v, twin %+v", w, s, t.slot)
		}
		if s.Op == OpWrite {
			want := make([]byte, s.Pages*block.PageSize)
			payloadOf(w, s.Page, want)
			if !bytes.Equal(want, s.Payload) {
				return fmt.Errorf("write %d: payload differs", w)
			}
		}
		if got, found := r.Find(s.ID); s.ID != (ID{}) && (!found || got != w) {
			return fmt.Errorf("write %d: its request is found as %d, %v", w, got, found)
		}
	}
	if len(r.ids) > len(m.slots) {
		return fmt.Errorf("%d requests known for %d slots", len(r.ids), len(m.slots))
	}
	return nil
}

// machine drives ring and twin alike.
type machine struct {
	mem    []byte
	r      *Ring
	m      twin
	nextID uint64
	holes  uint64             // write sequences below it that are not committed never will be
	free   func(r *Ring) bool // the rule under test
}

func newMachine(size int) *machine {
	a := &machine{mem: make([]byte, size), free: (*Ring).Free}
	r, err := Format(a.mem, testVolume, testEpoch)
	if err != nil {
		panic(err)
	}
	a.r, a.m.low = r, 1
	return a
}

func (a *machine) reserve(op Op, page, pages uint64, anonymous bool) error {
	var id ID
	if a.nextID++; !anonymous {
		binary.LittleEndian.PutUint64(id[5:], a.nextID)
	}
	used := 0
	for _, t := range a.m.slots {
		if t.slot.Op == OpWrite && (t.committed || t.slot.WSeq >= a.holes) {
			used += int(t.slot.Pages)
		}
	}
	w, p, err := a.r.Reserve(id, op, page, pages)
	if errors.Is(err, ErrFull) {
		// at most one wrap's worth of room is lost to contiguity, and to the holes of former processes
		if len(a.m.slots) == 0 {
			return fmt.Errorf("an empty ring is full")
		}
		return nil
	}
	if err != nil || w != a.m.next() {
		return fmt.Errorf("reserved write %d, want %d: %v", w, a.m.next(), err)
	}
	if used+int(pages) > len(a.r.data)/block.PageSize && op == OpWrite {
		return fmt.Errorf("took %d pages on top of %d", pages, used)
	}
	if op == OpWrite {
		payloadOf(w, page, p)
	}
	a.m.slots = append(a.m.slots, twinSlot{slot: Slot{WSeq: w, ID: id, Op: op, Page: page, Pages: pages}, answered: anonymous})
	return nil
}

func (a *machine) commit(i int) {
	if t := &a.m.slots[i]; !t.committed {
		t.committed = true
		a.r.Commit(t.slot.WSeq)
	}
}

func (a *machine) answer(i int) {
	if t := &a.m.slots[i]; t.committed && !t.answered {
		t.answered = true
		a.r.Answered(t.slot.ID)
	}
}

// freeOne frees the lowest slot as the engine does: not one that is still being filled, unless a former process left it.
func (a *machine) freeOne() error {
	if len(a.m.slots) > 0 && !a.m.slots[0].committed && a.m.low >= a.holes {
		return nil
	}
	may := len(a.m.slots) > 0 && (!a.m.slots[0].committed || a.m.slots[0].answered)
	if got := a.free(a.r); got != may {
		return fmt.Errorf("free of write %d: %v, twin %v", a.m.low, got, may)
	}
	if may {
		a.m.freed = a.m.low
		a.m.low++
		a.m.slots = a.m.slots[1:]
	}
	return nil
}

// kill ends the process: what counts is the memory. Whatever is not covered by a commit word may be torn.
func (a *machine) kill(tear func(n int) []byte) error {
	for i := range a.m.slots {
		if t := &a.m.slots[i]; !t.committed {
			copy(a.r.slot(t.slot.WSeq)[8:], tear(slotSize-8))
		}
	}
	a.m.kill()
	mem := append([]byte(nil), a.mem...)
	r, err := Open(mem, testVolume)
	if err != nil {
		return err
	}
	if r.Epoch() != testEpoch {
		return fmt.Errorf("epoch %s", r.Epoch())
	}
	if r.Next() <= a.m.freed {
		return fmt.Errorf("write %d is handed out again", r.Next())
	}
	// trailing slots that no process committed may stay or go; what counts is that they are no slots
	a.mem, a.r, a.holes = mem, r, r.Next()
	return nil
}

// TestModel is the ring against the twin: random requests, kills at any point, wrap-around, holes.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := newMachine(smallSize)
		tear := func(n int) []byte { return bytes.Repeat([]byte{rapid.Byte().Draw(t, "torn")}, n) }
		if err := a.run(t, tear, 120); err != nil {
			t.Fatal(err)
		}
	})
}

func (a *machine) run(t *rapid.T, tear func(int) []byte, steps int) error {
	for range rapid.IntRange(1, steps).Draw(t, "steps") {
		var err error
		pick := func() int { return rapid.IntRange(0, len(a.m.slots)-1).Draw(t, "slot") }
		switch op := rapid.SampledFrom([]string{"write", "write", "big", "discard", "commit", "commit", "answer", "settle", "free", "kill"}).Draw(t, "op"); {
		case op == "write":
			err = a.reserve(OpWrite, rapid.Uint64().Draw(t, "page"), rapid.Uint64Range(1, 8).Draw(t, "pages"), rapid.Bool().Draw(t, "anonymous"))
		case op == "big":
			err = a.reserve(OpWrite, 5, rapid.Uint64Range(40, SlotPages).Draw(t, "pages"), false)
		case op == "discard":
			err = a.reserve(OpDiscard, rapid.Uint64().Draw(t, "page"), rapid.Uint64Range(1, 1<<40).Draw(t, "pages"), false)
		case op == "kill":
			err = a.kill(tear)
		case len(a.m.slots) == 0:
		case op == "commit":
			a.commitNew(pick())
		case op == "answer":
			a.answer(pick())
		case op == "settle":
			for i := range a.m.slots {
				a.commitNew(i)
				a.answer(i)
			}
		case op == "free":
			for range rapid.IntRange(1, 20).Draw(t, "frees") {
				if err = a.freeOne(); err != nil {
					break
				}
			}
		}
		if err == nil {
			err = compare(a.r, &a.m)
		}
		if err != nil {
			return err
		}
	}
	return a.drain()
}

// commitNew commits slot i unless it is a hole of a former process.
func (a *machine) commitNew(i int) {
	if a.m.slots[i].slot.WSeq >= a.holes {
		a.commit(i)
	}
}

// drain frees everything; the whole of the room must be there again.
func (a *machine) drain() error {
	for i := range a.m.slots {
		a.commitNew(i)
		a.answer(i)
	}
	for len(a.m.slots) > 0 {
		if err := a.freeOne(); err != nil {
			return err
		}
	}
	if err := compare(a.r, &a.m); err != nil {
		return err
	}
	for n := 0; n+SlotPages <= len(a.r.data)/block.PageSize; n += SlotPages {
		if _, _, err := a.r.Reserve(ID{}, OpWrite, 0, SlotPages); err != nil {
			return fmt.Errorf("room was lost: %w", err)
		}
	}
	return nil
}

// TestModelCatches breaks rules on purpose; the model must object to each.
func TestModelCatches(t *testing.T) {
	tests := map[string]func(r *Ring) bool{
		"frees what was not answered": func(r *Ring) bool {
			r.AllAnswered()
			return r.Free()
		},
		"frees, and forgets how far": func(r *Ring) bool {
			ok := r.Free()
			r.word(lowAt).Store(1)
			return ok
		},
		"frees without giving the room back": func(r *Ring) bool {
			used, tail := r.used, r.tail
			ok := r.Free()
			r.used, r.tail = used, tail
			return ok
		},
		"leaves the commit word": func(r *Ring) bool {
			w := r.low
			ok := r.Free()
			if ok {
				r.word(lowAt).Store(w)
				r.Commit(w)
			}
			return ok
		},
	}
	for name, free := range tests {
		t.Run(name, func(t *testing.T) {
			a := newMachine(smallSize)
			a.free = free
			if err := script(a); err == nil {
				t.Fatal("was not noticed")
			}
		})
	}
	if err := script(newMachine(smallSize)); err != nil {
		t.Fatalf("the sound ring fails: %v", err)
	}
}

// script fills, frees and restarts a ring a few times.
func script(a *machine) error {
	for range 20 {
		for range 12 {
			if err := a.reserve(OpWrite, 3, 10, false); err != nil {
				return err
			}
		}
		for i := range a.m.slots {
			a.commit(i)
			if i%3 != 0 {
				a.answer(i)
			}
		}
		for round := range 2 {
			for range 12 {
				if err := a.freeOne(); err != nil {
					return err
				}
			}
			if err := compare(a.r, &a.m); err != nil {
				return err
			}
			for i := range a.m.slots {
				if round == 0 {
					a.answer(i)
				}
			}
		}
		if err := a.kill(func(n int) []byte { return make([]byte, n) }); err != nil {
			return err
		}
		if err := compare(a.r, &a.m); err != nil {
			return err
		}
	}
	return a.drain()
}
