package sim

import (
	"testing"
	"time"

	"mynetwork.io/mynetwork/nodeagent/volume"
)

// What an engine owes in time while its volume rests (volume/keep.go): it renews its lease, and the first write of after the rest is watched, and becomes part
// of a checkpoint, as soon as any other.
const (
	restful = 45 * time.Second       // after a write: the checkpoint is made, and all copies were seen to be in place
	looks   = 500 * time.Millisecond // between two looks of an engine that does not rest
	travels = 200 * time.Millisecond // more than messages and disks take without faults
)

// oldest is how long ago the store heard of the writer that has not heard of it for longest, of the stores of the first so many nodes.
func (s *script) oldest(nodes int) (age time.Duration) {
	n, done := s.node(0), false
	n.proc.Go("leases", func() {
		for i := range nodes {
			l, err := n.client(n.proc).Lease(s.node(i).store, s.v.spec.ID)
			s.require(err == nil, "lease: %v", err)
			age = max(age, l.Age)
		}
		done = true
	})
	s.w.waitFor(func() bool { return done })
	return age
}

func TestRestingWriterRenews(t *testing.T) {
	play(t, 3, func(s *script) {
		a := s.open(0)
		a.write(0, 8)
		s.flush(a)
		for begin := s.w.s.now; s.w.s.now < begin+2*restful; s.wait(100 * time.Millisecond) {
			age := s.oldest(3)
			s.require(age <= volume.Lease/4+travels, "a store has not heard of the writer for %s", age)
		}
	})
}

func TestSlowReplicaAfterRest(t *testing.T) {
	play(t, 4, func(s *script) {
		a := s.open(0)
		a.write(0, 8)
		s.flush(a)
		s.wait(restful + s.w.s.between(0, 5*time.Second))
		was := a.e.Status()
		for i := range 4 {
			if n := s.node(i); n != a.n && n.store == was.Members[len(was.Members)-1].Store || n.store == was.Members[1].Store && n != a.n {
				n.stuck = s.w.s.now + time.Minute
				break
			}
		}
		a.write(0, 1)
		s.wait(time.Second + 2*looks + travels)
		now := a.e.Status()
		s.require(now.Extent != was.Extent, "a replica that does not get on is still waited for: %+v", now.Members)
		s.flush(a)
	})
}

func TestCheckpointAfterRest(t *testing.T) {
	play(t, 3, func(s *script) {
		a := s.open(0)
		a.write(0, 8)
		s.flush(a)
		for range 3 {
			s.wait(2*restful + s.w.s.between(0, 5*time.Second))
			was := a.e.Status().Stats.Checkpoints
			a.write(0, 1)
			s.flush(a)
			s.wait(looks + travels) // the last checkpoint was long ago, so one is due at once
			s.require(a.e.Status().Stats.Checkpoints > was, "the checkpoint is late")
			s.wait(looks + travels) // so is cleaning, the first time
			now := a.e.Status().Stats.Checkpoints
			a.write(1, 1)
			s.flush(a)
			s.wait(30*time.Second - 2*looks - 3*travels)
			s.require(a.e.Status().Stats.Checkpoints == now, "the next checkpoint came early")
			s.wait(3*looks + 4*travels)
			s.require(a.e.Status().Stats.Checkpoints == now+1, "the next checkpoint is late")
		}
	})
}
