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

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

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
