// Command torture hurts real agents on this machine, as root, and checks that they keep their promises.
//
//	torture kill    kill -9 of agents under fio with checksums, and under ext4 and xfs with trees of files
//	torture net     three agents in network namespaces of their own, with partitions of each kind under verified load
//	torture bad     bad input and a hostile environment: each ends with an error that says what to do, and loses nothing
//
// Each prints a table at the end and has code 0 only if every line holds. All that it makes lies below one new directory
// and is removed at the end: processes, mounts, namespaces and loop devices are those that it made itself.
//
// Traffic stays on loopback and in the namespaces. They hang on a router namespace with one link each; a policy rule
// there drops what goes from one node to another, in that direction alone, as a cable or a switch would.
package main
