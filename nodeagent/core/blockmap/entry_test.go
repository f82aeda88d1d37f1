package blockmap

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

var rewrite = flag.Bool("rewrite", false, "rewrite golden files")

func goldenBlocks() map[string]BlockEntry {
	moved := BlockEntry{Kind: KindMoved, Type: block.TypeIndex, Rows: 240, Live: 3, Target: 0x0102030405, Base: 17}
	for _, p := range []uint8{0, 9, 239} {
		moved.Survivors.Set(p)
	}
	return map[string]BlockEntry{
		"none": {},
		"physical": {Kind: KindPhysical, Type: block.TypeData, Encryption: block.EncryptionAES256GCM, Compression: block.CompressionZstd,
			Rows: 200, Live: 150, Extent: 0x01020304, DataOff: 0x11121314, LogOff: 0x21222324, LogLen: 0x31323334, Payload: 0x000a1234,
			ID: block.Sum([]byte("block"))},
		"moved": moved,
	}
}

func goldenExtents() map[string]ExtentEntry {
	return map[string]ExtentEntry{
		"none": {},
		"closed": {Epoch: 0x0102030405060708, N: 0x11121314, State: ExtentClosed, Flags: 0x80, Replicas: 5, Quorum: 3, DataBytes: 0x21222324,
			LogBytes: 0x31323334, LiveBytes: 0x41424344, LastSeq: 0x5152535455565758, LastHash: block.Sum([]byte("record")), Count: 5,
			Members: [3]block.StoreID{{1, 15: 1}, {2, 15: 2}, {3, 15: 3}}},
		"open": {Epoch: 1, N: 1, State: ExtentOpen, Replicas: 2, Quorum: 2, Count: 2, Members: [3]block.StoreID{{1}, {2}}},
	}
}

