// Package peer carries requests between nodes: its own framing over mutual TLS 1.3.
// What the requests mean is not its business: a package above defines the types below TypeReserved and the bodies.
//
// # Frame
//
// All integers are little endian. Frames follow one another in each direction of a connection; a frame may span TLS records and a record may
// hold many frames. TLS protects every byte, so there is no checksum.
//
//	 0        2     3      4        6        8                16        20        24        28
//	+--------+-----+------+--------+--------+----------------+---------+---------+---------+----------------
//	| "my"   |type |flags | status | zero   | request id     | body    | meta    | expect  | meta, payload
//	+--------+-----+------+--------+--------+----------------+---------+---------+---------+----------------
//	  2       1     1      2        2        8                4         4         4         body bytes
//
// flags: bit 0 is set in a response; the others are zero. status: of a response; zero in a request. request id: chosen by the asking side,
// repeated in the response. body: bytes after the header, at most what the receiver's hello says. meta: how many of them are the first
// part. expect: about how many bytes the asking side expects in the reply, for the answering side's accounts.
//
// Types from 0xF0 are peer's own: 0xF0 hello, 0xF1 ping (empty body and reply), 0xF2 grant (body: an encoded grant; the reply's body is the reason of a
// refusal). An unknown one is answered with StatusUnknownType.
//
// # Hello
//
// The first frame of each side, sent without waiting for the other's. The version in use is the highest that both speak, each build
// speaking N and N-1; capabilities in use are those of both. What follows the known fields is ignored.
//
//	 0        2        4         8                16       18
//	+--------+--------+---------+----------------+--------+-----------
//	| newest | oldest | maxbody | capabilities   | length | software
//	+--------+--------+---------+----------------+--------+-----------
//	  2        2        4         8                2        length, at most 64
//
// Who the other side is, package identity says; what it may do, package grant.
//
// # Invariants
//
// Requests of one connection are handled in the order in which they were queued. A request gets one reply, or its callback one error; a sink that got replies
// settles before the reader waits (TestSink). What a handler leaves for the request that follows reaches that one or none (TestNext). No
// length is trusted before it is checked against a limit. What a peer sends, or does not read, holds no more memory than its limits; a peer
// that is silent, dribbles or takes nothing is cut off after Misses × PingInterval. Every goroutine ends with Close or Shutdown.
//
// # Concurrency
//
// Each connection has a reader and a writer goroutine and a timer; they share the lock of the link. Handlers and callbacks run on the reader. Senders write
// themselves when nothing else is under way; otherwise frames gather, up to MaxQueue, for the writer. A steady flow allocates nothing here;
// crypto/tls allocates 24 bytes per record that it reads.
package peer
