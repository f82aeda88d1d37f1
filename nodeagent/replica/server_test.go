package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/store"
)

var (
	s1, s2, s3 = block.StoreID{1}, block.StoreID{2}, block.StoreID{3}
	e5         = block.Epoch{Number: 5, Token: 50}
	e6         = block.Epoch{Number: 6, Token: 60}
	small      = store.Options{SegmentSize: 1 << 20, Segments: 4}
)

func (e *writer) at(epoch block.Epoch) *writer {
	c := e.fork()
	c.epoch = epoch
	return c
}

func TestFencing(t *testing.T) {
	w := newWorld(t, 1, small)
	x := newWriter(e5, 1, s1, s2, s3)
	x.write(1)
	x.write(1)
	w.send(s1, x, 0, 2)
	st, err := w.c.Promise(s1, e6, x.x)
	if err != nil || st.Promised != e6 || st.Chain.Seq != 2 {
		t.Fatalf("%+v: %v", st, err)
	}
	a := <-w.ask(s1, TypeAppend, x.body(s1, 2))
	if a.st != StatusFenced || block.GetEpoch(a.body) != e6 {
		t.Fatalf("append of a fenced writer: %d %x", a.st, a.body)
	}
	for name, call := range map[string]func(e block.Epoch) error{
		"promise": func(e block.Epoch) error { _, err := w.c.Promise(s1, e, x.x); return err },
		"cut":     func(e block.Epoch) error { _, err := w.c.Cut(s1, e, x.x, 1); return err },
		"free":    func(e block.Epoch) error { return w.c.Free(s1, e, x.x) },
		"drop":    func(e block.Epoch) error { return w.c.Drop(s1, e, vol, []byte("signed")) },
		"confirm": func(e block.Epoch) error { _, err := w.c.Confirm(s1, e, x.x, &x.chain); return err },
	} {
		for _, e := range []block.Epoch{e5, {Number: 6, Token: 61}, {Number: 6, Session: 1, Token: 61}, {}} {
			var f *FencedError
			if err := call(e); !errors.As(err, &f) || f.Promised != e6 || !errors.Is(err, replication.ErrFenced) {
				t.Errorf("%s under %s: %v", name, e, err)
			}
		}
	}
	y := x.fork()
	y.recs, y.data = y.recs[:2], y.data[:2]
	if st, err := w.c.Stat(s1, x.x); err != nil || st.Chain.Seq != 2 || st.Promised != e6 {
		t.Fatalf("the fenced changed something: %+v, %v", st, err)
	}
}

// TestPromiseIsDurable is R2: what was answered holds after a power cut. A disk that lies is the control.
func TestPromiseIsDurable(t *testing.T) {
	for _, lies := range []bool{false, true} {
		w := newWorld(t, 1, small)
		w.node[s1].fs.IgnoreSync(lies)
		if _, err := w.c.Promise(s1, e6, block.ExtentID{Volume: vol}); err != nil {
			t.Fatal(err)
		}
		n := w.crash(s1)
		if kept := n.st.Promised(vol) == e6; kept == lies {
			t.Errorf("a disk that lies %v: the promise is kept %v", lies, kept)
		}
		if lies {
			continue
		}
		x := newWriter(e5, 1, s1)
		if a := <-w.ask(s1, TypeAppend, x.body(s1, 0)); a.st != StatusFenced {
			t.Errorf("the fenced writer is taken after a power cut: %d", a.st)
		}
	}
}

// TestAppendIsDurable: what was acknowledged is there after a power cut, payload included, small and large.
func TestAppendIsDurable(t *testing.T) {
	for _, lies := range []bool{false, true} {
		w := newWorld(t, 1, small)
		x := newWriter(e5, 1, s1)
		x.write(2)
		x.write(32)
		x.write(1)
		w.node[s1].fs.IgnoreSync(lies)
		w.send(s1, x, 0, len(x.recs))
		w.crash(s1)
		if err := w.compare(s1, x); (err == nil) == lies {
			t.Errorf("a disk that lies %v: %v", lies, err)
		}
	}
}