// TestGolden: the encodings are those of testdata/entries.txt, and decode to what they were.
func TestGolden(t *testing.T) {
	var out strings.Builder
	for _, name := range []string{"none", "physical", "moved"} {
		e := goldenBlocks()[name]
		var b [BlockEntrySize]byte
		e.Put(b[:])
		fmt.Fprintf(&out, "block entry, %s\n%s", name, hex.Dump(b[:]))
		if got, err := GetBlockEntry(b[:]); err != nil || got != e {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, name := range []string{"none", "closed", "open"} {
		e := goldenExtents()[name]
		var b [ExtentEntrySize]byte
		e.Put(b[:])
		fmt.Fprintf(&out, "extent entry, %s\n%s", name, hex.Dump(b[:]))
		if got, err := GetExtentEntry(b[:]); err != nil || got != e {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	var node [block.PageSize]byte
	(&table{0: New(0, 1, 2), 1: New(3, 0x0405060708, 9), 511: New(64, MaxBlock, 239)}).put(node[:])
	fmt.Fprintf(&out, "map node, entries 0, 1 and 511\n%s%s", hex.Dump(node[:16]), hex.Dump(node[4088:]))
	const file = "testdata/entries.txt"
	if *rewrite {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != out.String() {
		t.Errorf("encodings changed (%v); -rewrite if this is meant:\n%s", err, out.String())
	}
}

func TestBlockEntryRefuses(t *testing.T) {
	for name, spoil := range map[string]func(p, m *BlockEntry, b []byte){
		"kind":            func(_, _ *BlockEntry, b []byte) { b[0] = 3 },
		"type":            func(p, _ *BlockEntry, _ []byte) { p.Type = 6 },
		"rows":            func(p, _ *BlockEntry, _ []byte) { p.Rows = 241 },
		"live":            func(p, _ *BlockEntry, _ []byte) { p.Live = 201 },
		"encryption":      func(p, _ *BlockEntry, _ []byte) { p.Encryption = 2 },
		"no extent":       func(p, _ *BlockEntry, _ []byte) { p.Extent = 0 },
		"payload":         func(p, _ *BlockEntry, _ []byte) { p.Payload = 200*4096 + 1 },
		"reserved":        func(_, _ *BlockEntry, b []byte) { b[28] = 1 },
		"no target":       func(_, m *BlockEntry, _ []byte) { m.Target = 0 },
		"far target":      func(_, m *BlockEntry, _ []byte) { m.Target = MaxBlock + 1 },
		"no survivor":     func(_, m *BlockEntry, _ []byte) { m.Survivors = Survivors{} },
		"past the target": func(_, m *BlockEntry, _ []byte) { m.Base = 238 },
		"past the rows":   func(_, m *BlockEntry, _ []byte) { m.Rows = 239 },
	} {
		p, m := goldenBlocks()["physical"], goldenBlocks()["moved"]
		var b, c [BlockEntrySize]byte
		p.Put(b[:])
		m.Put(c[:])
		spoil(&p, &m, b[:])
		if p != goldenBlocks()["physical"] {
			p.Put(b[:])
		}
		m.Put(c[:])
		_, errP := GetBlockEntry(b[:])
		_, errM := GetBlockEntry(c[:])
		if !errors.Is(errP, ErrFormat) && !errors.Is(errM, ErrFormat) {
			t.Errorf("%s: %v, %v", name, errP, errM)
		}
	}
}

func FuzzBlockEntry(f *testing.F) {
	for _, e := range goldenBlocks() {
		b := make([]byte, BlockEntrySize)
		e.Put(b)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var b, again [BlockEntrySize]byte
		copy(b[:], data)
		e, err := GetBlockEntry(b[:])
		if err != nil {
			return
		}
		if e.Put(again[:]); again != b {
			t.Errorf("%x decodes to %x", b, again)
		}
		for p := range 256 {
			if number, page, ok := e.Resolve(uint8(p)); ok && (number == 0 || page >= block.MaxPages || p >= int(e.Rows)) {
				t.Errorf("page %d resolves to %d.%d", p, number, page)
			}
		}
	})
}

func FuzzExtentEntry(f *testing.F) {
	for _, e := range goldenExtents() {
		b := make([]byte, ExtentEntrySize)
		e.Put(b)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var b, again [ExtentEntrySize]byte
		copy(b[:], data)
		e, err := GetExtentEntry(b[:])
		if err != nil {
			return
		}
		if e.Put(again[:]); again != b {
			t.Errorf("%x decodes to %x", b, again)
		}
	})
}

// TestThrough: two moves in one entry say what one after the other says.
func TestThrough(t *testing.T) {
	for seed := range int64(200) {
		draw := seeded(seed)
		move := func(rows int) BlockEntry {
			e := BlockEntry{Kind: KindMoved, Type: block.TypeData, Rows: uint16(rows), Live: uint16(rows), Target: uint64(draw(1, 99))}
			for p := range rows {
				if draw(0, 3) == 0 {
					e.Survivors.Set(uint8(p))
				}
			}
			e.Base = uint8(draw(0, block.MaxPages-e.Survivors.Count()))
			return e
		}
		first, next := move(draw(1, 240)), move(240)
		both := first.Through(&next)
		alive := false
		for p := range uint8(block.MaxPages) {
			var wantBlock uint64
			var wantPage uint8
			_, mid, want := first.Resolve(p)
			if want {
				wantBlock, wantPage, want = next.Resolve(mid)
			}
			number, page, ok := both.Resolve(p)
			if ok != want || ok && (number != wantBlock || page != wantPage) {
				t.Fatalf("seed %d: page %d is at %d.%d %t, want %d.%d %t", seed, p, number, page, ok, wantBlock, wantPage, want)
			}
			alive = alive || ok
		}
		var b [BlockEntrySize]byte
		both.Put(b[:])
		if _, err := GetBlockEntry(b[:]); err != nil || alive != (both.Kind == KindMoved) {
			t.Fatalf("seed %d: %+v: %v", seed, both, err)
		}
	}
}

func TestSurvivorsRunAt(t *testing.T) {
	var s Survivors
	for _, p := range []uint8{3, 4, 5, 9, 238, 239} {
		s.Set(p)
	}
	for p, want := range map[uint8]int{0: 0, 3: 3, 4: 2, 5: 1, 6: 0, 9: 1, 238: 2, 239: 1} {
		if got := s.RunAt(p); got != want {
			t.Errorf("%d pages from %d on, want %d", got, p, want)
		}
	}
}
