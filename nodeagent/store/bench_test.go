package store

import (
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/disk"
)

// nullFS gives files that take writes and forget them, and counts the log's writes and syncs.
type nullFS struct {
	disk.FS
	writes, syncs, other int
}

type nullFile struct {
	fs  *nullFS
	wal bool
}

func (n *nullFS) Create(string) (disk.File, error) { return &nullFile{fs: n}, nil }
func (n *nullFS) Open(name string) (disk.File, error) {
	return &nullFile{fs: n, wal: name[:3] == "wal"}, nil
}

func (f *nullFile) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }
func (f *nullFile) WriteAt(p []byte, _ int64) (int, error) {
	if f.wal {
		f.fs.writes++
	} else {
		f.fs.other++
	}
	return len(p), nil
}
func (f *nullFile) Close() error { return nil }
func (f *nullFile) Sync() error {
	if f.wal {
		f.fs.syncs++
	}
	return nil
}
func (f *nullFile) Truncate(int64) error         { return nil }
func (f *nullFile) Allocate(int64) error         { return nil }
func (f *nullFile) PunchHole(int64, int64) error { return nil }
func (f *nullFile) Size() (int64, error)         { return 1 << 30, nil }

// script is the log of an extent, written in advance so that a measurement does not count the writer.
type script struct {
	id      block.ExtentID
	open    []byte
	recs    [][]byte
	payload []byte
}

func newScript(id block.ExtentID, records, pages int) *script {
	rng := rand.New(rand.NewPCG(1, 1))
	w := newScribe(id)
	sc := &script{id: id, open: w.open(64 << 20)}
	_, sc.payload = newScribe(id).pages(pages, rng)
	for range records {
		body := make([]byte, pages*block.RowSize)
		for i := range pages {
			row := block.Row{Leaf: block.Sum(sc.payload[i*block.PageSize:][:block.PageSize]), Len: block.PageSize}
			row.Put(body[i*block.RowSize:])
		}
		r := w.record(journal.TypeWrite, body, sc.payload)
		r.Rows, r.Block = uint16(pages), 1
		w.log, w.data, w.ends = nil, nil, nil
		sc.recs = append(sc.recs, w.advance(&r, nil))
	}
	return sc
}

// One small append and its commit: no allocation, one write and one sync of the log; many go to the extent's files in one write.
func TestSmallAppendCost(t *testing.T) {
	sc := newScript(testID(1, 1), 300, 1)
	n := &nullFS{FS: formatted(t, small)}
	s := opened(t, n.FS, small)
	s.segs[0].f, s.files.fs, s.fs = &nullFile{fs: n, wal: true}, n, n
	s.made[newExtent(sc.id).shard] = true
	n.FS.(*disk.Mem).MkdirAll(shardDir(newExtent(sc.id).shard))
	appendOK(t, s, sc.id, sc.open, nil)
	commitOK(t, s)
	i := 0
	step := func() {
		appendOK(t, s, sc.id, sc.recs[i], sc.payload)
		commitOK(t, s)
		i++
	}
	step()
	step()
	n.writes, n.syncs, n.other = 0, 0, 0
	const runs = 100
	if got := testing.AllocsPerRun(runs, step); got != 0 {
		t.Errorf("%v allocations", got)
	}
	if n.writes != runs+1 || n.syncs != runs+1 || n.other > runs/20 {
		t.Errorf("%d writes and %d syncs of the log, %d other writes in %d commits", n.writes, n.syncs, n.other, runs+1)
	}
}

func cpu() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return syscall.TimevalToNsec(u.Utime) + syscall.TimevalToNsec(u.Stime)
}

// benchDir is a real directory: STORE_BENCH_DIR, or a temporary one.
func benchDir(b *testing.B) string {
	if dir := os.Getenv("STORE_BENCH_DIR"); dir != "" {
		dir, err := os.MkdirTemp(dir, "store")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = os.RemoveAll(dir) })
		return dir
	}
	return b.TempDir()
}

