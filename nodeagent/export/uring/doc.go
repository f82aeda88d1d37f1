// Package uring is a ring of io_uring(7): a queue of commands to the kernel and one of their results, in memory that both
// sides see. It knows nothing of what the commands mean.
//
// # Wire
//
// The kernel's own layout (include/uapi/linux/io_uring.h), in the machine's byte order, which must be little endian. All
// heads and tails are u32 counters that wrap; the index of an entry is counter & mask.
//
//	submission (SQE128)   0 opcode u8 · 1 flags u8 · 2 priority u16 · 4 fd i32 · 8 offset u64, or a command's code u32 ·
//	                      16 address u64 · 24 length u32 · 28 flags of the operation u32 · 32 user data u64 ·
//	                      40 buffer index u16 · 42 personality u16 · 44 splice fd i32 · 48 the command's own 80 bytes
//	completion            0 user data u64 · 8 result i32 (negative errno) · 12 flags u32
//	parameters            0 submission entries u32 · 4 completion entries u32 · 8 flags u32 · 12 SQ thread's CPU u32 ·
//	                      16 SQ thread's idle time u32 · 20 features u32 · 24 work queue fd u32 · 28 reserved 12 ·
//	                      40 submission offsets 40 · 80 completion offsets 40
//
// # Invariants
//
//  1. A submission's bytes are written before the tail that shows them; a completion is copied before the head passes it.
//  2. Beyond a call's end the kernel has no pointer into the Go heap: rings are mapped, and what a submission points to is the
//     caller's own mapping.
//
// # Concurrency
//
// A ring belongs to one thread: the kernel refuses the calls of any other (IORING_SETUP_SINGLE_ISSUER), and runs what it
// has to do for the ring only inside that thread's Enter (IORING_SETUP_DEFER_TASKRUN). Close may come from elsewhere once
// that thread has ended.
package uring
