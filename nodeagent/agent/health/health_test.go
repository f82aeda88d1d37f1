package health

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func fine() Figures {
	return Figures{CPU: 0.1, Memory: 0.1, Disk: 0.1, Latency: time.Millisecond, Alive: 5, Others: 5}
}

func steps(j *Judge, n int, f Figures) (out []Change) {
	for range n {
		out = append(out, j.Step(f)...)
	}
	return out
}

// TestThresholds: from each bound on the level rises, after Rise samples and not before; just below it does not.
func TestThresholds(t *testing.T) {
	for name, c := range map[string]struct {
		resource string
		set      func(*Figures)
		want     Level
	}{
		"cpu below":        {CPU, func(f *Figures) { f.CPU = 0.799 }, OK},
		"cpu":              {CPU, func(f *Figures) { f.CPU = 0.80 }, Warning},
		"cpu critical":     {CPU, func(f *Figures) { f.CPU = 0.95 }, Critical},
		"memory":           {Memory, func(f *Figures) { f.Memory = 0.85 }, Warning},
		"memory critical":  {Memory, func(f *Figures) { f.Memory = 0.95 }, Critical},
		"disk":             {Disk, func(f *Figures) { f.Disk = 0.90 }, Warning},
		"disk critical":    {Disk, func(f *Figures) { f.Disk = 0.95 }, Critical},
		"latency":          {Latency, func(f *Figures) { f.Latency = time.Second }, Warning},
		"latency critical": {Latency, func(f *Figures) { f.Latency = 1200 * time.Millisecond }, Critical},
		"peers":            {Peers, func(f *Figures) { f.Alive = 2 }, Warning},
		"peers critical":   {Peers, func(f *Figures) { f.Alive = 1 }, Critical},
	} {
		var j Judge
		f := fine()
		c.set(&f)
		if got := steps(&j, Rise-1, f); len(got) != 0 {
			t.Errorf("%s: too early: %v", name, got)
		}
		got := j.Step(f)
		if level := j.Read()[c.resource].Level; level != c.want || (c.want == OK) != (len(got) == 0) {
			t.Errorf("%s: %v, %v", name, level, got)
		}
	}
}

// TestHysteresis: a figure that swings around a bound changes its level once; one that stays below falls, after Fall samples.
func TestHysteresis(t *testing.T) {
	var j Judge
	high, near, low := fine(), fine(), fine()
	high.CPU, near.CPU, low.CPU = 0.81, 0.79, 0.70
	n := len(steps(&j, Rise, high))
	for range 100 {
		n += len(steps(&j, 1, near)) + len(steps(&j, 1, high))
	}
	for range 100 {
		n += len(steps(&j, Fall-1, low)) + len(steps(&j, 1, high))
	}
	if n != 1 {
		t.Errorf("%d changes", n)
	}
	if got := steps(&j, Fall, low); len(got) != 1 || got[0].To != OK || got[0].From != Warning {
		t.Errorf("%v", got)
	}
	high.CPU = 1
	if got := steps(&j, Rise, high); len(got) != 1 || got[0].To != Critical {
		t.Errorf("%v", got)
	}
	if got := steps(&j, Fall, low); j.Read()[CPU].Level != OK || len(got) == 0 {
		t.Errorf("%v", got)
	}
}

// TestUnknown: what can not be read raises nothing.
func TestUnknown(t *testing.T) {
	var j Judge
	if got := steps(&j, 10, Figures{CPU: Unknown, Memory: Unknown, Disk: Unknown}); len(got) != 0 {
		t.Errorf("%v", got)
	}
	cpu, memory := NewSampler(t.TempDir(), t.TempDir()).Sample(time.Now())
	if cpu != Unknown || memory != Unknown {
		t.Error(cpu, memory)
	}
}

// TestPeers: of a small network all are enough.
func TestPeers(t *testing.T) {
	for _, c := range []struct {
		alive, others int
		want          Level
	}{{0, 0, OK}, {1, 1, OK}, {2, 2, OK}, {0, 1, Critical}, {1, 2, Warning}, {0, 2, Critical}, {3, 9, OK}, {2, 9, Warning}, {1, 9, Critical}} {
		var j Judge
		f := fine()
		f.Alive, f.Others = c.alive, c.others
		steps(&j, Rise, f)
		if got := j.Read()[Peers].Level; got != c.want {
			t.Errorf("%d of %d: %v, want %v", c.alive, c.others, got, c.want)
		}
	}
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSample: the node's figures, and the agent's own of its limits in both versions of cgroups; what is nearer to its limit counts.
func TestSample(t *testing.T) {
	const meminfo = "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    600 kB\n"
	for name, c := range map[string]struct {
		first, then map[string]string
		cpu, memory float64
	}{
		"no limits": {map[string]string{"cpu.stat": "usage_usec 0\n", "cpu.max": "max 100000\n", "memory.max": "max\n", "memory.current": "900\n"}, map[string]string{"cpu.stat": "usage_usec 9000000\n"}, 0.5, 0.4},
		"version 2": {map[string]string{"cpu.stat": "usage_usec 1000\nuser_usec 1\n", "cpu.max": "200000 100000\n", "memory.max": "1000\n", "memory.current": "900\n", "memory.stat": "anon 1\ninactive_file 100\n"},
			map[string]string{"cpu.stat": "usage_usec 18001000\n"}, 0.9, 0.8},
		"version 1": {map[string]string{"cpuacct/cpuacct.usage": "1000\n", "cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n", "memory/memory.limit_in_bytes": "1000\n", "memory/memory.usage_in_bytes": "900\n", "memory/memory.stat": "total_inactive_file 100\n"},
			map[string]string{"cpuacct/cpuacct.usage": "18000001000\n"}, 0.9, 0.8},
		"version 1 without limits": {map[string]string{"cpuacct/cpuacct.usage": "0\n", "cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n", "memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.usage_in_bytes": "900\n"},
			map[string]string{"cpuacct/cpuacct.usage": "18000000000\n"}, 0.5, 0.4},
	} {
		proc, cgroup := t.TempDir(), t.TempDir()
		write(t, proc, map[string]string{"stat": "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 1 1 1\n", "meminfo": meminfo})
		write(t, cgroup, c.first)
		s := NewSampler(proc, cgroup)
		now := time.Unix(1000, 0)
		if cpu, _ := s.Sample(now); cpu != Unknown {
			t.Errorf("%s: the first sample knows %v", name, cpu)
		}
		write(t, proc, map[string]string{"stat": "cpu  150 0 100 720 130 0 0 0 0 0\n"})
		write(t, cgroup, c.then)
		cpu, memory := s.Sample(now.Add(10 * time.Second))
		if cpu < c.cpu-1e-3 || cpu > c.cpu+1e-3 || memory < c.memory-1e-3 || memory > c.memory+1e-3 {
			t.Errorf("%s: CPU %v, memory %v, want %v and %v", name, cpu, memory, c.cpu, c.memory)
		}
	}
}

// TestMonitor: changes are told, and what is above is named.
func TestMonitor(t *testing.T) {
	f := fine()
	f.Disk, f.Alive = 0.97, 0
	var told []Change
	m := NewMonitor(func(time.Time) Figures { return f }, func(c Change) { told = append(told, c) })
	for range Rise {
		m.look(time.Unix(0, 0))
	}
	if got := m.Pressure(); !slices.Equal(got, []string{Disk, Peers}) || len(told) != 2 {
		t.Error(got, told)
	}
	if got := Median([]time.Duration{3, 1, 2}); got != 2 || Median(nil) != 0 {
		t.Error(got)
	}
}
