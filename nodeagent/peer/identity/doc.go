// Package identity says who a node is: certificates, the authority that issues them, and what a node holds the
// certificate of another one against.
//
// A node's certificate has an Ed25519 key, is signed by its network's authority, and has exactly one URI name:
//
//	mynetwork://<network uid>/node/<node name>
//
// Both names are DNS-1123 subdomains, of at most 63 and 253 bytes. Each side of a connection checks the other's key type, name, signature,
// validity, network and the block list; the dialing side also that it is the node it wanted. A refusal is a CertificateError: whose certificate, and which
// rule. TLS 1.3 only, an ALPN value of its own, no session tickets: each connection proves itself in full. There is no other mode.
//
// Invariants: a key that exists is never made again; key files are readable by their owner only; credentials that other nodes would refuse are not taken into use.
//
// Concurrency: Credentials may be used and replaced from any goroutine; a CA is immutable.
package identity
