//go:build !race

package peer

import "testing"

// TestNoAllocation: an exchange allocates nothing of ours; crypto/tls allocates once for each record that it reads.
func TestNoAllocation(t *testing.T) {
	r := newRig(t, handlerFunc(func(_ Identity, q *Request) { q.Reply(StatusOK, q.Body); q.Release() }), Settings{}, ServerOptions{})
	c := r.dial(t, Settings{})
	body, done := make([]byte, 4096), make(chan struct{}, 1)
	cb := func(uint16, []byte, error) { done <- struct{}{} }
	run := func() {
		if err := c.Send(1, cb, body); err != nil {
			t.Error(err)
		}
		<-done
	}
	if n := testing.AllocsPerRun(2000, run); n > 3 {
		t.Errorf("%.1f allocations per exchange", n)
	}
	if n := testing.AllocsPerRun(2000, func() { run(); sink = make([]byte, 10) }); n < 3 {
		t.Errorf("negative control: %.1f allocations per exchange with one more", n)
	}
}

var sink []byte
