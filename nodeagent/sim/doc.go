// Package sim runs whole clusters in one thread from one seed: the engines, replicas and stores that ship, unchanged,
// over a simulated scheduler, clock, network, disk and registry, while faults of every kind are injected.
//
// A run has three parts. First safety: clients work on volumes while nodes lose power, processes are killed, links
// break, disks fail and volumes move; every answer is checked against a model as it arrives. Then everything is healed,
// and the cluster must converge by a deadline of virtual time. Last, each volume is read through a freshly attached
// engine, snapshots through clones, and per-page histories are handed to porcupine.
//
// Invariants: one seed gives one run, event for event (Result.Hash); a check that fails ends the run with the number of
// the promise (DESIGN.md beside this file); faults that destroy data stay within what the promises allow (one victim at
// a time until it is healed).
//
// Concurrency: a run is single-threaded. Tasks are coroutines; exactly one executes, and only the scheduler resumes
// them. Runs share nothing and may proceed in parallel.
package sim
