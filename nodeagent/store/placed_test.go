package store

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/disk"
)

// syncs is strict, and counts syncs of data files.
type syncs struct {
	strict
	data int
}

type syncsFile struct {
	*strictFile
	fs *syncs
}

var _ disk.Direct = (*syncsFile)(nil)

func (s *syncs) Create(name string) (disk.File, error) { return s.count(name)(s.strict.Create(name)) }
func (s *syncs) Open(name string) (disk.File, error)   { return s.count(name)(s.strict.Open(name)) }

func (s *syncs) count(name string) func(disk.File, error) (disk.File, error) {
	return func(f disk.File, err error) (disk.File, error) {
		if err != nil || !strings.HasSuffix(name, sufDat) {
			return f, err
		}
		return &syncsFile{f.(*strictFile), s}, nil
	}
}

func (f *syncsFile) Sync() error {
	f.fs.data++
	return f.strictFile.Sync()
}

// placer writes one extent whose small payloads are placed.
type placer struct {
	*testing.T
	fs  *syncs
	s   *Store
	w   *scribe
	rng *rand.Rand
}

func newPlacer(t *testing.T) *placer {
	p := &placer{T: t, fs: &syncs{strict: strict{Mem: formatted(t, small)}}, w: newScribe(testID(1, 1)), rng: rand.New(rand.NewPCG(7, 1))}
	p.s = opened(t, p.fs, small)
	appendOK(t, p.s, p.w.id, p.w.open(1<<20), nil)
	return p
}

// run makes records of one page each and places their payloads together, in memory that begins at a page.
func (p *placer) run(n int) (recs [][]byte, at Placed) {
	p.Helper()
	off, data := p.w.chain.DataLen, aligned(n*page)
	for range n {
		rec, payload := p.w.pages(1, p.rng)
		recs, data = append(recs, rec), append(data, payload...)
	}
	at, err := p.s.Place(p.w.id, off, data)
	if err != nil {
		p.Fatal(err)
	}
	return recs, at
}

func (p *placer) append(recs [][]byte, at *Placed) {
	p.Helper()
	for _, rec := range recs {
		if _, err := p.s.AppendPlaced(p.w.id, rec, at); err != nil {
			p.Fatal(err)
		}
	}
}

// TestPlaced: small payloads that are placed together are one write past the page cache; their commit writes their records alone, and syncs no data. They are read back, and
// there after a crash, beside ones that were appended before and after. Control: payloads that are not placed are in the log.
func TestPlaced(t *testing.T) {
	p := newPlacer(t)
	rec, payload := p.w.pages(1, p.rng)
	appendOK(t, p.s, p.w.id, rec, payload)
	commitOK(t, p.s)
	recs, at := p.run(40)
	if p.fs.past != 1 {
		t.Errorf("%d writes past the page cache for 40 payloads", p.fs.past)
	}
	p.append(recs, &at)
	p.fs.data = 0
	logged := p.s.pos
	commitOK(t, p.s)
	if n := p.s.pos - logged; n > 40*1024 || p.fs.data > 0 {
		t.Errorf("the commit writes %d bytes and syncs %d data files for records whose 160 KiB are placed", n, p.fs.data)
	}
	logged = p.s.pos
	for range 40 {
		rec, payload := p.w.pages(1, p.rng)
		appendOK(t, p.s, p.w.id, rec, payload)
	}
	commitOK(t, p.s)
	if n := p.s.pos - logged; n < 40*page {
		t.Errorf("control: it writes %d bytes for records whose 160 KiB are not", n)
	}
	requireHeld(t, p.s, p.w)
	requireHeld(t, opened(t, p.fs.Mem.Crash(p.rng.Uint64), small), p.w)
}

