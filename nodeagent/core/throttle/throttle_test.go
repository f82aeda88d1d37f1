package throttle

import (
	"testing"
)

const (
	second = int64(1e9)
	mib    = 1 << 20
)

// plant is a foreground that asks for one thing after the other, each of which takes the longer the more the work moves: so many nanoseconds, and so
// many for each byte that was moved while it was under way or still stands before it.
type plant struct {
	s     State
	r     Rules
	at    int64
	alone int64   // nanoseconds of a request
	each  float64 // nanoseconds that a byte takes
	asks  bool
	full  bool // it asks for more than is done
	least float64
}

// run lets the work move pieces of n bytes for so long. It gives bytes a second, what a request took on average, and the most bytes in a window.
func (p *plant) run(n int, length int64) (rate, took float64, burst int) {
	p.s.Start(p.at)
	var moved, inWindow, requests int
	var sum float64
	start, window := p.at, p.at
	left := p.alone // of the request under way
	since := p.at
	for next := p.at; p.at < start+length; p.at += 100e3 {
		if p.at >= window+p.r.Window {
			burst, inWindow, window = max(burst, inWindow), 0, p.at
		}
		if p.at >= next {
			waiting := int64(-1)
			if p.asks {
				waiting = p.at - since
			}
			wait := p.s.Wait(p.r, Turn{At: p.at, Waiting: waiting, Full: p.full, Least: p.least})
			if next = p.at + wait; wait == 0 {
				p.s.Begin()
				p.s.Moved(n)
				moved, inWindow = moved+n, inWindow+n
				left += int64(float64(n) * p.each)
			}
		}
		if left -= 100e3; left > 0 {
			continue
		}
		p.s.End(p.at)
		if left = 0; !p.asks {
			continue
		}
		p.s.Took(p.at, p.at-since)
		sum, requests = sum+float64(p.at-since), requests+1
		left, since = p.alone, p.at
	}
	return float64(moved) * 1e9 / float64(length), sum / float64(max(requests, 1)), burst
}

func newPlant() *plant {
	return &plant{r: Default(), at: second, alone: 1e6, each: 8, asks: true}
}

// TestSettles: beside requests that take longer for it, the work settles where they take not much longer than alone, and does not stop.
func TestSettles(t *testing.T) {
	p := newPlant()
	p.run(mib/4, 20*second)
	rate, took, _ := p.run(mib/4, 20*second)
	if took > p.r.Press*float64(p.alone)*1.1 || rate < 2*p.r.Floor {
		t.Errorf("requests take %.2f ms, work goes at %.1f MiB/s", took/1e6, rate/mib)
	}
	if p.s.alone < 0.8e6 || p.s.alone > 1.3e6 {
		t.Errorf("a request takes 1 ms alone, not %.2f", p.s.alone/1e6)
	}
}

// TestNotices: the plant shows what is wrong if the work never slows down.
func TestNotices(t *testing.T) {
	p := newPlant()
	p.r.Down, p.r.Floor = 1, p.r.Ceiling
	if _, took, _ := p.run(mib/4, 20*second); took < 1.3*p.r.Press*float64(p.alone) {
		t.Errorf("requests take %.2f ms beside work that does not slow down", took/1e6)
	}
}

// TestLeast: the least rate is kept, whatever requests take.
func TestLeast(t *testing.T) {
	for _, least := range []float64{0, 4 * mib, 30 * mib, 100 * mib} {
		p := newPlant()
		p.each, p.least = 40, least
		p.run(mib/4, 10*second)
		if rate, _, _ := p.run(mib/4, 10*second); rate < 0.95*least || least > 20*mib && rate > 1.1*least {
			t.Errorf("at least %.0f MiB/s: %.1f", least/mib, rate/mib)
		}
	}
}

// TestAlone: with nobody in the foreground the work reaches the ceiling within seconds.
func TestAlone(t *testing.T) {
	p := newPlant()
	p.asks = false
	p.run(mib, 3*second)
	if rate, _, _ := p.run(mib, 5*second); rate < 0.95*p.r.Ceiling || rate > 1.05*p.r.Ceiling {
		t.Errorf("%.1f MiB/s", rate/mib)
	}
}

// TestNoBurst: no window has more than twice what its rate allows, and a piece; so too after a pause.
func TestNoBurst(t *testing.T) {
	p := newPlant()
	p.asks = false
	p.run(mib, 5*second)
	for range 3 {
		p.at += 60 * second
		_, _, burst := p.run(mib, 2*second)
		if most := 2*p.r.Ceiling*float64(p.r.Window)/1e9 + mib; float64(burst) > most {
			t.Errorf("%.1f MiB in a window, at most %.1f", float64(burst)/mib, most/mib)
		}
	}
}

// TestBaseline: the mean of requests alone follows these, and not those beside pieces. The control: untold of pieces it follows these too.
func TestBaseline(t *testing.T) {
	for _, told := range []bool{true, false} {
		var s State
		most := 0.0
		for i := range int64(100) {
			if told {
				s.Begin()
			}
			s.Took(i*second, 50e6)
			most = max(most, s.alone)
			s.End(i*second + 10)
			s.Took(i*second+2e6, 3e6) // it began as the piece was under way
			s.Took(i*second+9e6, 1e6)
		}
		if most > 1e6 == told {
			t.Errorf("told of pieces: %v; up to %.1f ms", told, most/1e6)
		}
	}
}

// TestStale: a mean of times when requests took long does not hide that they take longer than alone now.
func TestStale(t *testing.T) {
	p := newPlant()
	p.each, p.alone = 40, 200e6
	p.run(mib, 20*second)
	p.alone = 1e6
	p.s.rate = p.r.Ceiling
	p.run(mib, 10*second)
	if _, took, _ := p.run(mib, 10*second); took > 1.2*p.r.Press*float64(p.alone) {
		t.Errorf("requests take %.1f ms", took/1e6)
	}
}

// TestFull: where requests come faster than they are done, the work goes at the least rate.
func TestFull(t *testing.T) {
	p := newPlant()
	p.full, p.each, p.least = true, 0.1, 3*mib
	p.run(mib/4, 10*second)
	if rate, _, _ := p.run(mib/4, 10*second); rate > 1.1*p.least {
		t.Errorf("%.1f MiB/s", rate/mib)
	}
}

// TestPause: a pause changes no rate, and the first window after it is judged by what was in it.
func TestPause(t *testing.T) {
	p := newPlant()
	p.run(mib/4, 20*second)
	before := p.s.rate
	for range 1000 {
		p.at += second
		p.s.Took(p.at, 1)
	}
	p.s.Start(p.at)
	p.s.Wait(p.r, Turn{At: p.at, Waiting: -1})
	if after := p.s.rate; after != before {
		t.Errorf("%.1f MiB/s before and %.1f after it", before/mib, after/mib)
	}
}
