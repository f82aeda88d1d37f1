// Package pace bounds how fast an agent's background work reads and writes, over all volumes together.
//
// A Budget hands out bytes at a rate. Who wants to move some asks first, and waits for its turn; turns are given in the order of
// asking. What was not used for a while is not saved up beyond Burst.
//
// A budget that makes way (MakingWay) holds to its rate only while the agent's volumes are written to: it is told of writes (Wrote).
//
// Safe for concurrent use. It waits through a task.Env, so it runs in the simulator too.
package pace

import (
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/task"
)

// DefaultRate is the rate of an agent's copies beside writes when nothing else is set, bytes a second.
const DefaultRate = 64 << 20

// Burst is how much may be taken at once after a pause, as time at the rate.
const Burst = time.Second

// Rest is how long after a write the agent's volumes count as written to.
const Rest = time.Second

// Budget is a rate that is shared. A nil Budget has no limit.
type Budget struct {
	env task.Env

	mu   sync.Mutex
	rate int64         // bytes a second; 0: no limit
	free time.Duration // when the next turn may begin

	idle  bool          // without writes there is no limit
	wrote time.Duration // when a write has ended last
	ever  bool          // one ever has
}

// New makes a budget of rate bytes a second; 0 is no limit.
func New(env task.Env, rate int64) *Budget { return &Budget{env: env, rate: max(rate, 0)} }

// MakingWay makes a budget of rate bytes a second beside writes, and without a limit while there are none; 0 is no limit at all.
func MakingWay(env task.Env, rate int64) *Budget {
	b := New(env, rate)
	b.idle = true
	return b
}

// Wrote tells that a write to one of the agent's volumes is durable.
func (b *Budget) Wrote() {
	if b == nil {
		return
	}
	now := b.env.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wrote, b.ever = now, true
}

// SetRate changes the rate for turns that are not given yet.
func (b *Budget) SetRate(rate int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rate = max(rate, 0)
}

// Rate is the present rate in bytes a second; 0 is no limit.
func (b *Budget) Rate() int64 {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rate
}

// Reserve takes n bytes and tells how long to wait before they may move.
func (b *Budget) Reserve(n int64) time.Duration {
	if b == nil {
		return 0
	}
	now := b.env.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rate == 0 || n <= 0 {
		return 0
	}
	if b.idle && (!b.ever || now-b.wrote >= Rest) {
		b.free = now // nobody waits for what was taken
		return 0
	}
	b.free = max(b.free, now-Burst)
	wait := max(b.free-now, 0)
	b.free += time.Duration(float64(n) / float64(b.rate) * float64(time.Second))
	return wait
}
