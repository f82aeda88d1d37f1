package journal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

var (
	vol   = block.VolumeID{0xab, 1}
	ext   = block.ExtentID{Volume: vol, Epoch: 0x0102030405060708, N: 0x090a0b0c}
	next  = block.ExtentID{Volume: vol, Epoch: 0x0102030405060708, N: 0x090a0b0d}
	epoch = block.Epoch{Number: 0x1112131415161718, Session: 0x191a1b1c, Token: 0x2122232425262728}
	three = []block.StoreID{{1}, {2}, {3}}
	place = Position{Extent: ext, LogOff: 0x31323334, Seq: 0x4142434445464748, Members: three[:2]}
)

// body is a control body with its decoder; encode is from the decoded value.
type body struct {
	typ    Type
	bytes  []byte
	decode func(b []byte) (encode func() []byte, err error)
}

func decoder[T any, P interface {
	*T
	Encode() []byte
}](decode func([]byte) (T, error)) func([]byte) (func() []byte, error) {
	return func(b []byte) (func() []byte, error) {
		v, err := decode(b)
		return P(&v).Encode, err
	}
}

func bodies() map[string]body {
	open := Open{Extent: ext, Previous: next, Layout: 5, Replicas: 3, Quorum: 2, Capacity: 64 << 20, Checkpoint: place, Members: three}
	later := open
	later.History = History{Epoch: epoch, Extent: next, Seq: 0x8182838485868788}
	closed := Closed{Next: next, Members: three}
	discard := Discard{Page: 0x0102030405060708, Count: 0x1112131415161718}
	seal := Seal{Header: block.Header{Type: block.TypeData, Rows: 3, Payload: 9000, Volume: vol, Number: 7}, DataOff: 1, LogOff: 2, LogLen: 3, ID: block.Sum(nil)}
	snap := Snapshot{ID: [16]byte{9}, Created: -2, Name: "before the upgrade"}
	check := Checkpoint{Replay: place, Pages: 1 << 20, Map: MapRoot{Addr: 0x0102, Levels: 4}, Table: ArrayRoot{Ref{1, 2, 3, block.Sum([]byte("t"))}, 2, 77},
		Dir: ArrayRoot{Ref{4, 5, 6, block.Sum([]byte("d"))}, 1, 88}, NextBlock: 99, WSeq: 1234, Lineage: []block.VolumeID{{1}, {2}},
		Snapshots: []SnapshotRoot{{Snapshot: snap, Root: MapRoot{7, 3}, Pages: 5, NextBlock: 6}}}
	return map[string]body{
		"open":       {TypeOpen, open.Encode(), decoder(DecodeOpen)},
		"history":    {TypeOpen, later.Encode(), decoder(DecodeOpen)},
		"closed":     {TypeClosed, closed.Encode(), decoder(DecodeClosed)},
		"discard":    {TypeDiscard, discard.Encode(), decoder(DecodeDiscard)},
		"seal":       {TypeSeal, seal.Encode(), decoder(DecodeSeal)},
		"snapshot":   {TypeSnapshot, snap.Encode(), decoder(DecodeSnapshot)},
		"checkpoint": {TypeCheckpoint, check.Encode(), decoder(DecodeCheckpoint)},
	}
}

// pages gives the body of a page record of n pages and its payload; page i is stored with length lens[i%len(lens)].
func pages(n int, first uint64, lens ...int) (rows, payload []byte) {
	for i := range n {
		p := bytes.Repeat([]byte{byte(i + 1)}, lens[i%len(lens)])
		r := block.Row{Leaf: block.Sum(p), Addr: first + uint64(i), Epoch: 1, Token: 2, Seq: 3, Idx: uint16(i), Len: uint16(len(p))}
		rows = append(rows, make([]byte, block.RowSize)...)
		r.Put(rows[len(rows)-block.RowSize:])
		payload = append(payload, p...)
	}
	return rows, payload
}

