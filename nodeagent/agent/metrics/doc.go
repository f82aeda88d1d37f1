// Package metrics is what an agent exports: its volumes, stores and peers, and what looks after them.
//
// Nothing runs between scrapes. A scrape asks the parts for what they know, and reads the atomics that hot paths count in. Volumes appear on
// the node that has them open, and vanish when they are closed; counters begin anew with each opening, which rate() knows how to read.
//
// Care holds figures that others set as they go: what scrubs and moves data.
//
// # Invariants
//
//  1. What is exported is in Families, passes promlint, and stands in docs/metrics.md. (TestLint, TestComplete; hack/metrics)
//  2. No label has values without bound: volumes, stores and peers are of this node, all others are fixed words. (TestBounded)
//
// Concurrency: see metrics.Collector of the module's package metrics.
package metrics
