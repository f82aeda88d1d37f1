package volume

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/volume/ring"
)

// The model test does what fsx does to file systems: random operations on volumes and on a model of them, and every read
// must show what the model says. Each page that is written has content that no other write has, so the model keeps one
// number per page, and a wrong page tells which write it is of.
//
// MYNETWORK_FSX_OPS is how many operations (1,000,000 take some minutes), MYNETWORK_FSX_SEED repeats a run's choices.

const (
	fsxPages    = 1 << 10 // of the first volume when it is made
	fsxMaxPages = 4 << 10
	fsxMaxIO    = 4 // pages of one read or write
	fsxClones   = 2 // volumes at a time, beside the first
)

// stamp fills a page with the content of a version; version 0 is a page of zeros.
func stamp(p []byte, version uint64) {
	w := version
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], w)
		if version != 0 {
			w += 0x9e3779b97f4a7c15
		}
	}
}

// stamped tells of which version a page's content is.
func stamped(p []byte) (uint64, error) {
	var want [block.PageSize]byte
	version := binary.LittleEndian.Uint64(p)
	stamp(want[:], version)
	if string(p) != string(want[:]) {
		return 0, fmt.Errorf("content of no version (begins as %d)", version)
	}
	return version, nil
}

// subject is what the model is compared with; the negative controls put a wrong one before the engine.
type subject interface {
	Write(id ring.ID, p []byte, off int64) error
	Discard(id ring.ID, off, n int64) error
	Read(p []byte, off int64) error
}

// fsxModel is what a volume must hold.
type fsxModel struct {
	pages []uint64 // version of each
	log   []change // since the last flush, oldest first
	op    int
}

// change is one page of an operation that is not flushed.
type change struct {
	op   int
	page int
	was  uint64
}

// set notes an operation that gives pages their versions.
func (m *fsxModel) set(page int, versions ...uint64) {
	m.op++
	for i, v := range versions {
		m.log = append(m.log, change{m.op, page + i, m.pages[page+i]})
		m.pages[page+i] = v
	}
}

func (m *fsxModel) flushed() { m.log = m.log[:0] }

// settle takes back the latest unflushed operations until the model is what a crash without a ring has left: all that was
// flushed, and of the rest a prefix.
func (m *fsxModel) settle(got []uint64) error {
	bad := 0
	for i, v := range m.pages {
		if got[i] != v {
			bad++
		}
	}
	for bad > 0 && len(m.log) > 0 {
		for op := m.log[len(m.log)-1].op; len(m.log) > 0 && m.log[len(m.log)-1].op == op; m.log = m.log[:len(m.log)-1] {
			c := m.log[len(m.log)-1]
			if got[c.page] != m.pages[c.page] {
				bad--
			}
			if m.pages[c.page] = c.was; got[c.page] != c.was {
				bad++
			}
		}
	}
	for i, v := range m.pages {
		if got[i] != v {
			return fmt.Errorf("after a crash, page %d is of version %d, flushed was %d: no prefix of what was written", i, got[i], v)
		}
	}
	m.flushed()
	return nil
}

// envNumber is a number from the environment.
func envNumber(t *testing.T, name string, def uint64) uint64 {
	text, ok := os.LookupEnv(name)
	if !ok {
		return def
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q is no number", name, text)
	}
	return n
}

func TestFsx(t *testing.T) {
	ops := int(envNumber(t, "MYNETWORK_FSX_OPS", 4000))
	seed := envNumber(t, "MYNETWORK_FSX_SEED", uint64(time.Now().UnixNano()))
	start := time.Now()
	f := newFsx(t, seed)
	defer f.close()
	err := f.run(ops)
	took := time.Since(start)
	t.Logf("MYNETWORK_FSX_SEED=%d: %d operations in %.1f s, %.0f/s, encrypted %v: %v", seed, ops, took.Seconds(), float64(ops)/took.Seconds(), f.v[0].spec.Key != nil, f.count)
	if err != nil {
		t.Fatalf("MYNETWORK_FSX_SEED=%d MYNETWORK_FSX_OPS=%d: %v", seed, ops, err)
	}
}

// deaf loses one discard of a page that holds something.
type deaf struct {
	*Engine
	lost *bool
}

func (d deaf) Discard(id ring.ID, off, n int64) error {
	p := make([]byte, n)
	if err := d.Read(p, off); err != nil {
		return err
	}
	if !*d.lost && strings.Trim(string(p), "\x00") != "" {
		*d.lost = true
		return nil
	}
	return d.Engine.Discard(id, off, n)
}

// stale answers one read with what its first page held before.
type stale struct {
	*Engine
	off    *int64
	before []byte
	told   *bool
}

func (s stale) Write(id ring.ID, p []byte, off int64) error {
	if *s.off < 0 {
		if err := s.Engine.Read(s.before, off); err != nil {
			return err
		}
		*s.off = off
	}
	return s.Engine.Write(id, p, off)
}

func (s stale) Read(p []byte, off int64) error {
	err := s.Engine.Read(p, off)
	if !*s.told && off == *s.off {
		*s.told = true
		copy(p, s.before)
	}
	return err
}

// TestFsxSees: the model test finds a lost discard and a stale page, once each.
func TestFsxSees(t *testing.T) {
	lost, told, off := false, false, int64(-1)
	for name, wrap := range map[string]func(*Engine) subject{
		"lost discard": func(e *Engine) subject { return deaf{e, &lost} },
		"stale page":   func(e *Engine) subject { return stale{e, &off, make([]byte, block.PageSize), &told} },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFsx(t, 7)
			defer f.close()
			f.wrap = wrap
			f.v[0].io = wrap(f.v[0].e)
			if err := f.run(2000); err == nil || !strings.Contains(err.Error(), "is of version") {
				t.Errorf("the wrong subject passed, or failed otherwise: %v", err)
			}
		})
	}
	if !lost || !told {
		t.Errorf("discard lost %v, stale page told %v", lost, told)
	}
}

// TestFsxSettles: of what a crash leaves, only a prefix with all that was flushed passes.
func TestFsxSettles(t *testing.T) {
	for _, c := range []struct {
		name string
		got  []uint64
		ok   bool
	}{
		{"all", []uint64{1, 5, 6, 0}, true},
		{"the discard is lost", []uint64{1, 5, 6, 4}, true},
		{"the write before, too", []uint64{1, 2, 3, 4}, true},
		{"half a write", []uint64{1, 5, 3, 4}, false},
		{"a hole", []uint64{1, 2, 3, 0}, false},
		{"a flushed write", []uint64{0, 2, 3, 4}, false},
	} {
		m := fsxModel{pages: make([]uint64, 4)}
		m.set(0, 1, 2, 3, 4)
		m.flushed()
		m.set(1, 5, 6)
		m.set(3, 0)
		if err := m.settle(c.got); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

var _ = []subject{(*Engine)(nil), deaf{}, stale{}}
