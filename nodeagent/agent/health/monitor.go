package health

import (
	"context"
	"sync"
	"time"
)

// Monitor samples and judges as long as it runs. Make one with NewMonitor.
type Monitor struct {
	sample  func(now time.Time) Figures
	changed func(Change)

	mu    sync.Mutex
	judge Judge
}

// NewMonitor makes a monitor. changed hears of each level that changes, one after the other.
func NewMonitor(sample func(now time.Time) Figures, changed func(Change)) *Monitor {
	return &Monitor{sample: sample, changed: changed}
}

// Run samples every Every until ctx ends.
func (m *Monitor) Run(ctx context.Context) {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		m.look(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (m *Monitor) look(now time.Time) {
	f := m.sample(now)
	m.mu.Lock()
	changes := m.judge.Step(f)
	m.mu.Unlock()
	for _, c := range changes {
		m.changed(c)
	}
}

// Read gives all levels.
func (m *Monitor) Read() map[string]Reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.judge.Read()
}

// Pressure names the resources that are above their thresholds, in the order of Resources.
func (m *Monitor) Pressure() (out []string) {
	all := m.Read()
	for _, r := range Resources() {
		if all[r].Level > OK {
			out = append(out, r)
		}
	}
	return out
}
