// Package fuse serves one volume as one file of a FUSE mount, by itself: on /dev/fuse, or over io_uring.
//
// The root directory (node 1) holds one regular file, FileName (node 2), whose size is the volume's. It is opened with
// direct I/O, so the kernel keeps none of its pages, and a loop device on it sees what the backend holds.
//
// # Wire
//
// The kernel's own layout (include/uapi/linux/fuse.h, protocol 7.31 and up), in the machine's byte order, which must be
// little endian:
//
//	request   0 length u32 · 4 opcode u32 · 8 unique u64 · 16 node u64 · 24 uid u32 · 28 gid u32 · 32 pid u32 · 36 ext 4
//	          then the operation's own part: WRITE 40 bytes, so its payload starts at 80
//	reply     0 length u32 · 4 errno i32 (negative) · 8 unique u64, then the operation's own part
//
// A reader's buffers for /dev/fuse are laid out so that the payload of a WRITE and of the reply to a READ lie at a page's start, and a
// reply is one write(2).
//
// # Wire of io_uring
//
// INIT and what has no answer or no payload worth it (FORGET, INTERRUPT) stay on /dev/fuse. If INIT's answer has FUSE_OVER_IO_URING,
// everything else travels in entries (protocol 7.42), registered for the queue of each CPU that there may ever be; a request
// is put into an entry of the CPU that its sender runs on. An entry is a header and a payload in this process's memory:
//
//	header    0 fuse_in_header, later fuse_out_header 128 · 128 the operation's own struct 128 · 256 flags u64 ·
//	          264 commit id u64 · 272 bytes of payload u32 · 276 padding 4 · 280 reserved 8       (288)
//	payload   MaxIO: what follows the operation's own struct; then the answer's body, all of it
//	command   in the submission's own bytes: 0 flags u64 · 8 commit id u64 · 16 queue u16 · 18 padding 6
//	          REGISTER (1), whose address is two iovecs, header and payload: the entry is free for a request.
//	          COMMIT_AND_FETCH (2): the answer to the request named by the commit id is there, and the entry is free
//	          again. The command completes when the entry holds a request.
//	iovec     0 address u64 · 8 length u64
//
// # Restart
//
// Over io_uring there is none: NOTIFY_RESEND passes over what was given out in entries (TestKilledServer), and what the kernel was
// about to give to a dying thread it fails with ECANCELED (TestKilledUnderLoad). On /dev/fuse, whoever holds the descriptor keeps the connection alive without a server. The next server writes NOTIFY_RESEND: the
// kernel puts all requests that were read but not answered before the pending ones, with bit 63 of their unique set. One
// thread then reads until there is nothing to read or a request without the bit comes: the list is complete.
//
// # Invariants
//
//  1. ENOSYS is never the answer to READ, WRITE, FSYNC or FALLOCATE: the kernel would take it to mean "never again", and
//     an FSYNC that is never sent again is a lost flush.
//  2. Reader threads call what does not block: Size, TryWrite, Accepted, Answered, Resent, and TryRead, in which each may wait for this machine's
//     disk; when that takes 20 ms, a worker gets the request and a new reader the thread's place (waits.go). All but one
//     may also wait in a Flush, which saves a synced write at depth 1 the way over a worker.
//  3. A request is answered exactly once, also when its backend call fails.
//  4. The process has its own mount open only while it binds the loop device, and never through package os, which makes
//     files known to epoll: that asks FUSE from inside the Go scheduler, a deadlock.
//  5. Buffers that requests are read into are resident before they are used: a reader that is killed while the kernel
//     copies into an absent page fails the request with EIO.
//  6. The descriptor is used by nobody once Done is closed.
//  7. A ring's thread calls only what does not block: it alone serves its CPUs. It hands the answers to changes over and
//     calls Answered before it waits, because a write on another CPU may wait for the room that this frees.
//
// # Concurrency
//
// Each reader and each ring is a goroutine locked to its thread; what may block moves to a worker goroutine. An entry of a
// ring is the thread's, or a worker's until that hands it back. Requests are answered in any order.
package fuse
