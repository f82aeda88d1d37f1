package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of times in /proc: USER_HZ is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// usage is what a process has used since it began.
type usage struct {
	cpu     time.Duration
	written int64 // bytes that it caused to be written to disks
	rss     int64 // bytes, now
}

// usageOf reads a process's usage below root (/proc).
func usageOf(root string, pid int) (u usage, err error) {
	dir := filepath.Join(root, strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return u, err
	}
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from field 3, the state
	if len(f) < 13 {
		return u, fmt.Errorf("%s/stat is short", dir)
	}
	for _, s := range f[11:13] { // utime, stime
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return u, fmt.Errorf("%s/stat: %w", dir, err)
		}
		u.cpu += time.Duration(n) * tick
	}
	if u.written, err = field(filepath.Join(dir, "io"), "write_bytes:"); err != nil {
		return u, err
	}
	u.rss, err = field(filepath.Join(dir, "status"), "VmRSS:")
	u.rss <<= 10
	return u, err
}

// field is the number behind a name in a file of lines.
func field(name, key string) (int64, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key {
			return strconv.ParseInt(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", name, key)
}

// busy is how long the machine's CPUs were neither idle nor waiting nor stolen, since boot.
func busy(root string) (time.Duration, error) {
	f, err := os.Open(filepath.Join(root, "stat"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	if !s.Scan() || !strings.HasPrefix(s.Text(), "cpu ") {
		return 0, fmt.Errorf("%s/stat does not begin with cpu", root)
	}
	var sum int64
	for i, word := range strings.Fields(s.Text())[1:] {
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return 0, err
		}
		if i < 7 && i != 3 && i != 4 { // user nice system (idle iowait) irq softirq; guest time is in user
			sum += n
		}
	}
	return time.Duration(sum) * tick, nil
}

// sample is the usage of the network's processes, and of the machine, at one moment.
type sample struct {
	at   time.Time
	busy time.Duration
	disk int64            // bytes that were ever written to the disk
	of   map[string]usage // "n1 agent"
}

// sample reads all processes; one that has died counts from zero.
func (b *bencher) sample() (s sample, err error) {
	s = sample{at: time.Now(), of: map[string]usage{}, disk: diskWritten("/proc", b.dir)}
	if s.busy, err = busy("/proc"); err != nil {
		return s, err
	}
	for _, n := range b.nodes {
		for kind, pid := range map[string]int{"agent": n.Agent, "holder": n.Holder} {
			u, err := usageOf("/proc", pid)
			if err != nil {
				return s, err
			}
			s.of[n.Name+" "+kind] = u
		}
	}
	return s, nil
}

// cpu is what the processes used between two samples.
func (s sample) cpu(since sample) (sum time.Duration) {
	for name, u := range s.of {
		sum += u.cpu - since.of[name].cpu
	}
	return sum
}

// written is what the processes wrote between two samples, in bytes.
func (s sample) written(since sample) (sum int64) {
	for name, u := range s.of {
		sum += u.written - since.of[name].written
	}
	return sum
}

// quietWithin bounds how long the processes may take to become quiet after a workload.
const quietWithin = 5 * time.Second

// quiet waits until the processes use less than a tenth of one core and write nothing.
func (b *bencher) quiet() (sample, error) {
	last, err := b.sample()
	for end := time.Now().Add(quietWithin); err == nil && time.Now().Before(end); {
		if err := b.sleep(500 * time.Millisecond); err != nil {
			return last, err
		}
		var next sample
		if next, err = b.sample(); err != nil {
			return last, err
		}
		calm := next.cpu(last) < next.at.Sub(last.at)/10 && next.written(last) < 64<<10
		last = next
		if calm {
			break
		}
	}
	return last, err
}

func (b *bencher) sleep(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
}

// diskWritten is how many bytes were ever written to the disk that a directory lies on, by anybody; 0 if that can not be told.
func diskWritten(root, dir string) int64 {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return 0
	}
	b, err := os.ReadFile(filepath.Join(root, "diskstats"))
	if err != nil {
		return 0
	}
	major, minor := strconv.Itoa(int(unix.Major(st.Dev))), strconv.Itoa(int(unix.Minor(st.Dev)))
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 9 && f[0] == major && f[1] == minor {
			n, _ := strconv.ParseInt(f[9], 10, 64)
			return n * 512
		}
	}
	return 0
}
