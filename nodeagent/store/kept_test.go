package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/disk"
)

// loan is memory that becomes something else once its last use has ended.
type loan struct {
	b    []byte
	uses atomic.Int32
}

func lend(b []byte) *loan {
	l := &loan{b: bytes.Clone(b)}
	l.uses.Store(1)
	return l
}

func (l *loan) Hold() {
	if l.uses.Add(1) < 2 {
		panic("held after its end")
	}
}

func (l *loan) Release() {
	switch n := l.uses.Add(-1); {
	case n < 0:
		panic("released twice")
	case n == 0:
		for i := range l.b {
			l.b[i] = 0xee
		}
	}
}

// gatherer is a file system whose files write several pieces at once, and counts how often a data file is written to.
type gatherer struct {
	disk.FS
	writes int
}

type gathererFile struct {
	disk.File
	fs *gatherer
}

var _ disk.Gatherer = (*gathererFile)(nil)

func (g *gatherer) Create(name string) (disk.File, error) { return g.file(name)(g.FS.Create(name)) }
func (g *gatherer) Open(name string) (disk.File, error)   { return g.file(name)(g.FS.Open(name)) }

func (g *gatherer) file(name string) func(disk.File, error) (disk.File, error) {
	return func(f disk.File, err error) (disk.File, error) {
		if err != nil || !strings.HasSuffix(name, sufDat) {
			return f, err
		}
		return &gathererFile{f, g}, nil
	}
}

func (f *gathererFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.writes++
	return f.File.WriteAt(p, off)
}

func (f *gathererFile) GatherAt(parts [][]byte, off int64) error {
	f.fs.writes++
	_, err := f.File.WriteAt(bytes.Join(parts, nil), off)
	return err
}

// lender appends what is lent, and ends its own use of it at once.
type lender struct {
	t     *testing.T
	s     *Store
	w     *scribe
	rng   *rand.Rand
	loans []*loan
}

// give appends a record of so many pages.
func (g *lender) give(pages int) {
	g.t.Helper()
	rec, payload := g.w.pages(pages, g.rng)
	l := lend(payload)
	g.loans = append(g.loans, l)
	if _, err := g.s.AppendKept(g.w.id, rec, l.b, Unread, l); err != nil {
		g.t.Fatal(err)
	}
	l.Release()
}

// held is how many loans have not ended.
func (g *lender) held() (n int) {
	for _, l := range g.loans {
		if l.uses.Load() > 0 {
			n++
		}
	}
	return n
}

func newLender(t *testing.T, fs disk.FS) *lender {
	t.Helper()
	g := &lender{t: t, s: opened(t, fs, small), w: newScribe(testID(1, 1)), rng: rand.New(rand.NewPCG(6, 1))}
	appendOK(t, g.s, g.w.id, g.w.open(64<<20), nil)
	return g
}

// TestKept: large payloads in memory that is lent are read from there, whole and in part, beside small ones, and are in the file and given back with
// the commit, by one write for what lies in a run; a crash then loses nothing. Control: before, the file has not got them, and they are held; small ones
// never are.
func TestKept(t *testing.T) {
	m := formatted(t, small)
	fs := &gatherer{FS: m}
	g := newLender(t, fs)
	for round := range 4 {
		before, end := fs.writes, len(g.w.data)
		for _, n := range []int{3, 3, 2, 1, 5, 4} {
			g.give(n)
			for range 9 {
				off := g.rng.IntN(len(g.w.data))
				p := make([]byte, 1+g.rng.IntN(len(g.w.data)-off))
				if err := g.s.ReadData(g.w.id, uint32(off), p); err != nil || !bytes.Equal(p, g.w.data[off:off+len(p)]) {
					t.Fatalf("round %d: %d bytes at %d differ: %v", round, len(p), off, err)
				}
			}
		}
		requireHeld(t, g.s, g.w)
		if g.held() != 5 || fs.writes > before+1 || inFile(t, m, pathOf(g.w, sufDat), g.w.data) > end { // one: a small one of the last round
			t.Fatalf("round %d: control: %d are held, %d writes", round, g.held(), fs.writes-before)
		}
		before = fs.writes
		commitOK(t, g.s)
		if g.held() != 0 || g.s.keeping.Load() != 0 || fs.writes != before+2 {
			t.Errorf("round %d: %d are held, %d bytes, %d writes", round, g.held(), g.s.keeping.Load(), fs.writes-before)
		}
		requireHeld(t, g.s, g.w)
		requireHeld(t, opened(t, m.Crash(g.rng.Uint64), small), g.w)
		if round == 1 {
			if _, err := g.s.Tidy(1); err != nil { // the small ones between go to the file
				t.Fatal(err)
			}
		}
	}
}

// TestKeptWhileWritten: what a commit is writing is read, and what is appended meanwhile waits for the next one.
func TestKeptWhileWritten(t *testing.T) {
	m := formatted(t, small)
	var during func()
	fs := disk.NewFaults(m, func(op disk.Op) (f disk.Fault) {
		if during != nil && op.Kind == disk.OpWrite && strings.HasSuffix(op.Name, sufDat) {
			f.Wait = during
		}
		return f
	})
	g := newLender(t, fs)
	g.give(3)
	g.give(4)
	times := 0
	during = func() {
		times++
		requireHeld(t, g.s, g.w)
		if times == 1 {
			g.give(5)
			requireHeld(t, g.s, g.w)
		}
	}
	commitOK(t, g.s)
	if times != 2 || g.held() != 1 || g.loans[2].uses.Load() != 1 {
		t.Errorf("%d writes, %d are held", times, g.held())
	}
	requireHeld(t, g.s, g.w)
	during = nil
	commitOK(t, g.s)
	if g.held() != 0 {
		t.Errorf("%d are held at the end", g.held())
	}
	requireHeld(t, opened(t, m.Crash(g.rng.Uint64), small), g.w)
}

