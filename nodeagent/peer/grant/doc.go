// Package grant says what a node may do: signed permissions for one volume, and the table of those that were presented.
//
// All integers are little endian. The last byte of the magic is the version. The signature is Ed25519, by the network's control key, over
// "mynetwork grant\0", the network's uid, a zero byte, and all bytes before the signature.
//
//	 0        4       6        8         16         24       40
//	+--------+-------+--------+---------+----------+--------+--------+-----------
//	| "MNG"1 | verbs | length | epoch   | notAfter | volume | node   | signature
//	+--------+-------+--------+---------+----------+--------+--------+-----------
//	  4        2       2        8         8          16       length   64
//
// Invariants: nothing is allowed without a grant whose signature was verified; a grant serves only the node, network, volume, epoch and verbs that
// it names, and not after its end. A refusal says which grant is missing.
//
// Concurrency: an Authorizer may be used from any goroutine. A signature is checked once, at Install; Allow is a look-up and allocates nothing.
package grant