func records() map[string]*Record {
	out := map[string]*Record{"noop": {Type: TypeNoop}}
	for name, b := range bodies() {
		out[name] = &Record{Type: b.typ, Body: b.bytes}
	}
	for _, t := range []Type{TypeWrite, TypeIndex, TypeRelocate} {
		rows, payload := pages(2, 40, block.PageSize, 100)
		out[t.String()] = &Record{Type: t, Rows: 2, Payload: uint32(len(payload)), Page: 0x11, Block: 0x0102030405060708, Body: rows}
	}
	for _, r := range out {
		r.Seq, r.Epoch, r.DataOff, r.LogOff, r.Prev, r.WSeq, r.MAC = 0x5152535455565758, epoch, 0x61626364, 0x65666768, block.Sum([]byte("prev")), 0x7172737475767778, [16]byte{0xcc}
	}
	return out
}

func TestGoldenBytes(t *testing.T) {
	for name, r := range records() {
		b, h := r.Append(nil)
		got := fmt.Sprintf("hash %s\nheader %s\nbody %s\n", h, hex.EncodeToString(b[:HeaderSize]), hex.EncodeToString(b[HeaderSize:]))
		path := filepath.Join("testdata", name+".txt")
		if *rewrite {
			if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, []byte(got), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || string(want) != got {
			t.Errorf("%s: %v; got\n%s", path, err, got)
		}
	}
	for typ := Type(1); typ < typeEnd; typ++ {
		if records()[typ.String()] == nil {
			t.Errorf("no golden record of type %s", typ)
		}
	}
}

func TestBodiesComeBack(t *testing.T) {
	for name, b := range bodies() {
		enc, err := b.decode(b.bytes)
		if err != nil || !bytes.Equal(enc(), b.bytes) {
			t.Errorf("%s: %v", name, err)
		}
		for n := range b.bytes {
			if name == "history" && n == len(bodies()["open"].bytes) {
				continue // that is an open record of a first history; the chain hash tells them apart
			}
			if _, err := b.decode(b.bytes[:n]); !errors.Is(err, ErrFormat) && !errors.Is(err, block.ErrFormat) {
				t.Errorf("%s cut to %d bytes: %v", name, n, err)
			}
		}
		if _, err := b.decode(append(bytes.Clone(b.bytes), 0)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s with a byte more: %v", name, err)
		}
	}
}

func TestBodyRefusals(t *testing.T) {
	open := func(change func(o *Open)) []byte {
		o := Open{Extent: ext, Replicas: 3, Quorum: 2, Members: append([]block.StoreID(nil), three...)}
		change(&o)
		return o.Encode()
	}
	many := make([]block.StoreID, MaxMembers+1)
	for i := range many {
		many[i] = block.StoreID{byte(i + 1)}
	}
	for name, c := range map[string]struct {
		kind string
		b    []byte
	}{
		"no extent":        {"open", open(func(o *Open) { o.Extent = block.ExtentID{} })},
		"replicas":         {"open", open(func(o *Open) { o.Replicas = 2 })},
		"no quorum":        {"open", open(func(o *Open) { o.Quorum = 0 })},
		"quorum too high":  {"open", open(func(o *Open) { o.Quorum = 4 })},
		"a member twice":   {"open", open(func(o *Open) { o.Members[2] = o.Members[0] })},
		"too many":         {"open", open(func(o *Open) { o.Members, o.Replicas = many, uint8(len(many)) })},
		"nobody's history": {"open", open(func(o *Open) { o.History = History{Extent: ext, Seq: 1} })},
		"history of none":  {"open", open(func(o *Open) { o.History = History{Epoch: epoch, Seq: 1} })},
		"history of seq 0": {"open", open(func(o *Open) { o.History = History{Epoch: epoch, Extent: ext} })},
		"history version":  {"open", append(open(func(*Open) {}), append([]byte{2}, make([]byte, 56)...)...)},
		"empty history":    {"open", append(open(func(*Open) {}), append([]byte{1}, make([]byte, 56)...)...)},
		"no next":          {"closed", (&Closed{Members: three}).Encode()},
		"overflow":         {"discard", (&Discard{Page: 1, Count: ^uint64(0)}).Encode()},
		"long name":        {"snapshot", (&Snapshot{Name: strings.Repeat("x", MaxName+1)}).Encode()},
		"levels":           {"checkpoint", (&Checkpoint{Map: MapRoot{Levels: 5}}).Encode()},
		"lineage":          {"checkpoint", (&Checkpoint{Lineage: make([]block.VolumeID, MaxLineage+1)}).Encode()},
		"snapshots":        {"checkpoint", (&Checkpoint{Snapshots: make([]SnapshotRoot, MaxSnapshots+1)}).Encode()},
		"version":          {"checkpoint", append([]byte{2}, (&Checkpoint{}).Encode()[1:]...)},
	} {
		if _, err := bodies()[c.kind].decode(c.b); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := DecodeOpen(open(func(*Open) {})); err != nil {
		t.Errorf("control: %v", err)
	}
	full := Checkpoint{Snapshots: make([]SnapshotRoot, MaxSnapshots), Lineage: make([]block.VolumeID, MaxLineage)}
	for i := range full.Snapshots {
		full.Snapshots[i].Name = strings.Repeat("n", MaxName)
	}
	if n := len(full.Encode()); n > MaxBody {
		t.Errorf("the largest checkpoint has %d bytes, a body at most %d", n, MaxBody)
	}
}

func TestParseRefusals(t *testing.T) {
	w := records()["write"]
	good, _ := w.Append(nil)
	noop, _ := records()["noop"].Append(nil)
	for name, c := range map[string]struct {
		from   []byte
		change func(b []byte) []byte
		want   error
	}{
		"short header":      {good, func(b []byte) []byte { return b[:HeaderSize-1] }, ErrShort},
		"short body":        {good, func(b []byte) []byte { return b[:len(b)-1] }, ErrShort},
		"magic":             {good, func(b []byte) []byte { b[0]++; return b }, ErrFormat},
		"version":           {good, func(b []byte) []byte { b[2]++; return b }, ErrFormat},
		"type 0":            {good, func(b []byte) []byte { b[3] = 0; return b }, ErrFormat},
		"unknown type":      {good, func(b []byte) []byte { b[3] = byte(typeEnd); return b }, ErrFormat},
		"flags":             {good, func(b []byte) []byte { b[4] = 1; return b }, ErrFormat},
		"length too small":  {good, func(b []byte) []byte { clear(b[8:12]); return b }, ErrFormat},
		"length too large":  {good, func(b []byte) []byte { b[11] = 1; return b }, ErrFormat},
		"payload":           {good, func(b []byte) []byte { b[12]++; return b }, ErrFormat},
		"seq 0":             {good, func(b []byte) []byte { clear(b[16:24]); return b }, ErrFormat},
		"page too high":     {good, func(b []byte) []byte { b[52] = block.MaxPages - 1; return b }, ErrFormat},
		"reserved":          {good, func(b []byte) []byte { b[54] = 1; return b }, ErrFormat},
		"block 0":           {good, func(b []byte) []byte { clear(b[56:64]); return b }, ErrFormat},
		"reserved 2":        {good, func(b []byte) []byte { b[104] = 1; return b }, ErrFormat},
		"no rows":           {good, func(b []byte) []byte { b[6] = 0; return b }, ErrFormat},
		"rows":              {good, func(b []byte) []byte { b[6] = 3; return b }, ErrFormat},
		"row length":        {good, func(b []byte) []byte { b[HeaderSize+83] = 0xff; return b }, ErrFormat},
		"control with rows": {noop, func(b []byte) []byte { b[6] = 1; return b }, ErrFormat},
		"control with data": {noop, func(b []byte) []byte { b[12] = 1; return b }, ErrFormat},
		"control in block":  {noop, func(b []byte) []byte { b[56] = 1; return b }, ErrFormat},
		"control with page": {noop, func(b []byte) []byte { b[52] = 1; return b }, ErrFormat},
	} {
		if _, _, err := Parse(c.change(bytes.Clone(c.from))); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHashPinsEverything: any changed bit but those of the MAC changes the chain hash or is refused.
func TestHashPinsEverything(t *testing.T) {
	good, h := records()["write"].Append(nil)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 4
		if _, _, err := Parse(bad); err != nil {
			continue
		}
		if pinned := i < macOff || i >= HeaderSize; (HashOf(bad) != h) != pinned {
			t.Fatalf("byte %d", i)
		}
	}
}

func TestCheckPayload(t *testing.T) {
	rows, payload := pages(3, 0, block.PageSize, 0, 77)
	r := Record{Type: TypeWrite, Rows: 3, Payload: uint32(len(payload)), Block: 1, Seq: 1, Body: rows}
	if err := r.CheckPayload(payload); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, block.PageSize - 1, block.PageSize, len(payload) - 1} {
		bad := bytes.Clone(payload)
		bad[i] ^= 1
		if err := r.CheckPayload(bad); !errors.Is(err, block.ErrMismatch) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	zero := bytes.Clone(rows)
	zero[block.RowSize] ^= 1 // the leaf of the page of zeros, which stores no bytes
	r.Body = zero
	if err := r.CheckPayload(payload); !errors.Is(err, block.ErrMismatch) {
		t.Errorf("leaf of a page of zeros: %v", err)
	}
	r.Body = rows
	for _, p := range [][]byte{nil, payload[1:], append(bytes.Clone(payload), 0)} {
		if err := r.CheckPayload(p); !errors.Is(err, block.ErrMismatch) {
			t.Errorf("%d bytes: %v", len(p), err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, r := range records() {
		b, _ := r.Append(nil)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrShort) {
				t.Fatal(err)
			}
			return
		}
		again, h := r.Append(nil)
		if !bytes.Equal(again, b[:n]) || h != HashOf(b[:n]) {
			t.Fatalf("%x\n%x", again, b[:n])
		}
		_ = r.CheckPayload(make([]byte, r.Payload))
		for i := range int(r.Rows) {
			r.Row(i)
		}
	})
}

// FuzzBodies feeds every decoder; what is accepted encodes to the same bytes.
func FuzzBodies(f *testing.F) {
	for _, b := range bodies() {
		f.Add(uint8(b.typ), b.bytes)
	}
	byType := map[Type]body{}
	for _, b := range bodies() {
		byType[b.typ] = b
	}
	f.Fuzz(func(t *testing.T, typ uint8, b []byte) {
		d, ok := byType[Type(typ)]
		if !ok {
			return
		}
		enc, err := d.decode(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, block.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		if again := enc(); !bytes.Equal(again, b) {
			t.Fatalf("%x\n%x", again, b)
		}
	})
}

func TestNoAllocations(t *testing.T) {
	rows, payload := pages(MaxRecordPages, 0, block.PageSize)
	r := Record{Type: TypeWrite, Rows: MaxRecordPages, Payload: uint32(len(payload)), Block: 1, Seq: 1, Body: rows}
	dst, _ := r.Append(nil)
	for name, f := range map[string]func(){
		"append":  func() { dst, _ = r.Append(dst[:0]) },
		"parse":   func() { _, _, _ = Parse(dst) },
		"hash":    func() { HashOf(dst) },
		"payload": func() { _ = r.CheckPayload(payload) },
	} {
		if n := testing.AllocsPerRun(20, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	rows, payload := pages(1, 0, block.PageSize)
	r := Record{Type: TypeWrite, Rows: 1, Payload: uint32(len(payload)), Block: 1, Seq: 1, Body: rows}
	dst, _ := r.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		dst, _ = r.Append(dst[:0])
	}
}

func BenchmarkParse(b *testing.B) {
	rows, payload := pages(MaxRecordPages, 0, block.PageSize)
	r := Record{Type: TypeWrite, Rows: MaxRecordPages, Payload: uint32(len(payload)), Block: 1, Seq: 1, Body: rows}
	dst, _ := r.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = Parse(dst)
	}
}
