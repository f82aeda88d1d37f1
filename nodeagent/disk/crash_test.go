package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/disk"
)

const sector = 512

func source(seed uint64) func() uint64 { return rand.New(rand.NewPCG(seed, 0)).Uint64 }

// contents reads a file whole; nil is a file that does not exist.
func contents(t testing.TB, d disk.FS, name string) []byte {
	t.Helper()
	f, err := d.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, _ := f.Size()
	p := make([]byte, n)
	if _, err := f.ReadAt(p, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return p
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, f disk.File, p []byte, off int64) {
	t.Helper()
	_, err := f.WriteAt(p, off)
	must(t, err)
}

// outcomes counts what crashes of one moment leave behind.
func outcomes(m *disk.Mem, seeds int, see func(*disk.Mem) string) map[string]int {
	out := map[string]int{}
	for s := range seeds {
		out[see(m.Crash(source(uint64(s))))]++
	}
	return out
}

// TestCrashSectors: synced bytes stay, unsynced sectors are each old or new, and every mixture occurs.
func TestCrashSectors(t *testing.T) {
	m := disk.NewMem(0)
	f, err := m.Create("a")
	must(t, err)
	write(t, f, bytes.Repeat([]byte("o"), 3*sector), 0)
	must(t, f.Sync(), m.SyncDir("."))
	write(t, f, bytes.Repeat([]byte("n"), 2*sector), sector)
	got := outcomes(m, 200, func(c *disk.Mem) string {
		p := contents(t, c, "a")
		if len(p) != 3*sector {
			t.Fatalf("size %d", len(p))
		}
		for i := range p {
			if p[i] != p[i/sector*sector] {
				t.Fatalf("torn inside a sector at %d", i)
			}
		}
		return string([]byte{p[0], p[sector], p[2*sector]})
	})
	for _, k := range []string{"ooo", "ono", "oon", "onn"} {
		if got[k] == 0 {
			t.Errorf("%s never occurred: %v", k, got)
		}
	}
	if len(got) != 4 {
		t.Errorf("outcomes: %v", got)
	}
	if p := contents(t, m, "a"); p[sector] != 'n' {
		t.Error("the crash changed the living file system")
	}
}

// TestCrashSize: an unsynced size is old or new; bytes beyond the size that survived never come back.
func TestCrashSize(t *testing.T) {
	m := disk.NewMem(0)
	f, err := m.Create("a")
	must(t, err)
	write(t, f, bytes.Repeat([]byte("x"), 5000), 0)
	must(t, f.Sync(), m.SyncDir("."), f.Truncate(100))
	got := outcomes(m, 100, func(c *disk.Mem) string {
		p := contents(t, c, "a")
		g, err := c.Open("a")
		must(t, err, g.Truncate(9000))
		if q := contents(t, c, "a"); !bytes.Equal(q[len(p):], make([]byte, 9000-len(p))) {
			t.Fatal("bytes beyond the size came back")
		}
		return fmt.Sprint(len(p))
	})
	if got["100"] == 0 || got["5000"] == 0 || len(got) != 2 {
		t.Errorf("sizes: %v", got)
	}
}

// TestCrashNames: an unsynced name may be lost, a synced one not, and a rename is whole.
func TestCrashNames(t *testing.T) {
	m := disk.NewMem(0)
	put := func(name, text string) {
		f, err := m.Create(name)
		must(t, err)
		write(t, f, []byte(text), 0)
		must(t, f.Sync(), f.Close())
	}
	put("a", "1")
	must(t, m.SyncDir("."))
	put("tmp", "2")
	must(t, m.Rename("tmp", "a"))
	put("b", "3")
	see := func(c *disk.Mem) string {
		return fmt.Sprintf("a=%s tmp=%s b=%s", contents(t, c, "a"), contents(t, c, "tmp"), contents(t, c, "b"))
	}
	got := outcomes(m, 300, see)
	for _, k := range []string{"a=1 tmp= b=", "a=1 tmp=2 b=", "a=2 tmp= b=", "a=1 tmp= b=3", "a=1 tmp=2 b=3", "a=2 tmp= b=3"} {
		if got[k] == 0 {
			t.Errorf("%q never occurred: %v", k, got)
		}
	}
	if len(got) != 6 {
		t.Errorf("outcomes: %v", got)
	}
	must(t, m.SyncDir("."))
	if got := outcomes(m, 50, see); got["a=2 tmp= b=3"] != 50 {
		t.Errorf("after SyncDir: %v", got)
	}
	must(t, m.Remove("b"))
	if got := outcomes(m, 50, see); len(got) != 2 {
		t.Errorf("after an unsynced remove: %v", got)
	}
}

// TestCrashDirs: what lies in a directory whose own name was not synced may be lost with it.
func TestCrashDirs(t *testing.T) {
	m := disk.NewMem(0)
	must(t, m.MkdirAll("d"))
	f, err := m.Create("d/a")
	must(t, err)
	write(t, f, []byte("x"), 0)
	must(t, f.Sync(), m.SyncDir("d"))
	see := func(c *disk.Mem) string { return string(contents(t, c, "d/a")) }
	if got := outcomes(m, 50, see); got[""] == 0 || got["x"] == 0 || len(got) != 2 {
		t.Errorf("outcomes: %v", got)
	}
	must(t, m.SyncDir("."))
	if got := outcomes(m, 50, see); got["x"] != 50 {
		t.Errorf("after SyncDir of the parent: %v", got)
	}
}

// logRun writes records to a log, crashes, and reports the first record that was acknowledged and is wrong.
func logRun(t *testing.T, seed uint64, plan disk.Plan, lying, useSync bool) error {
	t.Helper()
	rng := source(seed)
	m := disk.NewMem(0)
	m.IgnoreSync(lying)
	d := disk.NewFaults(m, plan)
	f, err := d.Create("log")
	must(t, err, d.SyncDir("."))
	acked := 0
	for i := range 20 {
		write(t, f, bytes.Repeat([]byte{byte(i + 1)}, 7000), int64(i)*7000)
		m.Writeback(rng)
		if i%3 != 2 || !useSync {
			continue
		}
		if err := f.Sync(); err != nil {
			err = f.Sync() // what the contract forbids
			must(t, err)
		}
		acked = i + 1
	}
	if !useSync {
		acked = 20
	}
	m.PowerOff()
	if _, err := f.Size(); !errors.Is(err, disk.ErrPowerOff) {
		t.Fatalf("after power off: %v", err)
	}
	p := contents(t, m.Crash(rng), "log")
	for i := range acked {
		if want := bytes.Repeat([]byte{byte(i + 1)}, 7000); len(p) < (i+1)*7000 || !bytes.Equal(p[i*7000:(i+1)*7000], want) {
			return fmt.Errorf("seed %d: record %d of %d acknowledged is lost", seed, i, acked)
		}
	}
	return nil
}

// TestDurability: what Sync covered survives every crash. Negative controls: no Sync, a Sync that lies, one that is
// dropped, and one that failed and was retried, each lose acknowledged records.
func TestDurability(t *testing.T) {
	failures := func(plan func() disk.Plan, lying, useSync bool) (n int) {
		for seed := range uint64(60) {
			if logRun(t, seed, plan(), lying, useSync) != nil {
				n++
			}
		}
		return n
	}
	none := func() disk.Plan { return nil }
	if n := failures(none, false, true); n != 0 {
		t.Errorf("%d of 60 seeds lost acknowledged bytes", n)
	}
	if failures(none, false, false) == 0 {
		t.Error("negative control: nothing was lost without a sync")
	}
	if failures(none, true, true) == 0 {
		t.Error("negative control: a lying sync lost nothing")
	}
	on := func(action disk.Action) func() disk.Plan {
		return func() disk.Plan {
			hits := 0
			return func(op disk.Op) disk.Fault {
				if op.Kind != disk.OpSync {
					return disk.Fault{}
				}
				if hits++; action == disk.Forget && hits != 5 {
					return disk.Fault{}
				}
				return disk.Fault{Action: action}
			}
		}
	}
	if failures(on(disk.Lose), false, true) == 0 {
		t.Error("negative control: a dropped sync lost nothing")
	}
	if failures(on(disk.Forget), false, true) == 0 {
		t.Error("negative control: retrying a failed sync lost nothing")
	}
}

// TestCrashDeterministic: one seed gives one outcome, and crashed copies do not share what is written later.
func TestCrashDeterministic(t *testing.T) {
	build := func() *disk.Mem {
		m := disk.NewMem(0)
		must(t, m.MkdirAll("d/e"))
		for i := range 30 {
			f, err := m.Create(fmt.Sprintf("d/%d", i))
			must(t, err)
			write(t, f, bytes.Repeat([]byte{byte(i + 1)}, 9000), int64(i)*100)
			if i%3 == 0 {
				must(t, f.Sync())
			}
		}
		must(t, m.SyncDir("."), m.Rename("d/3", "d/4"), m.Remove("d/5"))
		return m
	}
	dump := func(m *disk.Mem) string {
		names, err := m.List("d")
		must(t, err)
		var b bytes.Buffer
		for _, n := range names {
			if n != "e" {
				fmt.Fprintf(&b, "%s %x\n", n, contents(t, m, "d/"+n))
			}
		}
		return b.String()
	}
	different := 0
	first := build()
	for seed := range uint64(20) {
		a, b := first.Crash(source(seed)), build().Crash(source(seed))
		if dump(a) != dump(b) {
			t.Fatalf("seed %d has two outcomes", seed)
		}
		if dump(a) != dump(first.Crash(source(seed+1))) {
			different++
		}
	}
	if different == 0 {
		t.Error("the seed changes nothing")
	}
	a := first.Crash(source(1))
	b := a.Crash(source(1))
	before := dump(b)
	names, _ := a.List("d")
	for _, n := range names {
		if f, err := a.Open("d/" + n); err == nil {
			write(t, f, bytes.Repeat([]byte{0xff}, 9000), 0)
		}
	}
	if dump(b) != before {
		t.Error("a write to one copy changed another")
	}
}

// TestCorrupt: corruption at rest is seen by reads and survives a crash.
func TestCorrupt(t *testing.T) {
	m := disk.NewMem(0)
	f, err := m.Create("a")
	must(t, err)
	write(t, f, make([]byte, 5000), 0)
	must(t, f.Sync(), m.SyncDir("."), m.FlipBit("a", 4999, 3), m.SetByte("a", 0, 7))
	for i, d := range []*disk.Mem{m, m.Crash(source(1))} {
		if p := contents(t, d, "a"); p[4999] != 8 || p[0] != 7 || p[1] != 0 {
			t.Errorf("file system %d: %d %d %d", i, p[4999], p[0], p[1])
		}
	}
	if m.FlipBit("a", 5000, 0) == nil || m.FlipBit("b", 0, 0) == nil {
		t.Error("corrupting nothing succeeded")
	}
}

// TestModel compares Mem's current contents with a plain slice over random operations and crashes without loss.
func TestModel(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := disk.NewMem(0)
		f, err := m.Create("a")
		must(t, err, m.SyncDir("."))
		var model []byte
		resize := func(n int) {
			if n > len(model) {
				model = append(model, make([]byte, n-len(model))...)
			}
		}
		for step := range 200 {
			off, n := rng.IntN(40000), rng.IntN(12000)
			switch rng.IntN(6) {
			case 0, 1:
				p := bytes.Repeat([]byte{byte(step + 1)}, n)
				write(t, f, p, int64(off))
				if n > 0 {
					resize(off + n)
					copy(model[off:], p)
				}
			case 2:
				must(t, f.PunchHole(int64(off), int64(n)))
				if off < len(model) {
					clear(model[off:min(off+n, len(model))])
				}
			case 3:
				must(t, f.Truncate(int64(off)))
				resize(off)
				model = model[:off:off]
			case 4:
				m.Writeback(rng.Uint64)
			case 5:
				must(t, f.Sync())
				m = m.Crash(rng.Uint64)
				f, err = m.Open("a")
				must(t, err)
			}
			if got := contents(t, m, "a"); !bytes.Equal(got, model) {
				t.Fatalf("seed %d step %d: contents differ (%d, %d bytes)", seed, step, len(got), len(model))
			}
		}
	}
}

// BenchmarkMemWriteSync shows that a small synced write does not cost the size of the file.
func BenchmarkMemWriteSync(b *testing.B) {
	m := disk.NewMem(0)
	f, err := m.Create("a")
	must(b, err, f.Allocate(64<<20))
	p := make([]byte, 4096)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		write(b, f, p, int64(i%16384)*4096)
		must(b, f.Sync())
	}
}
