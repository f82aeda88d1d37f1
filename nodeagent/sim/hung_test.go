package sim

import (
	"testing"
	"time"
)

// Reads go on, with the right bytes, while the disk of the reader's own node answers nothing for a minute. Control: with no hedges they wait for it.
func TestReadsPassAHungDisk(t *testing.T) {
	play(t, 3, func(s *script) {
		a := s.open(0)
		a.write(0, 64)
		s.flush(a)
		s.wait(time.Second)
		err, ok := a.onSeat("checkpoint", a.e.Checkpoint)
		s.require(ok && err == nil, "checkpoint: %v", err)
		s.wait(2 * time.Second)
		s.node(0).stuck = s.w.s.now + time.Minute
		began := s.w.s.now
		for range 3 {
			s.checked(a)
		}
		took := s.w.s.now - began
		s.require(took < 10*time.Second, "three times the volume took %v", took)
		s.require(s.w.coverage[[2]string{"slow disk", ownRead}] > 0, "nothing was read from the hung disk")
		s.require(a.e.Status().Stats.HedgesWon > 0, "no read was answered by another replica")
	})
}
