package journal

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// writerOf makes logs: it keeps the end by itself, not by Chain.
type writerOf struct {
	log   []byte
	recs  []Record
	hash  []block.Hash
	data  uint32
	epoch block.Epoch
}

func (w *writerOf) add(r Record) {
	r.Epoch, r.LogOff, r.DataOff = w.epoch, uint32(len(w.log)), w.data
	if n := len(w.recs); n > 0 {
		r.Seq, r.Prev = w.recs[n-1].Seq+1, w.hash[n-1]
	}
	var h block.Hash
	w.log, h = r.Append(w.log)
	w.recs, w.hash = append(w.recs, r), append(w.hash, h)
	w.data += r.Payload
}

func openBody() []byte {
	o := Open{Extent: ext, Replicas: 3, Quorum: 2, Members: three}
	return o.Encode()
}

func newWriter(first uint64) *writerOf {
	w := &writerOf{epoch: block.Epoch{Number: 5, Token: 1}}
	w.add(Record{Type: TypeOpen, Seq: first, Prev: block.Sum([]byte("before")), Body: openBody()})
	return w
}

func (w *writerOf) write(t Type, n int, number uint64, page int, lens ...int) {
	rows, payload := pages(n, 0, lens...)
	w.add(Record{Type: t, Rows: uint16(n), Payload: uint32(len(payload)), Page: uint16(page), Block: number, Body: rows})
}

