// Package adaptive decides how many copies a volume is to have, between bounds that people set, from how much it is read.
//
// A volume whose copies have to give more than Rise reads a second each, for RiseAfter, gets one copy more. One whose copies would give less
// than Fall each if there were one fewer, for FallAfter, loses one. Fall is measured with the copy gone, and is well below Rise: so what was
// gained is not lost by having been gained, whatever the number of copies.
//
// Time above Rise adds up, and time that is not takes away as much: a spike is forgotten, and a rate that swings around a threshold changes
// nothing unless it is above it most of the time. Each change begins the count anew.
//
// # Invariants
//
//  1. One copy at a time, and Rest between two changes.
//  2. Never below what is safe or the least that was asked for, never above the most, nor beyond what the network has room for.
//  3. Nothing changes while copies are missing or moving, or space is low; only what is below the least is brought there.
//  4. In any time T there are at most 2 T / (RiseAfter + FallAfter) changes beyond those from one bound to the other.
//  5. Without bounds that differ nothing is ever changed.
//
// TestPatterns plays loads against all of them; TestNotices lies about one thing at a time, and takes the hysteresis out: each has to show.
//
// All functions are pure: time comes in with what was seen. They are safe for concurrent use; a State belongs to one volume.
package adaptive
