// Package holder is the small process that keeps, for each exported volume, the kernel's descriptors and the shared
// memory of the write ring, so that the process that serves the volumes can be killed and started again under live I/O.
//
// # Entries and owners
//
// An entry has a name, bytes that only its owner understands, device descriptors (as long as one copy is open the kernel
// keeps the device, and its I/O waits) and memory descriptors. The connection that put or got an entry owns it until the
// connection ends; the kernel closes a killed process's connection only after all its threads have left their system
// calls, so a new owner never meets the old one's hand on a descriptor. That is why an owned entry is given to nobody else.
//
// # Watchdog
//
// An entry without an owner for Options.Patience is ended: its FUSE connection is aborted and its device descriptors are
// closed, so that all I/O fails with EIO instead of hanging. The entry stays, marked as ended, with its memory, until it is dropped.
//
// # Wire
//
// A unix stream socket in a directory of mode 0700; both ends check the other's uid. Little endian. All frames are
//
//	0 length u32 (of what follows the type) · 4 type u8 · 5 reserved 3 · 8 body, at most MaxFrame bytes
//
// Descriptors travel as SCM_RIGHTS with a frame's first byte. The client speaks first; each request has one answer.
//
//	hello   1   0 lowest version u16 · 2 highest u16               → 129: 0 version u16
//	put     2   entry                                               → 128
//	get     3   name                                                → 131: entry
//	list    4   empty                                               → 132: 0 count u32, then per entry: 0 state u8 · 1 name
//	drop    5   name                                                → 128
//	update  6   name, then meta                                     → 128
//	error                                                           → 255: 0 code u16 · 2 text
//
//	name    0 length u8 · 1 bytes
//	meta    0 length u32 · 4 bytes
//	entry   name, then meta, then 0 FUSE connection u32 (0: none) · 4 device descriptors u8 · 5 memory descriptors u8 · 6 state u8
//	state   0 unowned · 1 owned · 2 ended
//
// # Invariants
//
//  1. The holder opens, stats or syncs nothing on a volume's mount or device: it cannot be made to hang.
//  2. Nothing is allocated for a length before the length is checked; a bad frame ends its connection alone.
//  3. An entry is whole or absent: descriptors that come with a refused request are closed.
//  4. At most one connection owns an entry.
//  5. Versions lowest..highest cover the current protocol and the one before it.
//
// # Concurrency
//
// A Server serves each connection in a goroutine; entries lie behind one lock, which is never held over I/O on a socket.
// A Client is safe for concurrent use; its calls go one at a time.
package holder
