// Package fleet plays the nodes of a MyNetwork for a real API server on which nothing of a node runs: Kubernetes' nodes, the pods that
// its controllers would make of the operator's DaemonSets, guards that become ready, and agents.
//
// An agent does what a real one does as far as the operator can see: it asks for a certificate (Enrol), reports by server-side apply
// with its own rights, its facts at once and its figures rarely, formats a store when it is granted, says when it holds its share
// of a layout, reports peers that it can not reach, and serves its control port with mutual TLS: bodies of layouts, fences. It
// keeps no data.
//
// A node is at the address that its EndpointSlice says. Dial reaches it inside of the process, for controllers.Options.Dial; Serve
// takes connections from a listener that all addresses lead to, for an operator that is another process.
//
// # Invariants
//
//  1. Agents write with their own rights alone, nodes and pods are written with the administrator's.
//  2. At rest nothing is written.
//
// A Fleet may be used from any goroutine.
package fleet
