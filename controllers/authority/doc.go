// Package authority is a network's certificate authority in a cluster: a CA in a Secret, and the signer of agents'
// CertificateSigningRequests (signer storage.mynetwork.io/node).
//
// An agent makes its key in its pod and asks for a certificate with one URI name, mynetwork://<network uid>/node/<node name>.
// What it is, is not what it says, but what the API server put into its request when it authenticated the token of its pod: the
// node's name and the pod's uid. Judge compares both, and is pure; Reconciler reads, asks Judge, and signs.
//
// # Invariants
//
//  1. A request is signed only if its user is the agents' ServiceAccount, the API server's claims name a pod that lives, belongs to
//     the network's agents and runs on the node, and the one name asked for is that node's. (TestJudge)
//  2. A request that fails a check is denied with the check in the message; one that may yet pass waits. (TestJudge)
//  3. Keys are Ed25519. Certificates live 7 days, begin an hour in the past, and are those that agents accept of each other.
//     (TestSignedCertificateIsAccepted)
//  4. The CA's key is never logged and never leaves its Secret and this process. It is made by whoever finds neither Secret nor
//     StorageNodes; see package mynetwork.
//
// Not built yet: a second CA for an overlapping roll-over, and the block list. The agents' side is nodeagent/agent/cluster/enrol.
package authority
