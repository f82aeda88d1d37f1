// Package loop makes and ends loop devices on a file.
//
// The device does direct I/O in blocks of 4096 bytes, so it caches nothing below itself; its flushes reach the file as
// fsync, its discards as fallocate (a hole), its write-zeroes as fallocate (a hole or a zero range).
//
// What a device is bound to is read from sysfs only. Opening a device whose file does not answer would block.
//
// # Invariants
//
//  1. Only devices whose file lies below the directory that the caller names are ever listed or ended.
//  2. A device that is in use is not ended: Detach fails with export.ErrBusy.
//
// # Concurrency
//
// All functions are safe for concurrent use, also against other programs that take loop devices.
package loop
