// Package device makes a volume a block device of this machine: a FUSE mount with one file, and a loop device on it; or
// one of the kernel's ublk driver, where it is there and the mounter is in this process (see Ublk).
//
// For a volume named N there is the mount N of the mounter's directory, its file, a loop device bound to it and, with a
// holder, an entry N that keeps /dev/fuse and the caller's shared memory while the process is away. What takes privilege is
// the mounter's, which may be in another process: this package needs none.
//
// # Order
//
// Attach: mount, serve, bind the loop device, give the descriptors to the holder; only then is the device's path
// returned. A process killed before that leaves a connection that nobody holds, so it ends by itself and Cleanup removes
// the rest. Close: (the caller has unmounted the file system,) detach the loop device, unmount FUSE, forget the entry,
// stop the server. The holder does not keep the loop device's descriptor: the binding needs none, and the last close of a
// loop device writes back what is dirty, which must not wait inside the holder.
//
// A device of ublk has neither mount nor loop device, and the kernel keeps it by itself: the entry has its number and its
// table, and who finds it without a server ends it by its number (End, SweepUblk, Cleanup).
//
// # Restart
//
// Recover takes an entry from the holder: its memory, from which the caller opens the volume again, and its device,
// which Resume serves from where the former process was killed.
//
// # Invariants
//
//  1. A device whose path was returned is held, if there is a holder.
//  2. A device that is mounted or claimed is not closed (export.ErrBusy), and nothing of it is changed.
//  3. Cleanup touches only the mounter's devices, and none that another live process owns in the holder.
//
// # Concurrency
//
// A Device is safe for concurrent use. Attach, Resume and Cleanup of one name must not run at the same time.
package device
