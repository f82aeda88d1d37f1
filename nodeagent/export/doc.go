// Package export says what an export is: the thing that turns an open volume into a block device.
//
// It holds only the contract. The front ends live beside it: device (FUSE and a loop device, on the servers fuse and
// loop, or the kernel's ublk, on the server ublk), nbd (a server on a unix socket), and holder (the small process that
// keeps the kernel's descriptors while the server is away). Every front end runs the suite in exporttest.
//
// # Invariants
//
//  1. A request is answered to the kernel at most once, and Backend.Answered follows the answer, never precedes it.
//  2. A request that is sent again carries the RequestID that it had the first time.
//  3. Backend.Resent is called exactly once per server process and volume, after Backend.Accepted was asked for every
//     request that a former process left unanswered, and waits for no request: a full ring can be freed after it.
//  4. A blocked Read, Write, Discard, WriteZeroes or Flush holds back no other request.
//  5. The backend sees only ranges that lie inside the volume and are multiples of BlockSize.
//
// # Concurrency
//
// A Backend is called from many threads at once. A Device is safe for concurrent use.
package export