func TestDuplicatesAndGaps(t *testing.T) {
	w := newWorld(t, 1, small)
	x := newWriter(e5, 1, s1)
	for range 4 {
		x.write(1)
	}
	w.send(s1, x, 0, 3)
	for _, i := range []int{2, 2} {
		if a := <-w.ask(s1, TypeAppend, x.body(s1, i)); a.st != StatusOK || binary.LittleEndian.Uint64(a.body) != 3 {
			t.Fatalf("sent again: %d %x", a.st, a.body)
		}
	}
	if a := <-w.ask(s1, TypeAppend, x.body(s1, 4)); a.st != StatusGap {
		t.Fatalf("gap: %d", a.st)
	}
	if a := <-w.ask(s1, TypeAppend, x.body(s1, 0)); a.st != StatusGap {
		t.Fatalf("a second open: %d", a.st)
	}
	other := newWriter(e5, 1, s1)
	other.write(2)
	other.write(1)
	other.write(1)
	if a := <-w.ask(s1, TypeAppend, other.body(s1, 2)); a.st != StatusGap {
		t.Fatalf("another record under the same sequence: %d", a.st)
	}
	if a := <-w.ask(s1, TypeAppend, other.body(s1, 3)); a.st != StatusGap {
		t.Fatalf("another history: %d", a.st)
	}
	w.send(s1, x, 3, 5)
	w.same(s1, x)
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, 1, small)
	x := newWriter(e5, 1, s1)
	x.write(2)
	w.send(s1, x, 0, 1)
	flip := func(at int) []byte {
		b := x.body(s1, 1)
		b[(len(b)+at)%len(b)] ^= 1
		return b
	}
	foreign := newWriter(e5, 2, s2, s3)
	later := x.body(s1, 1)
	block.Epoch{Number: 9, Token: 1}.Put(later[16:])
	wrong := newWriter(e5, 3, s1)
	wrongBody := wrong.body(s1, 0)
	x.x.Put(wrongBody[16+block.EpochSize:])
	for name, c := range map[string]struct {
		typ  Type
		body []byte
		want Status
	}{
		"payload bit":            {TypeAppend, flip(-1), StatusMismatch},
		"first payload bit":      {TypeAppend, flip(-2 * block.PageSize), StatusMismatch},
		"payload missing":        {TypeAppend, x.body(s1, 1)[:len(x.body(s1, 1))-1], StatusMismatch},
		"payload too long":       {TypeAppend, append(x.body(s1, 1), 0), StatusMismatch},
		"record of other epoch":  {TypeAppend, later, StatusBad},
		"another store":          {TypeAppend, x.body(s2, 1), StatusNotHeld},
		"not on the list":        {TypeAppend, foreign.body(s1, 0), StatusBad},
		"open of another extent": {TypeAppend, wrongBody, StatusBad},
		"unknown type":           {typeEnd, x.body(s1, 1), StatusBad},
		"type 0":                 {0, x.body(s1, 1), StatusBad},
	} {
		if a := <-w.ask(s1, c.typ, c.body); a.st != c.want {
			t.Errorf("%s: %d %s", name, a.st, a.body)
		}
	}
	if p := w.node[s1].st.Promised(vol); p != e5 {
		t.Errorf("a refused request raised the promise to %s", p)
	}
	w.send(s1, x, 1, 2)
	w.same(s1, x)
}

