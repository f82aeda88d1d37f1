// Package gate stands between a device and its volume: it slows requests down to what the volume may do in a second, and it holds
// writes back, so that several volumes can be seen at one moment.
//
// # Hold
//
// While a gate is held, no write, discard or zeroing goes through, so none is answered. Hold returns when those that were on their
// way are through: whoever submits a write after another one was answered submits it after that one is in its volume. So of
// volumes that are held at one time no one shows a write that depends on one that another volume does not show. Reads and
// flushes go on. A hold ends by Release or by itself after its time; then it is broken for good, and Check and Release say so.
//
// # Limits
//
// Two buckets, of requests and of bytes, each as the time up to which it is used up (the generic cell rate algorithm, ITU-T I.371): a
// request goes through if that lies at most burst ahead, and moves it on by its own cost. So a large request is not starved by
// small ones, and an idle device saves up no more than a burst.
//
// # Invariants
//
//  1. After Hold has returned, and until its end, nothing changes the volume through the gate.
//  2. Try never blocks: what would wait is left to the blocking call.
//  3. Without a hold and without limits a request costs a few atomic operations and no memory.
//
// # Concurrency
//
// Gate is safe for concurrent use.
package gate
