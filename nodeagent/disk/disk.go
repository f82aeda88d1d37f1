// Package disk is the ground that a store stands on: a directory of files with explicit durability.
//
// Implementations: the operating system's (OS), a memory file system that can lose power (Mem), and decorators that
// inject faults and delays. All run the same conformance suite.
//
// Durability contract (what Mem's crash honours, and all that a store may rely on):
//   - bytes written and then covered by a successful File.Sync survive a crash, if the file's name does;
//   - a name created, renamed or removed survives once FS.SyncDir of its directory has succeeded;
//   - anything else may be kept, lost, or torn at 512-byte granularity, each sector on its own, after a crash;
//   - after a failed Sync, what is durable is unknown: the store must not retry, it quarantines the disk.
package disk

import "io"

// FS is one directory tree. Names are slash-separated and relative; "." is the root. Safe for concurrent use.
type FS interface {
	// Create makes a new, empty file and opens it for reading and writing. It fails with fs.ErrExist if the name is taken.
	Create(name string) (File, error)
	// Open opens an existing file for reading and writing. It fails with fs.ErrNotExist if there is none.
	Open(name string) (File, error)
	// Remove deletes a file or an empty directory.
	Remove(name string) error
	// Rename replaces newName by oldName atomically.
	Rename(oldName, newName string) error
	// MkdirAll makes a directory and its parents.
	MkdirAll(name string) error
	// List gives the base names in a directory, sorted.
	List(dir string) ([]string, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// Usage gives the capacity and the bytes in use, of the file system that holds the directory.
	Usage() (total, used int64, err error)
}

// File is an open file. Safe for concurrent use at disjoint ranges.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes the file's bytes and size durable (fdatasync).
	Sync() error
	// Truncate sets the size; growing makes zeros.
	Truncate(size int64) error
	// Allocate reserves disk space for [0, size) and sets the size to at least that, without writing. It fails with
	// syscall.ENOSPC when the disk is full.
	Allocate(size int64) error
	// PunchHole frees the space of a range, which then reads as zeros.
	PunchHole(off, n int64) error
	// Size gives the size in bytes.
	Size() (int64, error)
}
