package health

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Sampler reads CPU and memory. Make one with NewSampler.
type Sampler struct {
	proc, cgroup string // directories

	busy, all uint64        // of /proc/stat, in ticks, at the last sample
	used      time.Duration // of the cgroup's CPU time, at the last sample
	at        time.Time
}

// NewSampler makes a sampler of /proc and /sys/fs/cgroup, or what stands for them in a test.
func NewSampler(proc, cgroup string) *Sampler { return &Sampler{proc: proc, cgroup: cgroup} }

// Sample gives shares of CPU and memory since the last call: the node's, or the agent's own of its limits if those are nearer. The first
// call knows no CPU.
func (s *Sampler) Sample(now time.Time) (cpu, memory float64) {
	cpu = max(s.nodeCPU(), s.ownCPU(now))
	return cpu, max(s.nodeMemory(), s.ownMemory())
}

// nodeCPU is the share of the node's CPU time that was not idle.
func (s *Sampler) nodeCPU() float64 {
	b, err := os.ReadFile(filepath.Join(s.proc, "stat"))
	if err != nil {
		return Unknown
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	f := strings.Fields(string(line)) // cpu user nice system idle iowait irq softirq steal
	if len(f) < 6 || f[0] != "cpu" {
		return Unknown
	}
	var all, idle uint64
	for i, text := range f[1:min(len(f), 9)] {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return Unknown
		}
		all += n
		if i == 3 || i == 4 {
			idle += n
		}
	}
	busy, total := all-idle-s.busy, all-s.all
	first := s.all == 0
	s.busy, s.all = all-idle, all
	if first || total == 0 || busy > total {
		return Unknown
	}
	return float64(busy) / float64(total)
}

// ownCPU is the share of its CPU limit that the agent's cgroup used.
func (s *Sampler) ownCPU(now time.Time) float64 {
	used, ok := s.cpuTime()
	cores, limited := s.cpuLimit()
	took := now.Sub(s.at)
	before, first := s.used, s.at.IsZero()
	s.used, s.at = used, now
	if !ok || !limited || first || took <= 0 || used < before {
		return Unknown
	}
	return (used - before).Seconds() / took.Seconds() / cores
}

func (s *Sampler) cpuTime() (time.Duration, bool) {
	if n, ok := field(s.text("cpu.stat"), "usage_usec"); ok {
		return time.Duration(n) * time.Microsecond, true
	}
	n, ok := number(s.text("cpuacct/cpuacct.usage"))
	return time.Duration(n), ok
}

// cpuLimit is in cores.
func (s *Sampler) cpuLimit() (cores float64, ok bool) {
	quota, period := int64(0), int64(0)
	if f := strings.Fields(s.text("cpu.max")); len(f) == 2 { // "max 100000" is none
		quota, _ = strconv.ParseInt(f[0], 10, 64)
		period, _ = strconv.ParseInt(f[1], 10, 64)
	} else {
		quota, _ = number(s.text("cpu/cpu.cfs_quota_us")) // -1 is none
		period, _ = number(s.text("cpu/cpu.cfs_period_us"))
	}
	return float64(quota) / float64(max(period, 1)), quota > 0 && period > 0
}

func (s *Sampler) nodeMemory() float64 {
	b, err := os.ReadFile(filepath.Join(s.proc, "meminfo"))
	total, ok := field(string(b), "MemTotal:")
	available, ok2 := field(string(b), "MemAvailable:")
	if err != nil || !ok || !ok2 || total <= 0 || available > total {
		return Unknown
	}
	return 1 - float64(available)/float64(total)
}

// noLimit is above what version 1 says where there is none.
const noLimit = 1 << 60

// ownMemory is the share of its memory limit that the agent's cgroup uses, without pages of files that can be dropped.
func (s *Sampler) ownMemory() float64 {
	limit, ok := number(s.text("memory.max"))
	used, ok2 := number(s.text("memory.current"))
	file, _ := field(s.text("memory.stat"), "inactive_file")
	if !ok && s.text("memory.current") == "" {
		limit, ok = number(s.text("memory/memory.limit_in_bytes"))
		used, ok2 = number(s.text("memory/memory.usage_in_bytes"))
		file, _ = field(s.text("memory/memory.stat"), "total_inactive_file")
	}
	if !ok || !ok2 || limit <= 0 || limit > noLimit {
		return Unknown
	}
	return float64(max(used-file, 0)) / float64(limit)
}

func (s *Sampler) text(name string) string {
	b, err := os.ReadFile(filepath.Join(s.cgroup, name))
	if err != nil {
		return ""
	}
	return string(b)
}

func number(text string) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return n, err == nil
}

// field finds "name value" at the begin of a line.
func field(text, name string) (int64, bool) {
	for line := range strings.SplitSeq(text, "\n") {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == name {
			return number(f[1])
		}
	}
	return 0, false
}
