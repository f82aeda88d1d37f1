// Package health judges how loaded a node is: CPU, memory, disks, latency to its peers, and how many of them answer.
//
// A Sampler reads figures, from the node's /proc and from the agent's own cgroup, of version 1 or 2, whichever is nearer to its limit. A Judge
// makes levels of them: Warning from a threshold on, Critical from 1.2 times it on, at most 95 %. It has hysteresis in value and in time: a level
// rises when Rise samples in a row are above its bound, and falls when Fall samples in a row are below Slack times it.
//
// # Invariants
//
//  1. A figure that swings around a bound does not change a level at each swing. (TestHysteresis)
//  2. What can not be read counts as unknown and raises nothing. (TestUnknown)
//  3. Three nodes are enough: a network of fewer than four nodes is not short of peers while all of them answer. (TestPeers)
//
// Concurrency: a Judge and a Sampler are used from one goroutine; Monitor from any.
package health

import (
	"slices"
	"time"
)

// Level is how bad it is.
type Level int

// The levels.
const (
	OK Level = iota
	Warning
	Critical
)

// String is the level's name.
func (l Level) String() string { return [...]string{"ok", "warning", "critical"}[l] }

// Resources that are judged, by the names of StorageNode.status.agent.pressure.
const (
	CPU     = "cpu"
	Memory  = "memory"
	Disk    = "disk"
	Latency = "latency"
	Peers   = "peers"
)

// Resources lists them.
func Resources() []string { return []string{CPU, Memory, Disk, Latency, Peers} }

// Thresholds. Critical is 1.2 times the warning, but at most 95 % of what there is.
const (
	CPUWarning     = 0.80
	MemoryWarning  = 0.85
	DiskWarning    = 0.90
	LatencyWarning = time.Second
	PeersWarning   = 3

	factor = 1.2
	most   = 0.95

	rounding = 1e-9 // of ratios
)

// Times and slack of the hysteresis.
const (
	Every = 10 * time.Second
	Rise  = 3
	Fall  = 6
	Slack = 0.95
)

// Unknown is a figure that could not be read.
const Unknown = -1.0

// Figures are one sample.
type Figures struct {
	CPU, Memory, Disk float64       // shares of what there is, 0 to 1, or Unknown
	Latency           time.Duration // median round trip to peers that answer; 0: not measured
	Alive, Others     int           // peers that answer, and all
}

// ratios are figures by resource as multiples of their warning: from 1 on it is above. Peers are turned around: the fewer, the higher.
func (f Figures) ratios() map[string]float64 {
	out := map[string]float64{CPU: f.CPU / CPUWarning, Memory: f.Memory / MemoryWarning, Disk: f.Disk / DiskWarning,
		Latency: float64(f.Latency) / float64(LatencyWarning), Peers: 0}
	want := min(PeersWarning, f.Others)
	switch {
	case want == 0 || f.Alive >= want:
	case f.Alive*2 < want:
		out[Peers] = factor
	default:
		out[Peers] = 1
	}
	return out
}

// critical is the bound of Critical as a multiple of the warning.
func critical(resource string) float64 {
	switch resource {
	case CPU:
		return min(factor, most/CPUWarning)
	case Memory:
		return min(factor, most/MemoryWarning)
	case Disk:
		return min(factor, most/DiskWarning)
	}
	return factor
}

// Change is a level that changed.
type Change struct {
	Resource string
	From, To Level
	Ratio    float64 // of the last sample
}

// Judge remembers levels. The zero value has all at OK.
type Judge struct {
	states map[string]*state
}

type state struct {
	level Level
	above [Critical + 1]int // samples in a row at or above the bound of a level
	below [Critical + 1]int // samples in a row below Slack times it
	ratio float64
}

// Step judges one sample.
func (j *Judge) Step(f Figures) (out []Change) {
	if j.states == nil {
		j.states = map[string]*state{}
	}
	ratios := f.ratios()
	for _, r := range Resources() {
		s := j.states[r]
		if s == nil {
			s = &state{}
			j.states[r] = s
		}
		if before := s.step(ratios[r], critical(r)); before != s.level {
			out = append(out, Change{r, before, s.level, s.ratio})
		}
	}
	return out
}

// step judges one figure, and gives the level before.
func (s *state) step(ratio, critical float64) (before Level) {
	before, s.ratio = s.level, max(ratio, 0)
	for l, bound := range map[Level]float64{Warning: 1, Critical: critical} {
		switch {
		case ratio >= bound-rounding:
			s.above[l], s.below[l] = s.above[l]+1, 0
		case ratio < bound*Slack:
			s.above[l], s.below[l] = 0, s.below[l]+1
		default: // between: neither rises nor falls
			s.above[l], s.below[l] = 0, 0
		}
	}
	switch {
	case s.above[Critical] >= Rise:
		s.level = Critical
	case s.above[Warning] >= Rise:
		s.level = max(s.level, Warning)
	}
	if s.level == Critical && s.below[Critical] >= Fall {
		s.level = Warning
	}
	if s.level == Warning && s.below[Warning] >= Fall {
		s.level = OK
	}
	return before
}

// Reading is a resource at one moment.
type Reading struct {
	Level Level
	Ratio float64 // the figure as a multiple of its warning
}

// Read gives all levels.
func (j *Judge) Read() map[string]Reading {
	out := map[string]Reading{}
	for _, r := range Resources() {
		if s := j.states[r]; s != nil {
			out[r] = Reading{s.level, s.ratio}
		} else {
			out[r] = Reading{}
		}
	}
	return out
}

// Median of round trips; 0 if there is none.
func Median(list []time.Duration) time.Duration {
	if len(list) == 0 {
		return 0
	}
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
