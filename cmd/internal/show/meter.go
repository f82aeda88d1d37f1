package show

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/cmd/internal/size"
)

// redraw is the least time between two lines.
const redraw = 100 * time.Millisecond

// Meter shows how far long work is, in one line that is drawn again: amount, share, rate and time left.
type Meter struct {
	out   io.Writer // nil: nothing is shown
	now   func() time.Time
	start time.Time
	drawn time.Time
	width int
}

// NewMeter shows progress on f, if it is a terminal.
func NewMeter(f *os.File) *Meter {
	if !Terminal(f) {
		return &Meter{}
	}
	return newMeter(f, time.Now)
}

func newMeter(out io.Writer, now func() time.Time) *Meter {
	return &Meter{out: out, now: now, start: now()}
}

// Terminal tells whether f is a terminal.
func Terminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Update tells that done of total bytes are through; total 0 is not known. rate is in bytes per second; 0: the mean so far.
func (m *Meter) Update(what string, done, total int64, rate float64) {
	if m.out == nil {
		return
	}
	now := m.now()
	if !m.drawn.IsZero() && now.Sub(m.drawn) < redraw {
		return
	}
	m.drawn = now
	if spent := now.Sub(m.start).Seconds(); rate <= 0 && spent > 0 {
		rate = float64(done) / spent
	}
	m.draw(line(what, done, total, rate))
}

// Clear removes the line, so that other output can follow.
func (m *Meter) Clear() {
	if m.out == nil || m.width == 0 {
		return
	}
	m.draw("")
	fmt.Fprint(m.out, "\r")
	m.width, m.drawn = 0, time.Time{}
}

func (m *Meter) draw(s string) {
	pad := max(0, m.width-len(s))
	fmt.Fprintf(m.out, "\r%s%s", s, strings.Repeat(" ", pad))
	m.width = len(s)
}

func line(what string, done, total int64, rate float64) string {
	s := fmt.Sprintf("%s  %s", what, size.Format(done))
	if total > 0 {
		share := min(100, 100*float64(done)/float64(total))
		s += fmt.Sprintf(" of %s  %.0f%%", size.Format(total), share)
	}
	if rate > 0 {
		s += fmt.Sprintf("  %s/s", size.Format(int64(rate)))
		if left := total - done; total > 0 && left > 0 {
			s += "  " + (time.Duration(float64(left)/rate) * time.Second).Round(time.Second).String() + " left"
		}
	}
	return s
}
