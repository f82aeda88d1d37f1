package transport

import (
	"sync/atomic"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// epochAt is where a request's head has its epoch: behind the store.
const epochAt = 16

// Cut is a transport that can be ended: afterwards every request that changes something is answered as to a writer that
// was fenced, so that an engine which waits for a majority gives up.
type Cut struct {
	replica.Transport
	cut atomic.Bool
}

var _ replica.Transport = (*Cut)(nil)

// NewCut decorates a transport.
func NewCut(t replica.Transport) *Cut { return &Cut{Transport: t} }

// End ends it. It may be repeated.
func (c *Cut) End() { c.cut.Store(true) }

// Send implements replica.Transport.
func (c *Cut) Send(s block.StoreID, typ replica.Type, done replica.Done, parts ...[]byte) {
	if c.cut.Load() {
		// The promise that is claimed has the request's own number, and a token that is not the writer's: a higher number
		// would make the writer take a still higher one.
		var body [block.EpochSize]byte
		if len(parts) > 0 && len(parts[0]) >= epochAt+block.EpochSize {
			e := block.GetEpoch(parts[0][epochAt:])
			e.Token ^= 1
			e.Put(body[:])
		}
		go done(replica.StatusFenced, body[:], nil)
		return
	}
	c.Transport.Send(s, typ, done, parts...)
}
