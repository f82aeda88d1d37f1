package block

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// sample is a block of two pages: one as it is, one of zeros.
func sample() (h Header, rows []byte, page []byte) {
	page = bytes.Repeat([]byte{0xa5}, PageSize)
	list := []Row{
		{Leaf: Sum(page), Tag: [16]byte{1, 2, 3}, Addr: 0x0102030405060708, Epoch: 0x1112131415161718, Token: 0x2122232425262728,
			Seq: 0x3132333435363738, Idx: 0x4142, Len: PageSize, Key: 0x51525354},
		{Leaf: Sum(nil), Addr: 9, Epoch: 1, Token: 2, Seq: 3, Idx: 1},
	}
	rows = make([]byte, 2*RowSize)
	for i := range list {
		list[i].Put(rows[i*RowSize:])
	}
	h = Header{Type: TypeData, Encryption: EncryptionAES256GCM, Compression: CompressionZstd, Rows: 2, Payload: PageSize,
		Volume: VolumeID{0xee, 1}, Number: 0x6162636465666768}
	return h, rows, page
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != got {
		t.Fatalf("%s: %v; got\n%s", path, err, got)
	}
}

func TestGoldenBytes(t *testing.T) {
	h, rows, _ := sample()
	head := make([]byte, HeaderSize)
	h.Put(head)
	x := ExtentID{Volume: VolumeID{0xab, 0xcd}, Epoch: 0x010203040506, N: 0x0708090a}
	xb, eb := make([]byte, ExtentIDSize), make([]byte, EpochSize)
	x.Put(xb)
	e := Epoch{Number: 0x0102030405060708, Session: 0x11121314, Token: 0x2122232425262728}
	e.Put(eb)
	golden(t, "block.txt", fmt.Sprintf("header %s\nrow %s\nid %s\nextent %s\nextent text %s\nextent key %s\nepoch %s\nepoch text %s\n", hex.EncodeToString(head),
		hex.EncodeToString(rows[:RowSize]), ID(&h, rows), hex.EncodeToString(xb), x, x.Key(), hex.EncodeToString(eb), e))
	if GetExtentID(xb) != x || GetEpoch(eb) != e {
		t.Fatal("ids do not come back")
	}
	if got, err := GetHeader(head); err != nil || got != h {
		t.Fatalf("%+v: %v", got, err)
	}
}

