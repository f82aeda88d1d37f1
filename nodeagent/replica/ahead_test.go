package replica

import (
	"sync/atomic"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// TestPullReadsTogether: payloads that lie behind each other are read together, whatever the size of records, and all of them arrive. A source that fails on
// the way ends the pull, which brings nothing wrong.
func TestPullReadsTogether(t *testing.T) {
	for name, pages := range map[string]int{"small records": 1, "middling ones": 7, "large ones": journal.MaxRecordPages} {
		t.Run(name, func(t *testing.T) {
			x := newWriter(e5, 1, s1, s2)
			for x.chain.DataLen < 4*MaxRead {
				x.write(pages)
			}
			x.add(journal.Record{Type: journal.TypeNoop}, nil)
			w := newWorld(t, 2, small)
			w.send(s2, x, 0, len(x.recs))
			var reads atomic.Int64
			w.lose = func(typ Type) bool { return typ == TypeReadData && reads.Add(1) > 3 }
			if _, err := w.c.Pull(s1, e6, x.x, s2); err == nil {
				t.Fatal("a source that fails is pulled from")
			}
			if st, err := w.c.Promise(s1, e6, x.x); err != nil || st.Chain.Seq >= x.chain.Seq {
				t.Fatalf("%+v: %v", st, err)
			}
			reads.Store(0)
			w.lose = func(typ Type) bool { return typ == TypeReadData && reads.Add(1) < 0 }
			if _, err := w.c.Pull(s1, e6, x.x, s2); err != nil {
				t.Fatal(err)
			}
			if n := reads.Load(); n < 1 || n > 6 {
				t.Errorf("%d reads", n)
			}
			w.crash(s1)
			w.same(s1, x)
		})
	}
}

// TestBatches: a batch is of payloads that lie behind each other, and no longer than one read.
func TestBatches(t *testing.T) {
	x := newWriter(e5, 1, s1)
	for range 9 {
		x.write(journal.MaxRecordPages)
	}
	var log []byte
	for _, r := range x.recs {
		log = append(log, r...)
	}
	list, err := batches(log)
	if err != nil || len(list) != 3 || len(list[0].recs) != 1+MaxRead/block.PageSize/journal.MaxRecordPages || list[0].size != MaxRead {
		t.Fatalf("%d batches: %v", len(list), err)
	}
	for _, b := range list {
		off := b.off
		for _, r := range b.recs {
			if r.DataOff != off {
				t.Errorf("a payload at %d, not %d", r.DataOff, off)
			}
			off += r.Payload
		}
	}
	if _, err := batches(log[:len(log)-1]); err == nil {
		t.Error("half a record is taken")
	}
}
