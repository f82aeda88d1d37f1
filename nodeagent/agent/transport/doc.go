// Package transport carries the requests of writers to stores: to one of this process by a call, to another node's over
// the peer pool.
//
// A remote request goes straight to the connection when there is one with room; else it waits in a lane (one per
// node and class) until the connection is made. Small requests and appends use one connection, large reads another, so
// that a rebuild does not delay a write. A store of this process has a lane too, for all but reads: the caller does not
// wait for its disk.
//
// Invariants:
//
//  1. Requests of one caller to one store and class arrive in the order of their Sends: a caller whose earlier request
//     waits in a lane goes through that lane.
//  2. done is called exactly once for each Send. Over a way, settle follows the last of several answers that came together, before the connection waits
//     for more (TestWay). An error wraps replica.ErrUnreachable.
//  3. Send and SendAll copy what they are given, SendAll once for all of its stores, and do not wait for a network or, but for local
//     reads, a disk.
//  4. What waits is bounded by MaxWaiting bytes per lane; beyond it a request fails.
//
// Concurrency: Transport and Cut are safe for concurrent use. After Close every request fails.
package transport