// TestOwnAppend: what this process has hashed itself is not hashed again, and all else of an append is checked as ever. The control
// is the same append from elsewhere.
func TestOwnAppend(t *testing.T) {
	w := newWorld(t, 1, small)
	x := newWriter(e5, 1, s1)
	x.write(2)
	w.send(s1, x, 0, 1)
	own := func(body []byte) answer {
		ch := make(chan answer, 1)
		w.node[s1].srv.HandleOwn("test", TypeAppend, body, replyTo{func(st Status, b []byte, _ error) { ch <- answer{st, bytes.Clone(b)} }})
		return <-ch
	}
	body := x.body(s1, 1)
	if a := own(body[:len(body)-1]); a.st != StatusBad {
		t.Errorf("a page that is cut short: %d %s", a.st, a.body)
	}
	record := bytes.Clone(body)
	record[headSize+4+journal.HeaderSize]++ // a leaf: the record is another one, and its pages do not fit it
	for name, b := range map[string][]byte{"record": record, "page": append(bytes.Clone(body[:len(body)-1]), body[len(body)-1]^1)} {
		if a := <-w.ask(s1, TypeAppend, b); a.st != StatusMismatch {
			t.Errorf("%s, from elsewhere: %d %s", name, a.st, a.body)
		}
	}
	if a := own(body); a.st != StatusOK {
		t.Fatalf("own: %d %s", a.st, a.body)
	}
	w.same(s1, x)
	next := newWriter(e5, 2, s1)
	next.write(1)
	w.send(s1, next, 0, 1)
	bad := next.body(s1, 1)
	bad[len(bad)-1] ^= 1
	if a := own(bad); a.st != StatusOK {
		t.Fatalf("own pages are hashed again: %d %s", a.st, a.body)
	}
	found := 0
	if err := w.node[s1].st.Scrub(next.x, func(store.Finding) { found++ }); err != nil || found != 1 {
		t.Errorf("the scrubber finds %d wrong pages: %v", found, err)
	}
}

// denier allows nothing but reading.
type denier struct{}

func (denier) Allow(_ string, _ block.VolumeID, _ uint64, v Verb) error {
	if v != VerbRead {
		return errors.New("no grant")
	}
	return nil
}

func TestGrants(t *testing.T) {
	w := newWorld(t, 1, small)
	x := newWriter(e5, 1, s1)
	w.node[s1].srv.auth = denier{}
	h := Head{Store: s1, Epoch: e5, Extent: x.x}
	for typ := TypeAppend; typ < typeEnd; typ++ {
		body := h.Encode(make([]byte, 8)...)
		if typ == TypeAppend || typ == TypeAppendGC {
			body = x.body(s1, 0)
		}
		reads := typ == TypeStat || typ == TypeReadLog || typ == TypeReadData || typ == TypeLease || typ == TypeExtents || typ == TypeHoldings || typ == TypeVolumes || typ == TypeScrub
		if a := <-w.ask(s1, typ, body); (a.st == StatusDenied) == reads {
			t.Errorf("type %d: %d %s", typ, a.st, a.body)
		}
	}
	if w.node[s1].st.Promised(vol) != (block.Epoch{}) {
		t.Error("a request without a grant changed something")
	}
}

// TestBlockedAppends: a log too small for what comes; everything is answered once, in order.
func TestBlockedAppends(t *testing.T) {
	w := newWorld(t, 1, store.Options{SegmentSize: 1 << 20, Segments: 3, Inline: 256 << 10})
	x := newWriter(e5, 1, s1)
	for range 150 {
		x.write(12)
	}
	var waits []<-chan answer
	for i := range x.recs {
		waits = append(waits, w.ask(s1, TypeAppend, x.body(s1, i)))
	}
	for i, ch := range waits {
		if a := <-ch; a.st != StatusOK || binary.LittleEndian.Uint64(a.body) != uint64(i+1) {
			t.Fatalf("record %d: %d %s", i, a.st, a.body)
		}
	}
	w.same(s1, x)
	for i, ch := range waits {
		if len(ch) != 0 {
			t.Fatalf("record %d was answered twice", i)
		}
	}
}