// TestPlacedOver: records are not appended to what was placed once something else was written there, whether or not a record names it, and nothing is placed but at
// the end. Control: what was placed last is appended.
func TestPlacedOver(t *testing.T) {
	for _, c := range []struct {
		name string
		over func(p *placer, off uint32)
		want error
	}{
		{"nothing", func(*placer, uint32) {}, nil},
		{"placed again", func(p *placer, off uint32) {
			if _, err := p.s.Place(p.w.id, off, make([]byte, page)); err != nil {
				p.Fatal(err)
			}
		}, journal.ErrChain},
		{"an append that was refused", func(p *placer, _ uint32) {
			x := p.s.extents[p.w.id]
			if err := p.s.write(x, &journal.Record{DataOff: x.chain.DataLen, LogOff: x.chain.LogLen, Payload: page}, []byte("x"), &body{payload: make([]byte, page)}); err != nil {
				p.Fatal(err)
			}
		}, journal.ErrChain},
		{"placed elsewhere, in vain", func(p *placer, off uint32) {
			for _, o := range []uint32{off + page, off - page} {
				if _, err := p.s.Place(p.w.id, o, make([]byte, page)); !errors.Is(err, journal.ErrChain) {
					p.Errorf("placed at %d, and the data ends at %d: %v", o, off, err)
				}
			}
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlacer(t)
			rec, payload := p.w.pages(1, p.rng)
			appendOK(t, p.s, p.w.id, rec, payload)
			off, before := p.w.chain.DataLen, *p.w
			recs, at := p.run(2)
			c.over(p, off)
			_, err := p.s.AppendPlaced(p.w.id, recs[0], &at)
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Fatalf("the append: %v, want %v", err, c.want)
			}
			if p.w = &before; err == nil {
				return
			}
			for range 3 { // goes on as if nothing had been
				rec, payload := p.w.pages(1, p.rng)
				appendOK(t, p.s, p.w.id, rec, payload)
			}
			commitOK(t, p.s)
			requireHeld(t, p.s, p.w)
			requireHeld(t, opened(t, p.fs.Mem.Crash(p.rng.Uint64), small), p.w)
		})
	}
}

// TestPlacedBehindATail: what a refused append has left in memory does not go over what is placed.
func TestPlacedBehindATail(t *testing.T) {
	p := newPlacer(t)
	rec, payload := p.w.pages(1, p.rng)
	appendOK(t, p.s, p.w.id, rec, payload)
	x := p.s.extents[p.w.id]
	x.mu.Lock()
	err := p.s.write(x, &journal.Record{DataOff: x.chain.DataLen, LogOff: x.chain.LogLen, Payload: page}, []byte("x"), &body{payload: make([]byte, page)})
	x.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	recs, at := p.run(2)
	p.append(recs, &at)
	commitOK(t, p.s)
	if _, err := p.s.Tidy(1 << 20); err != nil {
		t.Fatal(err)
	}
	requireHeld(t, p.s, p.w)
	requireHeld(t, opened(t, p.fs.Mem.Crash(p.rng.Uint64), small), p.w)
}

// TestPlacedWhere: nothing is placed in what is closed, not held, beyond its capacity, or cut and not committed.
func TestPlacedWhere(t *testing.T) {
	p := newPlacer(t)
	recs, at := p.run(3)
	p.append(recs, &at)
	if _, err := p.s.Place(testID(1, 9), 0, make([]byte, page)); !errors.Is(err, ErrNotHeld) {
		t.Errorf("not held: %v", err)
	}
	if _, err := p.s.Place(p.w.id, p.w.chain.DataLen, make([]byte, 1<<20)); !errors.Is(err, ErrExtentFull) {
		t.Errorf("beyond the capacity: %v", err)
	}
	if _, err := p.s.Cut(p.w.id, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := p.s.Place(p.w.id, page, make([]byte, page)); !errors.Is(err, ErrBusy) {
		t.Errorf("cut: %v", err)
	}
	commitOK(t, p.s)
	if _, err := p.s.Place(p.w.id, page, make([]byte, page)); err != nil {
		t.Errorf("cut and committed: %v", err)
	}
}
