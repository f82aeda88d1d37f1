// Package layouts keeps the bodies of layouts on disk, and hands them from node to node: the Kubernetes API carries only a
// layout's version and hash.
//
// A body is one file in the directory, named by the hex of its hash, which is BLAKE3-256 over all of it. The newest few stay.
//
// # Request TypeLayout
//
// Little endian. Any node of the network may ask; a body is asked for in pieces of at most 512 KiB.
//
//	request: 0 hash 32 · 32 offset u32        answer (StatusOK): 0 total u32 · 4 bytes from offset
//	answer when the body is not here: StatusNotHeld
//
// Invariants: what is given out for a hash has that hash, whoever sent it and whatever became of the file; what is no layout is not
// kept. Files is safe for concurrent use.
package layouts