// TestStopAnswersAll: nothing that was asked stays without an answer when the server stops or its disk dies, nor what is asked of it afterwards,
// when nobody makes room in the log any more.
func TestStopAnswersAll(t *testing.T) {
	for name, end := range map[string]func(n *node){
		"stop":      func(n *node) { n.srv.Stop() },
		"disk dies": func(n *node) { n.fs.PowerOff() },
	} {
		for _, at := range []int{0, 60} {
			t.Run(fmt.Sprint(name, " at ", at), func(t *testing.T) {
				w := newWorld(t, 1, store.Options{SegmentSize: 1 << 20, Segments: 3, Inline: 256 << 10})
				x := newWriter(e5, 1, s1)
				for range 150 {
					x.write(12)
				}
				var waits []<-chan answer
				for i := range x.recs {
					if i == at {
						end(w.node[s1])
					}
					waits = append(waits, w.ask(s1, TypeAppend, x.body(s1, i)))
				}
				for _, ch := range waits {
					<-ch
				}
			})
		}
	}
}

func TestLease(t *testing.T) {
	w := newWorld(t, 1, small)
	l, err := w.c.Lease(s1, vol)
	if err != nil || l.Age != MaxAge || l.Promised != (block.Epoch{}) {
		t.Fatalf("%+v: %v", l, err)
	}
	if _, err := w.c.Promise(s1, e6, block.ExtentID{Volume: vol}); err != nil {
		t.Fatal(err)
	}
	if l, err = w.c.Lease(s1, vol); err != nil || l.Age < 0 || l.Age > w.env.Now() || l.Promised != e6 {
		t.Fatalf("%+v: %v", l, err)
	}
	w.crash(s1)
	if l, err = w.c.Lease(s1, vol); err != nil || l.Age != MaxAge || l.Promised != e6 {
		t.Fatalf("after a restart: %+v, %v", l, err)
	}
	if _, err := w.c.Promise(s1, e5, block.ExtentID{Volume: vol}); !errors.Is(err, replication.ErrFenced) {
		t.Fatal(err)
	}
	if l, err = w.c.Lease(s1, vol); err != nil || l.Age != MaxAge {
		t.Fatalf("a fenced writer renews: %+v, %v", l, err)
	}
}

// TestCutFreeListings goes through the other orders.
func TestCutFreeListings(t *testing.T) {
	w := newWorld(t, 1, small)
	x := newWriter(e5, 1, s1)
	x.write(1)
	two := x.fork()
	x.write(1)
	w.send(s1, x, 0, 3)
	if st, err := w.c.Cut(s1, e5, x.x, 2); err != nil || st.Chain != two.chain {
		t.Fatalf("%+v: %v", st, err)
	}
	w.same(s1, two)
	if got, err := w.c.Extents(s1, vol); err != nil || len(got) != 1 || got[0] != x.x {
		t.Fatalf("%v: %v", got, err)
	}
	if got, err := w.c.Volumes(s1); err != nil || len(got) != 1 || got[0] != vol {
		t.Fatalf("%v: %v", got, err)
	}
	if got, err := w.c.Scrub(s1, x.x); err != nil || len(got) != 0 {
		t.Fatalf("%v: %v", got, err)
	}
	if err := w.c.Repair(s1, e5, x.x, 0, true, bytes.Repeat([]byte{9}, block.PageSize)); !errors.Is(err, block.ErrMismatch) {
		t.Fatalf("repair with other bytes: %v", err)
	}
	if err := w.c.Free(s1, e5, x.x); err != nil {
		t.Fatal(err)
	}
	if err := w.c.Free(s1, e5, x.x); err != nil {
		t.Fatalf("freed again: %v", err)
	}
	if st, err := w.c.Stat(s1, x.x); err != nil || st.Held {
		t.Fatalf("%+v: %v", st, err)
	}
	if err := w.c.Drop(s1, e5, vol, []byte("signed")); err != nil {
		t.Fatal(err)
	}
	if a := <-w.ask(s1, TypeAppend, newWriter(e5, 2, s1).body(s1, 0)); a.st != StatusDeleted {
		t.Fatalf("open of a deleted volume: %d", a.st)
	}
}

