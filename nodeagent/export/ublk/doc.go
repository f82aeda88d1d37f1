// Package ublk makes a volume a block device of the kernel's ublk driver, /dev/ublkbN, over io_uring.
//
// Of a kernel it takes what 6.16 and later have: devices that can be followed after their server's death, and that grow (Available tells).
// One device has one queue and one thread that serves it.
//
// # Wire
//
// The kernel's own layout (include/uapi/linux/ublk_cmd.h), little endian. Commands are io_uring passthrough commands whose code is
// that of an ioctl: direction << 30 | size of the struct << 16 | 'u' << 8 | number.
//
//	control command    0 device u32 · 4 queue u16 (none: 65535) · 6 length u16 · 8 address u64 · 16 argument u64 · 24 reserved 8
//	device             0 queues u16 · 2 depth u16 · 4 state u16 · 6 pad 2 · 8 greatest request u32 · 12 device u32 · 16 pid i32 ·
//	                   20 pad 4 · 24 flags u64 · 32 the server's own u64 (here: Kept.Cookie) · 40 uid u32 · 44 gid u32 · 48 reserved 16
//	parameters         0 length u32 · 4 kinds u32 · 8 attributes u32 · 12 log2 of the logical, physical, best and least block 4 ·
//	                   16 sectors of a request u32 · 20 of a chunk u32 · 24 of the device u64 · 32 boundary mask u64 ·
//	                   40 discard: alignment u32 · 44 granularity u32 · 48 sectors u32 · 52 sectors of write-zeroes u32 ·
//	                   56 segments u16 · 58 reserved 2, padded to 64
//	request (mapped)   0 operation u8, flags u24 · 4 sectors u32 · 8 first sector u64 · 16 address u64
//	command of a tag   0 queue u16 · 2 tag u16 · 4 result i32 · 8 address of the tag's buffer u64
//
// # The table
//
// A request is known by its tag, which the kernel uses again for the next one. So that the next server knows a request again, each
// tag's use is counted in shared memory that outlives the process, the table:
//
//	head    0 version u32 · 4 tags u32 · 8 connection 16 · 24 reserved 40
//	tag     0 number of its use u64 << 1 | 1 while the request is unanswered · 8 operation u32 · 12 sectors u32 · 16 first sector u64 · 24 reserved 8
//
// # Invariants
//
//  1. A change's entry is marked unanswered before the backend is asked to accept it, and marked answered before the kernel is told the
//     answer. So what is marked unanswered, the kernel sends again; and an entry never stands for a later request of its tag.
//  2. A request that is sent again is one that is marked unanswered under its tag, with the same operation, place and length. Anything else is
//     new, and gets a new number. The kernel keeps a request's tag while the device has no I/O scheduler, which Attach sees to; with one,
//     what was accepted is applied once more, to which its user has not yet been told the end of the first time.
//  3. A server that dies between marking an answer and giving it leaves a request that is applied once more, likewise.
//  4. Backend.Answered follows the answer, and before the thread waits.
//  5. Nothing that may block is done by the queue's thread.
//
// # Concurrency
//
// A Device is safe for concurrent use. The queue's thread owns ring, tags and table; workers hand jobs back under a lock and ring its bell.
package ublk
