package main

import (
	"fmt"
	"os"
	"time"
)

// times measures what happens to a volume besides reading and writing. It runs on the FUSE volume, filled.
func (b *bencher) times() (facts []fact, err error) {
	var floor time.Duration
	add := func(name, note string, f func() error) {
		if err != nil {
			return
		}
		fmt.Fprintln(os.Stderr, name)
		begin := time.Now()
		if err = f(); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
			return
		}
		facts = append(facts, fact{name, millis(time.Since(begin)), note})
	}
	add("a command that does nothing", "is in each of those below", func() error { _, err := b.my("version"); return err })
	add("snapshot", "in use", func() error { _, err := b.my("volume", "snapshot", fuse, "s"); return err })
	add("clone", "", func() error { _, err := b.my("volume", "clone", fuse, "s", "copy"); return err })
	add("detach", "with a checkpoint", func() error { _, err := b.my("volume", "detach", fuse); return err })
	add("attach after a detach, to the first byte", "", b.firstByte)
	if err == nil {
		floor, err = b.crash()
	}
	add("attach after a crash of the node, to the first byte", "its start took "+millis(floor), b.firstByte)
	if err == nil {
		var more []fact
		more, err = b.rebuild()
		facts = append(facts, more...)
	}
	return facts, err
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// firstByte attaches the FUSE volume and reads a page of it, past the page cache.
func (b *bencher) firstByte() (err error) {
	if b.paths[fuse], err = b.attach(fuse); err != nil {
		return err
	}
	return firstPage(b.paths[fuse])
}

// crash ends the first node with all that it holds, without a detach, and starts it again.
func (b *bencher) crash() (start time.Duration, err error) {
	if _, err := b.fio(workload{name: "crash", write: true, args: []string{"--rw=randwrite", "--bs=4k", "--iodepth=32", "--io_size=64m", "--end_fsync=1"}},
		fuse, b.paths[fuse]); err != nil {
		return 0, err
	}
	if _, err := b.my("node", "kill", "n1", "--holder"); err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := b.startNode("n1"); err != nil {
		return 0, err
	}
	return time.Since(begin), b.findNodes()
}

// startWithin bounds how long the port of a killed agent may stay taken: threads that wait in the kernel keep its sockets.
const startWithin = 20 * time.Second

// startNode starts a node, again while that fails.
func (b *bencher) startNode(name string) error {
	for begin := time.Now(); ; {
		_, err := b.my("node", "start", name)
		if err == nil || time.Since(begin) > startWithin {
			return err
		}
		fmt.Fprintln(os.Stderr, err)
		if err := b.sleep(time.Second / 5); err != nil {
			return err
		}
	}
}

// rebuildWithin bounds how long a replica may take to catch up.
const rebuildWithin = 3 * time.Minute

// rebuild takes a node away, writes, brings it back, and waits until all replicas have everything.
func (b *bencher) rebuild() (facts []fact, err error) {
	fmt.Fprintln(os.Stderr, "rebuild of a replica")
	if _, err := b.waitHealthy(); err != nil {
		return nil, err
	}
	if _, err := b.my("node", "kill", "n3"); err != nil {
		return nil, err
	}
	missed := b.o.size / 4
	w := workload{name: "missed", write: true, args: []string{"--rw=write", "--bs=1m", "--iodepth=8", "--end_fsync=1", fmt.Sprintf("--io_size=%d", missed)}}
	r, err := b.fio(w, fuse, b.paths[fuse])
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := b.startNode("n3"); err != nil {
		return nil, err
	}
	up := time.Since(begin)
	if err := b.findNodes(); err != nil {
		return nil, err
	}
	took, err := b.waitHealthy()
	if err != nil {
		return nil, err
	}
	s, err := b.sample()
	if err != nil {
		return nil, err
	}
	got := s.of["n3 agent"].written
	return []fact{
		{fmt.Sprintf("write of %d MiB with one node away", missed>>20), fmt.Sprintf("%.1f MB/s", r.MBps), ""},
		{"rebuild of what the node missed", millis(took), fmt.Sprintf("%.1f MB/s, after a start of %s", float64(missed)/1e6/max(took.Seconds(), 1e-3), millis(up))},
		{"bytes that the node wrote meanwhile", fmt.Sprintf("%.2f x", float64(got)/float64(missed)), "of the bytes missed; its log and its files, since its start"},
	}, nil
}

// waitHealthy waits until all replicas of the FUSE volume have everything.
func (b *bencher) waitHealthy() (time.Duration, error) {
	begin := time.Now()
	for {
		var v volume
		if err := b.myInto(&v, "volume", "inspect", fuse); err != nil {
			return 0, err
		}
		if v.healthy() {
			return time.Since(begin), nil
		}
		if time.Since(begin) > rebuildWithin {
			return 0, fmt.Errorf("the volume is not whole after %s", rebuildWithin)
		}
		if err := b.sleep(50 * time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// memory tells the peak RSS of each process over the workloads.
func (b *bencher) memory() (facts []fact) {
	for _, name := range sortedKeys(b.peak) {
		facts = append(facts, fact{"memory of " + name, fmt.Sprintf("%.1f MiB", float64(b.peak[name])/(1<<20)), "highest RSS seen"})
	}
	return facts
}