// deleter allows reading and deleting.
type deleter struct{}

func (deleter) Allow(_ string, _ block.VolumeID, _ uint64, v Verb) error {
	if v != VerbRead && v != VerbDelete {
		return errors.New("no grant")
	}
	return nil
}

// TestFreeDeleted: who may delete frees extents of a volume whose deletion the store keeps, and of no other.
func TestFreeDeleted(t *testing.T) {
	w := newWorld(t, 1, small)
	x := newWriter(e5, 1, s1)
	w.send(s1, x, 0, 1)
	w.node[s1].srv.auth = deleter{}
	if err := w.c.Free(s1, e5, x.x); !errors.Is(err, ErrDenied) {
		t.Fatalf("of a live volume: %v", err)
	}
	if err := w.c.Drop(s1, e6, vol, []byte("signed")); err != nil {
		t.Fatal(err)
	}
	if err := w.c.Free(s1, e6, x.x); err != nil {
		t.Fatal(err)
	}
	if st, err := w.c.Stat(s1, x.x); err != nil || st.Held {
		t.Fatalf("%+v: %v", st, err)
	}
}

// TestConfirm: a closed log counts as of the epoch that went on from it, also after a power cut.
func TestConfirm(t *testing.T) {
	w := newWorld(t, 1, small)
	x := newWriter(e5, 1, s1)
	c := journal.Closed{Next: block.ExtentID{Volume: vol, Epoch: 5, N: 2}, Members: []block.StoreID{s1}}
	x.add(journal.Record{Type: journal.TypeClosed, Body: c.Encode()}, nil)
	w.send(s1, x, 0, 2)
	other := x.chain
	other.Hash[0] ^= 1
	if _, err := w.c.Confirm(s1, e6, x.x, &other); !errors.Is(err, ErrGap) {
		t.Fatalf("another end: %v", err)
	}
	st, err := w.c.Confirm(s1, e6, x.x, &x.chain)
	if err != nil || st.Chain.Epoch != e6 {
		t.Fatalf("%+v: %v", st, err)
	}
	w.crash(s1)
	if st, err = w.c.Stat(s1, x.x); err != nil || st.Chain.Epoch != e6 || st.Chain.Seq != 2 || !st.Chain.Closed {
		t.Fatalf("%+v: %v", st, err)
	}
}

func TestStateComesBack(t *testing.T) {
	s := State{Promised: e6, Held: true, Unknown: true, Chain: journal.Chain{Seq: 1, Hash: block.Sum(nil), Epoch: e5, LogLen: 2, DataLen: 3, Closed: true}}
	if got, err := DecodeState(s.Encode()); err != nil || got != s {
		t.Fatalf("%+v: %v", got, err)
	}
	for _, n := range []int{0, stateSize - 1, stateSize + 1} {
		if _, err := DecodeState(make([]byte, n)); !errors.Is(err, ErrBad) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// FuzzHandle: whatever body comes, it is answered exactly once and harms nothing.
func FuzzHandle(f *testing.F) {
	w := newWorld(f, 1, small)
	x := newWriter(e5, 1, s1)
	x.write(1)
	w.send(s1, x, 0, 2)
	h := Head{Store: s1, Epoch: e5, Extent: x.x}
	for typ := TypeAppend; typ <= typeEnd; typ++ {
		f.Add(typ, h.Encode())
		f.Add(typ, h.Encode(make([]byte, 8)...))
		f.Add(typ, h.Encode(make([]byte, 17)...))
		f.Add(typ, h.Encode(make([]byte, 40)...))
		f.Add(typ, x.body(s1, 1))
		f.Add(typ, []byte{1, 2})
	}
	f.Fuzz(func(t *testing.T, typ Type, body []byte) {
		<-w.ask(s1, typ, body)
	})
}
