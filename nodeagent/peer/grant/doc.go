// Package grant is the table of the grants that nodes have presented, and the question whether one of them allows something.
// Grants themselves, their encoding and their signature are in nodeagent/core/warrant.
//
// Invariants: nothing is allowed without a grant whose signature was verified; a grant serves only the node, network, volume, epoch and verbs that
// it names, and not after its end. One for the zero volume serves for every volume, and never for writing or attaching. A refusal says which grant
// is missing.
//
// Concurrency: an Authorizer may be used from any goroutine. A signature is checked once, at Install; Allow is a look-up and allocates nothing.
package grant
