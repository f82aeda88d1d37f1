// Package mounter does what takes privilege for devices: it mounts FUSE, binds and ends loop devices, and aborts connections.
//
// There are two of them, which pass the same tests. Local does it in this process. A Server does it for processes of another
// user, which reach it over a unix socket by a Client and get the mount's /dev/fuse by SCM_RIGHTS; so the process that serves
// volumes needs no capability. The server keeps no descriptor and needs no state that the kernel does not have: it may be killed and
// started anew at any time, and no device notices.
//
// # Layout
//
//	DIR/NAME             the mount of a volume's device
//	DIR/NAME/volume      its one file, to which a loop device is bound
//	DIR/.frozen/NAME     empty: the file system on the device stands still
//	DIR/.loops/NAME      JSON: which loop device that is, and the kernel's number of the binding
//
// The record is needed where a mount namespace has ended (a container that was started anew): the loop device's file then lies
// in a mount of no namespace, and the kernel shows its path within that mount alone. The number is never used twice, so a
// record can be out of date, but never name the device of somebody else. Where there is no record, all loop devices of the machine are
// looked at, unless this process made the mount and bound nothing to it, or ended what was bound: an attach or a detach does not
// depend on how many devices there are.
//
// # Wire
//
// Frames of package socket, little endian. The client speaks first; each request has one answer, and a connection serves one
// request after the hello.
//
//	hello    1   0 lowest version u16 · 2 highest u16     → 129: 0 version u16
//	mount    2   name                                     → 130: 0 connection u32, and one descriptor
//	bind     3   name                                     → 131: path of the loop device
//	resize   4   name                                     → 132: 0 bytes u64
//	unbind   5   name                                     → 128
//	unmount  6   name                                     → 128
//	abort    7   name                                     → 128
//	discard  8   name                                     → 128
//	list     9   empty                                    → 133: per device: 0 connection u32 · 4 name · loop path
//	freeze   10  name                                     → 134: 0 whether a file system stands still u8
//	thaw     11  name                                     → 134: 0 whether it stood still until now u8
//	error                                                 → 255: 0 code u16 · 2 text
//
//	name     0 patience u32 (milliseconds; how long the call may wait) · 4 length u8 · 5 bytes
//	others   0 length u8 · 1 bytes
//
// # Invariants
//
//  1. Nothing outside DIR is mounted, unmounted or removed. A name is one element of a path and does not begin with a dot.
//  2. What is in use is not ended: Unbind and Unmount fail with export.ErrBusy. Discard is for devices that nobody serves.
//  3. A call that waits for whoever serves the device ends with its context: its connection is then aborted, as it is of no use.
//  4. Only the users that the server was told reach it, and its socket cannot be replaced by them.
//  5. A foreign copy of a mount (a container that was started with it) does not keep a device alive: Unmount ends the connection.
//  6. A file system that was frozen goes on: at the latest after FreezeLimit, and when the next server starts.
//
// # Concurrency
//
// All are safe for concurrent use; calls for one name go one after the other.
package mounter
