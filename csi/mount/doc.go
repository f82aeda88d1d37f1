// Package mount puts file systems on devices and shows them, or the devices themselves, at the paths that a kubelet names.
//
// It uses the kernel's file descriptor interfaces (openat2, fsopen, open_tree, move_mount; Linux 5.12 and later), so that
// a path is resolved once and no symbolic link below the root is ever followed. Of programs it runs blkid, mkfs.ext4,
// mkfs.xfs, e2fsck, resize2fs and xfs_growfs, which end with this process.
//
// # The mark of an unfinished format
//
// Before mkfs runs, the 4 KiB page at (size of the device - 1 MiB, rounded down to 4 KiB) gets
//
//	offset  bytes  content
//	     0     32  "mynetwork.io unfinished format 1"
//	    32      8  size of the device, little endian
//	    40     16  kind of file system, padded with zeros
//	    56   4008  zeros
//	  4064     32  SHA-256 of the 4064 bytes before
//
// and is synced. After mkfs has ended well and blkid finds the file system, the mark is taken away, if it is still there,
// and that is synced; only then is the device ever mounted. So a device with a mark was never mounted since it was found
// empty, and is formatted again. A mark that mkfs has written over is not missed: what it left is then refused.
//
// # Invariants
//
//  1. Nothing outside the root is mounted on, unmounted, made or removed, and no symbolic link below it is followed.
//  2. A device is formatted only if blkid finds nothing on it and its ends are zeros, or if it carries the mark.
//  3. Whatever goes wrong while looking means that the device is not empty.
//  4. What is removed is one empty directory or one empty file that is no mount point. Nothing is removed recursively.
//
// # Concurrency
//
// A Mounter is safe for concurrent use; calls for one path or one device must follow one another.
package mount
