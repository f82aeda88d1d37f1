// Package replication is the protocol by which one writer at a time keeps a volume's journal on R replicas: fencing by
// epochs, quorums, recovery of the tail, and rolling from one extent to the next. See DESIGN.md beside this file for
// the written protocol and its numbered invariants.
//
// Everything here is a pure state machine: no I/O, clock, goroutine or randomness. Not safe for concurrent use; the
// caller locks.
package replication
