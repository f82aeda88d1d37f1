// Package warrant is what the network's control key signs: grants, which say what a node may do, and deletions, on whose word
// a volume dies. The operator of a cluster signs them, agents and replicas verify them.
//
// All integers are little endian. The last byte of a magic is the version. Signatures are Ed25519 by the network's control
// key, over a text that says what is signed, the network's uid, a zero byte, and all bytes before the signature.
//
// A grant; the text is "mynetwork grant\0":
//
//	 0        4       6        8         16         24       40
//	+--------+-------+--------+---------+----------+--------+--------+-----------
//	| "MNG"1 | verbs | length | epoch   | notAfter | volume | node   | signature
//	+--------+-------+--------+---------+----------+--------+--------+-----------
//	  4        2       2        8         8          16       length   64
//
// A deletion; the text is "mynetwork deletion\0":
//
//	 0        4        20      28    36          100
//	+--------+--------+-------+-----+-----------+
//	| "MND"1 | volume | epoch | at  | signature |
//	+--------+--------+-------+-----+-----------+
//	  4        16       8       8     64
//
// Invariants: what is not signed by a control key is not accepted; a warrant serves only in the network, and for the volume,
// that it names. A grant for the zero volume is for every volume of the network, and only for verbs of EveryVolume: nobody may
// write or take over what was not granted by name.
//
// Everything here is pure and safe for concurrent use.
package warrant