// TestWalk: whatever log a writer makes is walked whole, in any pieces, and its end is the writer's.
func TestWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWriter(rapid.Uint64Range(1, 1<<60).Draw(t, "first"))
		for range rapid.IntRange(0, 30).Draw(t, "records") {
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				w.write(TypeWrite, rapid.IntRange(1, 5).Draw(t, "pages"), 1, 0, rapid.IntRange(0, block.PageSize).Draw(t, "len"))
			case 1:
				w.add(Record{Type: TypeNoop})
			case 2:
				w.epoch.Session++
			case 3:
				w.epoch.Number += uint64(rapid.IntRange(1, 3).Draw(t, "jump"))
				w.epoch.Session, w.epoch.Token = 0, rapid.Uint64().Draw(t, "token")
			}
		}
		last := len(w.recs) - 1
		if rapid.Bool().Draw(t, "closed") {
			w.add(Record{Type: TypeClosed, Body: (&Closed{Next: next}).Encode()})
			last++
		}
		var c Chain
		at := 0
		for from := 0; from < len(w.recs); {
			to := rapid.IntRange(from+1, len(w.recs)).Draw(t, "piece")
			end := len(w.log)
			if to < len(w.recs) {
				end = int(w.recs[to].LogOff)
			}
			err := c.Walk(w.log[w.recs[from].LogOff:end], func(r *Record, h block.Hash) error {
				if h != w.hash[at] || r.Seq != w.recs[at].Seq {
					t.Fatalf("record %d is another", at)
				}
				at++
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			from = to
		}
		want := Chain{Seq: w.recs[last].Seq, Hash: w.hash[last], Epoch: w.recs[last].Epoch, LogLen: uint32(len(w.log)), DataLen: w.data, Closed: w.recs[last].Type == TypeClosed}
		if c != want {
			t.Fatalf("%+v\n%+v", c, want)
		}
		// Any changed byte is noticed. A record is pinned by the one that follows it, so the last is left out; MACs are not
		// part of the chain.
		if last == 0 {
			return
		}
		i := rapid.IntRange(0, int(w.recs[last].LogOff)-1).Draw(t, "byte")
		bad := bytes.Clone(w.log)
		bad[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		mac := false
		for k := range w.recs {
			off := int(w.recs[k].LogOff)
			mac = mac || (i >= off+macOff && i < off+HeaderSize)
		}
		var d Chain
		err := d.Walk(bad, func(*Record, block.Hash) error { return nil })
		if (err == nil) != mac {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	})
}

// TestChainRefusals: one rule broken at a time.
func TestChainRefusals(t *testing.T) {
	w := newWriter(10)
	w.write(TypeWrite, 2, 1, 0, block.PageSize)
	var c Chain
	if err := c.Walk(w.log, func(*Record, block.Hash) error { return nil }); err != nil {
		t.Fatal(err)
	}
	good := Record{Type: TypeNoop, Seq: 12, Prev: c.Hash, LogOff: c.LogLen, DataOff: c.DataLen, Epoch: w.epoch}
	if err := c.Check(&good); err != nil {
		t.Fatalf("control: %v", err)
	}
	for name, change := range map[string]func(c *Chain, r *Record){
		"gap":                  func(_ *Chain, r *Record) { r.Seq++ },
		"again":                func(_ *Chain, r *Record) { r.Seq-- },
		"another prev":         func(_ *Chain, r *Record) { r.Prev[5] ^= 1 },
		"log offset":           func(_ *Chain, r *Record) { r.LogOff++ },
		"data offset":          func(_ *Chain, r *Record) { r.DataOff-- },
		"epoch back":           func(_ *Chain, r *Record) { r.Epoch.Number-- },
		"session back":         func(c *Chain, r *Record) { c.Epoch.Session = 3; r.Epoch.Session = 2 },
		"token under a number": func(_ *Chain, r *Record) { r.Epoch.Token++ },
		"after closed":         func(c *Chain, _ *Record) { c.Closed = true },
		"second open":          func(_ *Chain, r *Record) { r.Type = TypeOpen },
		"no open":              func(c *Chain, r *Record) { *c = Chain{}; r.LogOff, r.DataOff = 0, 0 },
		"log too long":         func(c *Chain, r *Record) { c.LogLen = math.MaxUint32 - HeaderSize + 1; r.LogOff = c.LogLen },
		"data too long":        func(c *Chain, r *Record) { c.DataLen = math.MaxUint32; r.DataOff = c.DataLen; r.Payload = 1 },
	} {
		d, r := c, good
		change(&d, &r)
		if err := d.Check(&r); !errors.Is(err, ErrChain) {
			t.Errorf("%s: %v", name, err)
		}
	}
	later := good
	later.Epoch = block.Epoch{Number: 6, Token: 77}
	if err := c.Check(&later); err != nil {
		t.Errorf("a later epoch: %v", err)
	}
	stop := errors.New("stop")
	var d Chain
	if err := d.Walk(w.log, func(r *Record, _ block.Hash) error {
		if r.Seq == 11 {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) || d.Seq != 10 {
		t.Errorf("stopped: %v at %d", err, d.Seq)
	}
}

// TestLonger: first the epoch of the last record, then the sequence: a log that a later epoch wrote wins over a longer
// one of a dead writer.
func TestLonger(t *testing.T) {
	order := []Chain{{}, {Seq: 100, Epoch: block.Epoch{Number: 1}}, {Seq: 95, Epoch: block.Epoch{Number: 1, Session: 1}},
		{Seq: 96, Epoch: block.Epoch{Number: 1, Session: 1}}, {Seq: 5, Epoch: block.Epoch{Number: 2}}}
	for i := range order {
		for j := range order {
			if got := Longer(&order[i], &order[j]); got != (i > j) {
				t.Errorf("%d over %d: %v", i, j, got)
			}
		}
	}
}

func TestBlockRows(t *testing.T) {
	w := newWriter(1)
	w.write(TypeWrite, 3, 8, 0, block.PageSize)
	from, data := uint32(len(w.log)), w.data
	w.write(TypeWrite, 2, 9, 0, block.PageSize)
	w.add(Record{Type: TypeDiscard, Body: (&Discard{Page: 1, Count: 2}).Encode()})
	w.write(TypeWrite, 4, 9, 2, 300)
	log := bytes.Clone(w.log[from:])
	s := Seal{Header: block.Header{Type: block.TypeData, Rows: 6, Payload: w.data - data, Volume: vol, Number: 9}, DataOff: data, LogOff: from, LogLen: uint32(len(log))}
	rows, err := s.BlockRows(log)
	if err != nil {
		t.Fatal(err)
	}
	var want []byte
	for _, r := range []int{2, 4} {
		want = append(want, w.recs[r].Body...)
	}
	if !bytes.Equal(rows, want) {
		t.Fatal("other rows")
	}
	s.ID = block.ID(&s.Header, rows)
	if _, err := block.NewTable(s.Header, rows, s.ID); err != nil {
		t.Fatal(err)
	}
	less := s
	less.Header.Rows--
	if _, err := less.BlockRows(log); !errors.Is(err, block.ErrMismatch) {
		t.Errorf("fewer rows: %v", err)
	}
	moved := s
	moved.DataOff += block.PageSize
	if _, err := moved.BlockRows(log); !errors.Is(err, block.ErrMismatch) {
		t.Errorf("another place: %v", err)
	}
	if _, err := s.BlockRows(log[:len(log)-1]); !errors.Is(err, ErrShort) {
		t.Errorf("cut: %v", err)
	}
	// pages of another block in between: the block is no range of the data stream
	x := newWriter(1)
	x.write(TypeWrite, 2, 9, 0, block.PageSize)
	x.write(TypeIndex, 1, 10, 0, block.PageSize)
	x.write(TypeWrite, 4, 9, 2, 300)
	if _, err := s.BlockRows(x.log[x.recs[1].LogOff:]); !errors.Is(err, block.ErrMismatch) {
		t.Errorf("interleaved: %v", err)
	}
	// records that do not say their place
	y := newWriter(1)
	y.write(TypeWrite, 2, 9, 0, block.PageSize)
	y.write(TypeWrite, 4, 9, 3, 300)
	s.DataOff = 0
	if _, err := s.BlockRows(y.log[y.recs[1].LogOff:]); !errors.Is(err, block.ErrMismatch) {
		t.Errorf("wrong page: %v", err)
	}
}