func benchStore(b *testing.B) *Store {
	d, err := disk.OpenOS(benchDir(b))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	o := Options{}
	if err := Format(d, testSuper, o); err != nil {
		b.Fatal(err)
	}
	s := opened(b, d, o)
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// benchAppends commits after every depth appends of a number of pages.
func benchAppends(b *testing.B, pages, depth int) {
	s := benchStore(b)
	per := (64 << 20) / (pages * block.PageSize)
	base := newScript(testID(1, 1), per, pages)
	var sc *script
	b.SetBytes(int64(pages * block.PageSize * depth))
	b.ResetTimer()
	start, ops := cpu(), 0
	for i := range b.N * depth {
		if i%per == 0 {
			b.StopTimer()
			n := cpu()
			if sc != nil {
				commitOK(b, s)
				if _, err := s.Free(sc.id); err != nil {
					b.Fatal(err)
				}
				commitOK(b, s)
			}
			sc = base
			appendOK(b, s, sc.id, sc.open, nil)
			commitOK(b, s)
			start += cpu() - n
			b.StartTimer()
		}
		_, err := s.Append(sc.id, sc.recs[i%per], sc.payload)
		if err != nil {
			b.Fatal(err)
		}
		ops++
		if ops%depth == 0 {
			commitOK(b, s)
		}
		if ops%256 == 0 {
			if _, err := s.Tidy(64 << 20); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(cpu()-start)/1000/float64(ops), "cpu-µs/append")
}

func BenchmarkSmallDepth1(b *testing.B)  { benchAppends(b, 1, 1) }
func BenchmarkSmallDepth32(b *testing.B) { benchAppends(b, 1, 32) }

// One MiB is four records of 64 pages.
func BenchmarkLarge1MiB(b *testing.B) { benchAppends(b, 64, 4) }

// BenchmarkRawSync is the disk beside it: a write of 5 KiB into a file that exists, and its sync.
func BenchmarkRawSync(b *testing.B) {
	d, err := disk.OpenOS(benchDir(b))
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	zeros := make([]byte, 1<<20)
	if err := makeSegment(d, "raw", 32<<20, zeros); err != nil {
		b.Fatal(err)
	}
	f, err := d.Open("raw")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for i := range b.N {
		if _, err := f.WriteAt(zeros[:4608], int64(i%7000)*4608); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParallel is 32 writers of small appends, each waiting for its commit, as a node with many volumes is.
func BenchmarkParallel32(b *testing.B) {
	s := benchStore(b)
	const writers = 32
	per := (b.N + writers - 1) / writers
	scripts := make([]*script, writers)
	for i := range scripts {
		scripts[i] = newScript(testID(byte(i), 1), per, 1)
		appendOK(b, s, scripts[i].id, scripts[i].open, nil)
	}
	commitOK(b, s)
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := sync.NewCond(&mu)
	durable, stop := LSN(0), false
	b.SetBytes(block.PageSize)
	b.ResetTimer()
	start := cpu()
	for _, sc := range scripts {
		wg.Go(func() {
			for i := range per {
				lsn, err := s.Append(sc.id, sc.recs[i], sc.payload)
				if err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				for durable < lsn {
					done.Wait()
				}
				mu.Unlock()
			}
		})
	}
	committer := make(chan struct{})
	go func() {
		defer close(committer)
		for n := 0; ; n++ {
			lsn, err := s.Commit()
			if err != nil {
				b.Error(err)
			}
			mu.Lock()
			durable = lsn
			end := stop
			mu.Unlock()
			done.Broadcast()
			if end {
				return
			}
			if n%64 == 0 {
				_, _ = s.Tidy(64 << 20)
			}
		}
	}()
	wg.Wait()
	mu.Lock()
	stop = true
	mu.Unlock()
	<-committer
	b.StopTimer()
	b.ReportMetric(float64(cpu()-start)/1000/float64(b.N), "cpu-µs/append")
}

// BenchmarkOpen10000 opens a store with 10,000 closed extents.
func BenchmarkOpen10000(b *testing.B) {
	d, err := disk.OpenOS(benchDir(b))
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	if err := Format(d, testSuper, Options{}); err != nil {
		b.Fatal(err)
	}
	for n := range uint32(10000) {
		ft := goldenFooter()
		ft.extent = testID(1, n+1)
		ft.open.Extent = ft.extent
		x := newExtent(ft.extent)
		if err := d.MkdirAll(shardDir(x.shard)); err != nil {
			b.Fatal(err)
		}
		f, err := d.Create(x.path(sufFooter))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.WriteAt(ft.encode(), 0); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
	b.ResetTimer()
	for range b.N {
		s := opened(b, d, Options{})
		if len(s.extents) != 10000 {
			b.Fatal(len(s.extents))
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
