package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/disk"
)

// small is a store that fits a test: the log is 3 MiB.
var small = Options{SegmentSize: 1 << 20, Segments: 3, Capacity: 1 << 30, Inline: 8 << 10, MaxFiles: 64}

var testSuper = Superblock{Network: [16]byte{1}, Store: block.StoreID{2}, Node: "n1"}

func must[T any](t testing.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func formatted(t testing.TB, o Options) *disk.Mem {
	t.Helper()
	m := disk.NewMem(0)
	if err := Format(m, testSuper, o); err != nil {
		t.Fatal(err)
	}
	return m
}

func opened(t testing.TB, d disk.FS, o Options) *Store {
	t.Helper()
	s, rep, err := Open(d, o)
	if err != nil {
		t.Fatal(err, rep)
	}
	return s
}

// scribe writes the log of one extent as a volume's writer does.
type scribe struct {
	id    block.ExtentID
	chain journal.Chain
	block uint64
	page  uint16
	log   []byte
	data  []byte
	ends  []journal.Chain // after each record
}

func testID(v byte, n uint32) block.ExtentID {
	return block.ExtentID{Volume: block.VolumeID{v}, Epoch: 1, N: n}
}

func newScribe(id block.ExtentID) *scribe { return &scribe{id: id, block: 1} }

// record encodes the next record without moving on.
func (w *scribe) record(typ journal.Type, body, payload []byte) journal.Record {
	r := journal.Record{Type: typ, Payload: uint32(len(payload)), Seq: w.chain.Seq + 1, Epoch: block.Epoch{Number: 1, Token: 7},
		DataOff: w.chain.DataLen, LogOff: w.chain.LogLen, Prev: w.chain.Hash, Body: body}
	return r
}

func (w *scribe) advance(r *journal.Record, payload []byte) []byte {
	rec, h := r.Append(nil)
	w.chain.Advance(r, h)
	w.log = append(w.log, rec...)
	w.data = append(w.data, payload...)
	w.ends = append(w.ends, w.chain)
	return rec
}

func (w *scribe) open(capacity uint32) []byte {
	o := journal.Open{Extent: w.id, Replicas: 1, Quorum: 1, Capacity: capacity, Members: []block.StoreID{{2}}}
	r := w.record(journal.TypeOpen, o.Encode(), nil)
	return w.advance(&r, nil)
}

func (w *scribe) close() []byte {
	next := w.id
	next.N++
	c := journal.Closed{Next: next, Members: []block.StoreID{{2}}}
	r := w.record(journal.TypeClosed, c.Encode(), nil)
	return w.advance(&r, nil)
}

// pages is a write of whole pages with content drawn from rng.
func (w *scribe) pages(n int, rng *rand.Rand) (rec, payload []byte) {
	payload = make([]byte, n*block.PageSize)
	body := make([]byte, n*block.RowSize)
	for i := range n {
		p := payload[i*block.PageSize : (i+1)*block.PageSize]
		for j := 0; j < len(p); j += 512 {
			le.PutUint64(p[j:], rng.Uint64())
		}
		row := block.Row{Leaf: block.Sum(p), Addr: uint64(i), Epoch: 1, Seq: w.chain.Seq + 1, Idx: uint16(i), Len: block.PageSize}
		row.Put(body[i*block.RowSize:])
	}
	if int(w.page)+n > block.MaxPages {
		w.block, w.page = w.block+1, 0
	}
	r := w.record(journal.TypeWrite, body, payload)
	r.Rows, r.Block, r.Page = uint16(n), w.block, w.page
	w.page += uint16(n)
	return w.advance(&r, payload), payload
}

// cut goes back to an earlier end.
func (w *scribe) cut(i int) {
	w.chain = w.ends[i]
	w.ends = w.ends[:i+1]
	w.log, w.data = w.log[:w.chain.LogLen:w.chain.LogLen], w.data[:w.chain.DataLen:w.chain.DataLen]
}

func appendOK(t testing.TB, s *Store, id block.ExtentID, rec, payload []byte) LSN {
	t.Helper()
	lsn, err := s.Append(id, rec, payload)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

func commitOK(t testing.TB, s *Store) {
	t.Helper()
	if _, err := s.Commit(); err != nil {
		t.Fatal(err)
	}
}

// requireHeld demands that the store holds exactly what the scribe wrote.
func requireHeld(t testing.TB, s *Store, w *scribe) {
	t.Helper()
	st, ok := s.Stat(w.id)
	if !ok || st.Chain != w.chain || st.Unknown {
		t.Fatalf("extent %s: %v %+v, want %+v", w.id, ok, st, w.chain)
	}
	log, data := make([]byte, len(w.log)), make([]byte, len(w.data))
	if err := s.ReadLog(w.id, 0, log); err != nil || !bytes.Equal(log, w.log) {
		t.Fatalf("log of %s: %v, equal %v", w.id, err, bytes.Equal(log, w.log))
	}
	if err := s.ReadData(w.id, 0, data); err != nil || !bytes.Equal(data, w.data) {
		t.Fatalf("data of %s: %v, equal %v", w.id, err, bytes.Equal(data, w.data))
	}
	clear(log)
	clear(data)
	if err := s.ReadLogNow(w.id, 0, log); err == nil && !bytes.Equal(log, w.log) || err != nil && !errors.Is(err, disk.ErrWouldWait) {
		t.Fatalf("log of %s without waiting: %v, equal %v", w.id, err, bytes.Equal(log, w.log))
	}
	if err := s.ReadDataNow(w.id, 0, data); err == nil && !bytes.Equal(data, w.data) || err != nil && !errors.Is(err, disk.ErrWouldWait) {
		t.Fatalf("data of %s without waiting: %v, equal %v", w.id, err, bytes.Equal(data, w.data))
	}
}
