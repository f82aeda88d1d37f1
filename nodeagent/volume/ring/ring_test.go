package ring

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

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

// TestEveryStepOfFree kills between the two stores of a Free: the slot is there, or it is freed, never handed out anew.
func TestEveryStepOfFree(t *testing.T) {
	a := newMachine(smallSize)
	for range 3 {
		if err := a.reserve(OpWrite, 1, 2, true); err != nil {
			t.Fatal(err)
		}
	}
	for i := range a.m.slots {
		a.commit(i)
	}
	between := append([]byte(nil), a.mem...)
	binary.LittleEndian.PutUint64(between[lowAt:], 2) // low has moved, the commit word is still there
	r, err := Open(between, testVolume)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Get(1); ok || r.Low() != 2 || r.Next() != 4 || r.Used() != 4*block.PageSize {
		t.Fatalf("low %d next %d used %d", r.Low(), r.Next(), r.Used())
	}
	if r.commit(1).Load() != 0 {
		t.Fatal("the commit word of a freed slot stays")
	}
}

// TestEmptyRingGoesOn: the sequences of a ring that was wholly freed are not handed out again after a restart.
func TestEmptyRingGoesOn(t *testing.T) {
	a := newMachine(smallSize)
	for range 200 {
		if err := a.reserve(OpWrite, 1, 3, true); err != nil {
			t.Fatal(err)
		}
		a.commit(0)
		if err := a.freeOne(); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Open(a.mem, testVolume)
	if err != nil || r.Low() != 201 || r.Next() != 201 || r.Used() != 0 {
		t.Fatalf("low %d next %d used %d: %v", r.Low(), r.Next(), r.Used(), err)
	}
	r.StartAt(100)
	if r.Next() != 201 {
		t.Fatal("StartAt went back")
	}
	r.StartAt(500)
	if r, err = Open(a.mem, testVolume); err != nil || r.Next() != 500 {
		t.Fatalf("next %d: %v", r.Next(), err)
	}
}

// TestTornHead tears every byte position of SetEpoch and of Format.
func TestTornHead(t *testing.T) {
	before := make([]byte, smallSize)
	if _, err := Format(before, testVolume, testEpoch); err != nil {
		t.Fatal(err)
	}
	later := testEpoch
	later.Session, later.Number = 0x01010101, 8
	after := append([]byte(nil), before...)
	r, err := Open(after, testVolume)
	if err != nil {
		t.Fatal(err)
	}
	r.SetEpoch(later)
	for _, at := range []int{0, copyAt} {
		for n := 0; n <= fixedSize; n++ {
			mem := append([]byte(nil), before...)
			if at == copyAt {
				copy(mem, after[:fixedSize])
			}
			copy(mem[at:at+n], after[at:])
			got, err := Open(mem, testVolume)
			if err != nil {
				t.Fatalf("SetEpoch torn at %d+%d: %v", at, n, err)
			}
			if e := got.Epoch(); e != testEpoch && e != later || (at == copyAt && e != later) {
				t.Fatalf("SetEpoch torn at %d+%d: epoch %s", at, n, e)
			}
			got.SetEpoch(later)
			if got, err = Open(mem, testVolume); err != nil || got.Epoch() != later {
				t.Fatalf("after a torn SetEpoch: %v", err)
			}
		}
	}
	both := append([]byte(nil), before...)
	both[30]++
	both[copyAt+30]++
	if _, err := Open(both, testVolume); !errors.Is(err, ErrFormat) {
		t.Fatalf("both copies torn: %v", err)
	}
}

// TestFormatIsLast: a ring that is being made does not pass for one before its last store.
func TestFormatIsLast(t *testing.T) {
	done := make([]byte, smallSize)
	if _, err := Format(done, testVolume, testEpoch); err != nil {
		t.Fatal(err)
	}
	half := append([]byte(nil), done...)
	clear(half[:8])
	if string(half[:4]) == "MNRG" {
		t.Fatal("magic")
	}
	if r, err := Format(half, block.VolumeID{4}, testEpoch); err != nil || r.Next() != 1 {
		t.Fatalf("formatted again: %v", err)
	}
	if !bytes.Equal(done[fixedSize:copyAt], half[fixedSize:copyAt]) {
		t.Fatal("the rest of the head differs")
	}
}

func TestRefusals(t *testing.T) {
	a := newMachine(smallSize)
	for _, pages := range []uint64{2, 3, 4} {
		if err := a.reserve(OpWrite, 1, pages, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.reserve(OpDiscard, 1, 4, false); err != nil {
		t.Fatal(err)
	}
	for i := range a.m.slots {
		a.commit(i)
	}
	slot := func(w int) int { return headSize + w*slotSize }
	put := func(at int, v uint64) func([]byte) {
		return func(m []byte) { binary.LittleEndian.PutUint64(m[at:], v) }
	}
	for name, damage := range map[string]func([]byte){
		"magic":                 func(m []byte) { m[0]++; m[copyAt]++ },
		"version":               func(m []byte) { m[4]++; m[copyAt+4]++ },
		"volume":                func(m []byte) { m[8]++; m[copyAt+8]++ },
		"slots":                 func(m []byte) { m[45]++; m[copyAt+45]++ },
		"data":                  func(m []byte) { m[50]++; m[copyAt+50]++ },
		"low is 0":              put(lowAt, 0),
		"low is huge":           put(lowAt, 1<<63),
		"low lies far behind":   put(slot(5), 5+64*1000),
		"slot of another place": put(slot(2), 3),
		"commit word huge":      put(slot(2), 1<<63+2),
		"no operation":          func(m []byte) { m[slot(2)+52] = 0 },
		"unknown operation":     func(m []byte) { m[slot(2)+52] = 3 },
		"no pages":              func(m []byte) { m[slot(2)+48] = 0 },
		"too many pages":        func(m []byte) { m[slot(2)+48] = SlotPages + 1 },
		"offset not aligned":    put(slot(2)+40, 100),
		"offset outside":        put(slot(2)+40, 1<<40),
		"offset overflows":      put(slot(2)+40, ^uint64(4095)),
		"payloads overlap":      put(slot(2)+40, 4096),
		"payloads out of order": put(slot(3)+40, 8192),
		"empty discard":         put(slot(4)+40, 0),
	} {
		mem := append([]byte(nil), a.mem...)
		damage(mem)
		if _, err := Open(mem, testVolume); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(a.mem[:len(a.mem)-block.PageSize], testVolume); !errors.Is(err, ErrFormat) {
		t.Errorf("shorter: %v", err)
	}
	for _, mem := range [][]byte{nil, {}, a.mem[:1], a.mem[:headSize], make([]byte, 1<<16), make([]byte, smallSize), a.mem[1:]} {
		if _, err := Open(mem, testVolume); !errors.Is(err, ErrFormat) {
			t.Errorf("%d bytes: %v", len(mem), err)
		}
	}
	if _, err := Open(a.mem, testVolume); err != nil {
		t.Errorf("sound: %v", err)
	}
	if _, err := Format(make([]byte, 1<<16), testVolume, testEpoch); !errors.Is(err, ErrFormat) {
		t.Errorf("too small to format: %v", err)
	}
	for _, pages := range []uint64{0, SlotPages + 1} {
		if _, _, err := a.r.Reserve(ID{}, OpWrite, 0, pages); !errors.Is(err, ErrPages) {
			t.Errorf("%d pages: %v", pages, err)
		}
	}
}

// TestResent: a request that is sent again after a kill is in the ring, or was never accepted; an answered one that the
// mark of was lost is kept until nothing can be sent again.
func TestResent(t *testing.T) {
	a := newMachine(smallSize)
	for range 3 {
		if err := a.reserve(OpWrite, 9, 1, false); err != nil {
			t.Fatal(err)
		}
	}
	a.commit(0)
	a.commit(2)
	if err := a.kill(func(n int) []byte { return make([]byte, n) }); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false, true} {
		if _, ok := a.r.Find(a.m.slots[i].slot.ID); ok != want {
			t.Errorf("request %d found: %v", i, ok)
		}
	}
	if a.r.Free() {
		t.Fatal("freed before the answer was sent")
	}
	a.r.AllAnswered()
	for a.r.Free() {
	}
	if a.r.Low() != 4 || a.r.Used() != 0 {
		t.Fatalf("low %d, %d bytes in use", a.r.Low(), a.r.Used())
	}
}

func TestGoldenBytes(t *testing.T) {
	a := newMachine(smallSize)
	a.nextID = 0x1122334455667787
	if err := a.reserve(OpWrite, 0x0102030405060708, 5, false); err != nil {
		t.Fatal(err)
	}
	if err := a.reserve(OpDiscard, 0x2122232425262728, 0x3132333435363738, true); err != nil {
		t.Fatal(err)
	}
	a.commit(0)
	a.commit(1)
	a.answer(0)
	got := fmt.Sprintf("head %s\ncopy %s\nslot1 %s\nslot2 %s\n", hex.EncodeToString(a.mem[:80]), hex.EncodeToString(a.mem[copyAt:copyAt+64]),
		hex.EncodeToString(a.mem[headSize+slotSize:headSize+2*slotSize]), hex.EncodeToString(a.mem[headSize+2*slotSize:headSize+3*slotSize]))
	name := filepath.Join("testdata", "ring.txt")
	if *rewrite {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil || string(want) != got {
		t.Fatalf("%v; got\n%s", err, got)
	}
}

func FuzzOpen(f *testing.F) {
	a := newMachine(smallSize)
	_ = a.reserve(OpWrite, 1, 2, false)
	_ = a.reserve(OpDiscard, 1, 2, false)
	a.commit(0)
	a.commit(1)
	f.Add(a.mem[:headSize+8*slotSize])
	f.Fuzz(func(t *testing.T, start []byte) {
		mem := make([]byte, smallSize)
		copy(mem, start)
		r, err := Open(mem, testVolume)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		r.AllAnswered()
		for w := r.Low(); w < r.Next(); w++ {
			if s, ok := r.Get(w); ok && s.Op == OpWrite && len(s.Payload) != int(s.Pages)*block.PageSize {
				t.Fatalf("write %d: %d bytes", w, len(s.Payload))
			}
		}
		for r.Free() {
		}
		if r.Used() != 0 {
			t.Fatalf("%d bytes in use in an empty ring", r.Used())
		}
	})
}

func TestNoAllocations(t *testing.T) {
	a := newMachine(DefaultSize)
	n := uint64(0)
	if got := testing.AllocsPerRun(1000, func() {
		var id ID
		n++
		binary.LittleEndian.PutUint64(id[:], n)
		w, _, _ := a.r.Reserve(id, OpWrite, n, 1)
		a.r.Commit(w)
		a.r.Answered(id)
		_, _ = a.r.Get(w)
		a.r.Free()
	}); got != 0 {
		t.Fatalf("%v allocations", got)
	}
}

func BenchmarkReserveCommitFree(b *testing.B) {
	a := newMachine(DefaultSize)
	b.ReportAllocs()
	for b.Loop() {
		w, _, _ := a.r.Reserve(ID{}, OpWrite, 1, 1)
		a.r.Commit(w)
		a.r.Free()
	}
}
