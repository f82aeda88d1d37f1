// Package nbd serves one volume over the NBD protocol on a unix socket.
//
// # Wire
//
// The fixed newstyle of the NBD specification (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md), big
// endian. Spoken: the options EXPORT_NAME, ABORT, LIST, INFO, GO, STRUCTURED_REPLY, LIST_META_CONTEXT and
// SET_META_CONTEXT; the commands READ, WRITE, DISC, FLUSH, TRIM, WRITE_ZEROES and BLOCK_STATUS (base:allocation, if the backend is
// an export.Mapper); the flags FUA, DF, NO_HOLE and REQ_ONE. STARTTLS and EXTENDED_HEADERS are refused as unsupported.
//
//	greeting  0 "NBDMAGIC" · 8 "IHAVEOPT" · 16 flags u16;  client: 0 flags u32
//	option    0 "IHAVEOPT" · 8 option u32 · 12 length u32 · 16 data
//	answer    0 0x3e889045565a9 u64 · 8 option u32 · 12 type u32 · 16 length u32 · 20 data
//	request   0 0x25609513 u32 · 4 flags u16 · 6 command u16 · 8 cookie u64 · 16 offset u64 · 24 length u32 · 28 payload
//	simple    0 0x67446698 u32 · 4 errno u32 · 8 cookie u64 · 16 payload of a READ without structured replies
//	chunk     0 0x668e33ef u32 · 4 flags u16 · 6 type u16 · 8 cookie u64 · 16 length u32 · 20 payload
//
// # Alignment
//
// Any offset and length is served (block sizes 1, 4096 and 32 MiB are advertised). What is not whole blocks is read,
// changed and written back under a lock that keeps every other change out.
//
// # Invariants
//
//  1. No length is trusted before it is checked; a bad peer loses its own connection, nothing else.
//  2. A request that may block leaves the connection's reader, so it holds back no other, until the connection's budget of
//     maxInFlight requests and maxBytes is used up: then the connection waits, and only it.
//  3. A write with FUA is answered after a Flush that began after it was accepted.
//  4. Backend.Answered follows the write of the answer to the socket. Requests are never sent again over NBD: a client
//     whose server dies loses its connection.
//  5. A flush on any connection covers what was answered on all (multi-conn).
//
// # Concurrency
//
// Each connection has a reader goroutine, which answers what needs no waiting in batches, and workers for the rest.
package nbd
