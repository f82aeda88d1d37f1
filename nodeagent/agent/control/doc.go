// Package control serves the control protocol of an agent (api/agent/v1) over gRPC: each call is checked, handed to the
// part that does it, and its error turned into a code in one place.
//
// Today it listens on a unix socket in a directory that only this user may enter; the kernel tells who connects.
//
// Invariants: a key in a request goes to the volume manager and nowhere else; every error has a code of the protocol's
// table. Concurrency: Server is safe for concurrent use.
package control
