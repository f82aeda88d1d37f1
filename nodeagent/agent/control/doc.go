// Package control serves the control protocol of an agent (api/agent/v1) over gRPC: each call is checked, handed to the
// part that does it, and its error turned into a code in one place.
//
// It listens on a unix socket in a directory that only this user may enter, where the kernel tells who connects; in a cluster on TCP
// too, over TLS that lets in who has a control certificate of the network and no node (peer/identity).
//
// Invariants: a key in a request goes to the volume manager and nowhere else; every error has a code of the protocol's
// table. Concurrency: Server is safe for concurrent use.
package control
