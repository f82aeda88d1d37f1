// Package host prepares a node for the networks that it belongs to: it makes their directories, says what the node lacks, and has
// a mounter served for each, so that agents need no privilege.
//
// The directories are those of api/v1alpha1 (places.go). An agent's pod mounts them and waits until they are there.
//
// # Invariants
//
//  1. No symbolic link is followed, and nothing is made outside the two directories that a network names: a path is opened
//     step by step from a directory that only root can write.
//  2. What is there is not emptied or moved. Owner, mode and label are set on directories that this package names itself; those
//     above the network's own keep theirs.
//  3. A network that was prepared once is served again without the API, by the name that was noted.
//  4. A problem is told once, and again when it changes; it does not keep what works from being prepared.
//  5. A network that is deleted keeps its data. Its mounter ends, and its sockets go, once it has no device and neither agent nor holder answer.
//
// # Concurrency
//
// A Host runs in one goroutine; each mounter has its own.
package host