// TestKeptRefused: what an append that was refused has left is given back at once, and another one takes its place.
func TestKeptRefused(t *testing.T) {
	m := formatted(t, small)
	g := newLender(t, m)
	g.give(3)
	refused := lend(make([]byte, 12<<10))
	x := g.s.extents[g.w.id]
	x.mu.Lock()
	if !g.s.keep(x, &piece{refused.b, int64(g.w.chain.DataLen), false, refused}) || refused.uses.Load() != 2 {
		t.Fatal("control: it is not kept")
	}
	g.s.unkeep(x, int64(g.w.chain.DataLen))
	x.mu.Unlock()
	if refused.uses.Load() != 1 || g.s.keeping.Load() != 12<<10 {
		t.Errorf("%d uses, %d bytes are kept", refused.uses.Load(), g.s.keeping.Load())
	}
	requireHeld(t, g.s, g.w)
	g.give(2)
	requireHeld(t, g.s, g.w)
	commitOK(t, g.s)
	requireHeld(t, opened(t, m.Crash(g.rng.Uint64), small), g.w)
}

// TestKeptIsBounded: beyond a store's bound appends write for themselves, and nothing is held for them; a cut, a free and Close leave nothing held.
func TestKeptIsBounded(t *testing.T) {
	m := formatted(t, small)
	g := newLender(t, m)
	for range maxKept>>18 + 2 {
		g.give(64)
	}
	if g.held() != maxKept>>18 || g.s.keeping.Load() != maxKept {
		t.Errorf("%d are held, %d bytes", g.held(), g.s.keeping.Load())
	}
	requireHeld(t, g.s, g.w)
	if _, err := g.s.Cut(g.w.id, g.w.ends[3].Seq); err != nil {
		t.Fatal(err)
	}
	g.w.cut(3)
	if g.held() != 0 {
		t.Errorf("after a cut %d are held", g.held())
	}
	commitOK(t, g.s)
	requireHeld(t, g.s, g.w)
	g.give(3)
	if _, err := g.s.Free(g.w.id); err != nil {
		t.Fatal(err)
	}
	if g.held() != 1 {
		t.Errorf("control: %d are held before the free is committed", g.held())
	}
	commitOK(t, g.s)
	g.w = newScribe(testID(1, 2))
	appendOK(t, g.s, g.w.id, g.w.open(1<<20), nil)
	g.give(3)
	if err := g.s.Close(); err != nil || g.held() != 0 || g.s.keeping.Load() != 0 {
		t.Errorf("%d are held, %d bytes, %v", g.held(), g.s.keeping.Load(), err)
	}
	requireHeld(t, opened(t, m, small), g.w)
}

// TestKeptFailure: a commit that can not write what is kept ends the store, is not answered with success, and everything that was lent is given
// back; so it is when something else has ended the store. Nothing is written again.
func TestKeptFailure(t *testing.T) {
	for _, c := range []struct {
		name  string
		fails func(op disk.Op) bool
	}{
		{"data", func(op disk.Op) bool { return op.Kind == disk.OpWrite && strings.HasSuffix(op.Name, sufDat) }},
		{"data's sync", func(op disk.Op) bool { return op.Kind == disk.OpSync && strings.HasSuffix(op.Name, sufDat) }},
		{"log", func(op disk.Op) bool { return op.Kind == disk.OpWrite && strings.HasPrefix(op.Name, "wal/") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var failing atomic.Bool
			hits := 0
			fs := disk.NewFaults(formatted(t, small), func(op disk.Op) (f disk.Fault) {
				if failing.Load() && c.fails(op) {
					hits++
					f.Err = syscall.EIO
				}
				return f
			})
			g := newLender(t, fs)
			commitOK(t, g.s)
			g.give(3)
			g.give(4)
			failing.Store(true)
			if _, err := g.s.Commit(); !errors.Is(err, ErrQuarantined) || g.held() != 0 || g.s.keeping.Load() != 0 {
				t.Errorf("%d are held, %d bytes, %v", g.held(), g.s.keeping.Load(), err)
			}
			if _, err := g.s.Commit(); !errors.Is(err, ErrQuarantined) || hits != 1 {
				t.Errorf("%d writes, %v", hits, err)
			}
		})
	}
	var fails func()
	fs := disk.NewFaults(formatted(t, small), func(op disk.Op) (f disk.Fault) {
		if fails != nil && op.Kind == disk.OpWrite && strings.HasSuffix(op.Name, sufLog) {
			fails()
		}
		return f
	})
	g := newLender(t, fs)
	fails = func() { _ = g.s.fail(errors.New("something else")) }
	for g.s.Quarantined() == nil { // until one is being appended, and has been admitted
		rec, payload := g.w.pages(20, g.rng)
		l := lend(payload)
		if _, err := g.s.AppendKept(g.w.id, rec, l.b, Unread, l); err != nil != (g.s.Quarantined() != nil) {
			t.Fatal(err)
		}
		l.Release()
		g.loans = append(g.loans, l)
	}
	if n := len(g.loans) - 1; g.held() != n || g.loans[n].uses.Load() != 0 {
		t.Errorf("of %d, the last one refused, %d are held", n+1, g.held())
	}
	if _, err := g.s.Commit(); !errors.Is(err, ErrQuarantined) || g.held() != 0 {
		t.Errorf("%d are held, %v", g.held(), err)
	}
}
