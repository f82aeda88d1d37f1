// Package figures is what the operator exports beside controller-runtime's own metrics: networks, their nodes, volumes and layouts as the
// API has them, and how often each event was told, failovers and fences among them.
//
// A scrape reads the operator's cache and asks the API for nothing. Only the leader exports what the API has, so that nothing is counted
// twice; each operator counts its own events.
//
// # Invariants
//
//  1. What is exported is in Families, passes promlint, and stands in docs/metrics.md. (TestLint, TestComplete; hack/metrics)
//  2. An operator that does not lead exports no network. (TestFollower)
//
// Concurrency: all is safe for concurrent use.
package figures
