// Package meter counts on hot paths: atomics that somebody reads now and then, without an allocation or a lock per event.
//
// Histogram counts durations in the fixed buckets of Bounds. Operations is one of them with bytes, errors and what is under way: what is
// known of one kind of request. Invariant: a Reading's count is the sum of its buckets, so that what is exported is never torn.
//
// Concurrency: everything is safe for concurrent use. The zero values are usable, and must not be copied after their first use.
package meter