func TestHeaderRefusals(t *testing.T) {
	h, _, _ := sample()
	good := make([]byte, HeaderSize)
	h.Put(good)
	for name, change := range map[string]func(b []byte) []byte{
		"short":         func(b []byte) []byte { return b[:HeaderSize-1] },
		"empty":         func([]byte) []byte { return nil },
		"magic":         func(b []byte) []byte { b[0]++; return b },
		"version":       func(b []byte) []byte { b[4]++; return b },
		"type 0":        func(b []byte) []byte { b[5] = 0; return b },
		"type":          func(b []byte) []byte { b[5] = 6; return b },
		"encryption":    func(b []byte) []byte { b[6] = 2; return b },
		"compression":   func(b []byte) []byte { b[7] = 2; return b },
		"no rows":       func(b []byte) []byte { b[8] = 0; return b },
		"too many rows": func(b []byte) []byte { b[8] = MaxPages + 1; return b },
		"reserved":      func(b []byte) []byte { b[10] = 1; return b },
		"payload":       func(b []byte) []byte { b[15] = 1; return b },
		"number 0":      func(b []byte) []byte { clear(b[32:40]); return b },
		"tail":          func(b []byte) []byte { b[63] = 1; return b },
	} {
		if _, err := GetHeader(change(bytes.Clone(good))); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTable(t *testing.T) {
	h, rows, page := sample()
	id := ID(&h, rows)
	tab, err := NewTable(h, rows, id)
	if err != nil {
		t.Fatal(err)
	}
	if want := []uint32{0, PageSize, PageSize}; fmt.Sprint(tab.Offs) != fmt.Sprint(want) {
		t.Fatalf("offsets %v", tab.Offs)
	}
	if err := tab.Rows[0].Check(page); err != nil {
		t.Fatal(err)
	}
	if err := tab.Rows[1].Check(nil); err != nil {
		t.Fatal(err)
	}
	for i := range page[:64] { // control: every flipped bit is noticed
		bad := bytes.Clone(page)
		bad[i*64] ^= 1
		if err := tab.Rows[0].Check(bad); !errors.Is(err, ErrMismatch) {
			t.Fatalf("byte %d: %v", i*64, err)
		}
	}
	for _, p := range [][]byte{nil, page[:PageSize-1], append(bytes.Clone(page), 0)} {
		if err := tab.Rows[0].Check(p); !errors.Is(err, ErrMismatch) {
			t.Fatalf("%d bytes: %v", len(p), err)
		}
	}
}

// TestTableRefusals: whatever bit of header or rows differs, the id does not fit; and a fitting id does not make rows
// sound.
func TestTableRefusals(t *testing.T) {
	h, rows, _ := sample()
	id := ID(&h, rows)
	for i := range rows {
		bad := bytes.Clone(rows)
		bad[i] ^= 0x10
		if _, err := NewTable(h, bad, id); !errors.Is(err, ErrMismatch) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	head := make([]byte, HeaderSize)
	h.Put(head)
	for i := range head {
		bad := bytes.Clone(head)
		bad[i] ^= 1
		if g, err := GetHeader(bad); err == nil && g.Rows == h.Rows {
			if _, err := NewTable(g, rows, id); !errors.Is(err, ErrMismatch) {
				t.Fatalf("header byte %d: %v", i, err)
			}
		}
	}
	if _, err := NewTable(h, rows[:RowSize], id); !errors.Is(err, ErrFormat) {
		t.Fatalf("short: %v", err)
	}
	long := bytes.Clone(rows)
	long[83] = 0x20
	if _, err := NewTable(h, long, ID(&h, long)); !errors.Is(err, ErrFormat) {
		t.Fatalf("length: %v", err)
	}
	less := h
	less.Payload--
	if _, err := NewTable(less, rows, ID(&less, rows)); !errors.Is(err, ErrFormat) {
		t.Fatalf("payload: %v", err)
	}
}

func TestEpochOrder(t *testing.T) {
	list := []Epoch{{}, {1, 0, 5}, {1, 1, 5}, {1, 1 << 31, 5}, {2, 0, 1}, {1 << 63, 0, 0}}
	for i, a := range list {
		for j, b := range list {
			if got := a.Compare(b); (got < 0) != (i < j) || (got > 0) != (i > j) || a.Less(b) != (i < j) {
				t.Errorf("%s and %s: %d", a, b, got)
			}
		}
	}
	if (Epoch{1, 1, 5}).Compare(Epoch{1, 1, 6}) != 0 {
		t.Error("tokens order")
	}
}

// TestExtentNamesSort: names sort as extents were opened, up to epoch 2^48.
func TestExtentNamesSort(t *testing.T) {
	v := VolumeID{1}
	list := []ExtentID{{v, 1, 0}, {v, 1, 1}, {v, 1, 1 << 31}, {v, 9, 0}, {v, 16, 3}, {v, 1<<48 - 1, 0}}
	for i := range list[1:] {
		if list[i].String() >= list[i+1].String() {
			t.Errorf("%s after %s", list[i], list[i+1])
		}
	}
}

func FuzzGetHeader(f *testing.F) {
	h, _, _ := sample()
	b := make([]byte, HeaderSize)
	h.Put(b)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := GetHeader(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		again := make([]byte, HeaderSize)
		if h.Put(again); !bytes.Equal(again, b[:HeaderSize]) {
			t.Fatalf("%x\n%x", again, b)
		}
	})
}

func FuzzNewTable(f *testing.F) {
	h, rows, _ := sample()
	b := make([]byte, HeaderSize)
	h.Put(b)
	f.Add(b, rows)
	f.Fuzz(func(t *testing.T, head, rows []byte) {
		h, err := GetHeader(head)
		if err != nil {
			return
		}
		tab, err := NewTable(h, rows, ID(&h, rows))
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		again := make([]byte, len(rows))
		for i := range tab.Rows {
			tab.Rows[i].Put(again[i*RowSize:])
		}
		if !bytes.Equal(again, rows) || tab.Offs[len(tab.Rows)] != h.Payload {
			t.Fatal("does not come back")
		}
	})
}

func FuzzParseExtentID(f *testing.F) {
	f.Add(ExtentID{VolumeID{1, 2}, 3, 4}.String())
	f.Add(ExtentID{VolumeID{1, 2}, 1 << 50, 4}.String())
	f.Fuzz(func(t *testing.T, s string) {
		x, err := ParseExtentID(s)
		if err == nil && x.String() != s || err != nil && !errors.Is(err, ErrBadID) {
			t.Fatalf("%q: %s, %v", s, x, err)
		}
	})
}

func FuzzParseStoreID(f *testing.F) {
	f.Add(StoreID{1, 2, 0xff}.String())
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseStoreID(s)
		if err == nil && len(s) != 32 || err != nil && !errors.Is(err, ErrBadID) {
			t.Fatalf("%q: %v", s, err)
		}
		if back, err := ParseStoreID(id.String()); err != nil || back != id {
			t.Fatalf("%s: %v", id, err)
		}
		v, err := ParseVolumeID(id.String())
		if err != nil || v != VolumeID(id) || v.IsZero() != id.IsZero() {
			t.Fatalf("%s: %v", v, err)
		}
	})
}

func TestNoAllocations(t *testing.T) {
	h, rows, page := sample()
	r := GetRow(rows)
	buf := make([]byte, RowSize)
	many := make([]byte, MaxPages*RowSize)
	for name, f := range map[string]func(){
		"leaf":  func() { Sum(page) },
		"check": func() { _ = r.Check(page) },
		"row":   func() { r.Put(buf); GetRow(buf) },
		"id":    func() { ID(&h, many) },
		"key":   func() { ExtentID{N: 1}.Key() },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkLeaf(b *testing.B) {
	page := make([]byte, PageSize)
	b.SetBytes(PageSize)
	for b.Loop() {
		Sum(page)
	}
}

func BenchmarkID(b *testing.B) {
	h, _, _ := sample()
	rows := make([]byte, MaxPages*RowSize)
	b.SetBytes(int64(len(rows)))
	for b.Loop() {
		ID(&h, rows)
	}
}
