// Package agents leads the operator to the agents of a network, by their control port (gRPC over mutual TLS), and keeps the bodies
// of layouts on them.
//
// Where agents are, EndpointSlices of the network's Service say. Who they are, their certificates say: the operator, who has the
// authority's key, checks that the server is the node it meant, and makes itself a certificate mynetwork://<uid>/control/operator
// in memory for each call. Calls are rare (a layout, a fence), so there are no connections to keep.
//
// # Invariants
//
//  1. Nothing is said to an agent whose certificate does not name the network and the node. (TestOnlyTheNodeItself)
//  2. Store returns success only when a majority of the members that are not down has the body. (TestStore)
//  3. Fetch gives nothing but what has the hash. (TestFetch)
//
// An Agents may be used from any goroutine.
package agents
