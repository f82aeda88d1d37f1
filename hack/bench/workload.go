package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// workload is one of fio's jobs.
type workload struct {
	name  string
	write bool
	sync  bool // an fdatasync after each write
	args  []string
}

const fdatasync = "--fdatasync=1"

// workloads are named after direction, size, order and depth: random at 4 KiB, sequential at 1 MiB.
func workloads() []workload {
	job := func(name, rw, bs string, depth int, more ...string) workload {
		return workload{name: name, write: strings.HasSuffix(rw, "write"), sync: len(more) > 0,
			args: append([]string{"--rw=" + rw, "--bs=" + bs, "--iodepth=" + strconv.Itoa(depth)}, more...)}
	}
	return []workload{
		job("w4k_sync_qd1", "randwrite", "4k", 1, fdatasync),
		job("w4k_qd32", "randwrite", "4k", 32),
		job("r4k_qd1", "randread", "4k", 1),
		job("r4k_qd32", "randread", "4k", 32),
		job("w1m_qd8", "write", "1m", 8),
		job("r1m_qd8", "read", "1m", 8),
	}
}

func workloadNames() (names []string) {
	for _, w := range workloads() {
		names = append(names, w.name)
	}
	return names
}

// allTargets are, in order: a plain file, FUSE with a loop device, NBD on a unix socket.
var allTargets = []string{raw, fuse, nbd}

// Targets.
const (
	raw  = "raw"
	fuse = "fuse"
	nbd  = "nbd"
)

// words splits a list that commas or spaces separate.
func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// chooseWorkloads keeps the order of workloads; none named is all.
func chooseWorkloads(list string) (out []workload, err error) {
	names := words(list)
	for _, n := range names {
		if !slices.Contains(workloadNames(), n) {
			return nil, fmt.Errorf("workload %q: there are %s", n, strings.Join(workloadNames(), ", "))
		}
	}
	for _, w := range workloads() {
		if len(names) == 0 || slices.Contains(names, w.name) {
			out = append(out, w)
		}
	}
	return out, nil
}

func chooseTargets(list string) (out []string, err error) {
	names := words(list)
	for _, n := range names {
		if !slices.Contains(allTargets, n) {
			return nil, fmt.Errorf("target %q: there are %s", n, strings.Join(allTargets, ", "))
		}
	}
	for _, t := range allTargets {
		if len(names) == 0 || slices.Contains(names, t) {
			out = append(out, t)
		}
	}
	return out, nil
}

// parseDuration takes seconds, or Go's notation.
func parseDuration(s string) (time.Duration, error) {
	if n, err := strconv.Atoi(s); err == nil {
		s = strconv.Itoa(n) + "s"
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second {
		return 0, fmt.Errorf("duration: %q is not a number of seconds from 1, nor like 1m30s", s)
	}
	return d, nil
}

// parseSize takes bytes, or Ki, Mi, Gi, Ti; a multiple of 1 MiB from 64 MiB.
func parseSize(s string) (int64, error) {
	number, shift := s, 0
	for i, unit := range []string{"Ki", "Mi", "Gi", "Ti"} {
		if rest, ok := strings.CutSuffix(strings.TrimSuffix(s, "B"), unit); ok {
			number, shift = rest, 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n > 1<<46>>shift || n<<shift < 64<<20 || n<<shift%(1<<20) != 0 {
		return 0, fmt.Errorf("size: %q is not a multiple of 1 MiB from 64 MiB, as 2Gi", s)
	}
	return n << shift, nil
}
