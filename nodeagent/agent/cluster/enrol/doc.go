// Package enrol gets the certificate of a node's agent from the network's operator, and keeps it fresh.
//
// The agent makes a key, which never leaves its directory, and asks by a CertificateSigningRequest of signer
// storage.mynetwork.io/node for mynetwork://<network>/node/<node>. The operator signs if the API server says that the
// request comes from the agent's pod on that very node. Once a third of the certificate's life has passed, another one is asked
// for, with a new key: the operator may be away for the other two thirds.
//
// # Files
//
// tls.key and tls.crt in one directory, of mode 0600. A new pair is written as tls.crt.next, then tls.key, then tls.crt, each whole
// and durable, so that at any moment tls.key fits tls.crt or tls.crt.next.
//
// # Invariants
//
//  1. A pair that peers would accept is used at once, without the API. (TestCached)
//  2. Killed between any two writes, the agent finds a pair that fits. (TestCrash)
//  3. A certificate that is renewed breaks no connection, and one that can not be renewed stays in use. (TestRenew)
//  4. When the file of authorities changes, the new ones are trusted without a restart. (TestAuthorities)
//
// Concurrency: Run is a Runnable; the Credentials that First gives are safe for concurrent use.
package enrol
