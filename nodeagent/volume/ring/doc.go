// Package ring is the write ring of one volume: acknowledged writes in shared memory that outlives the agent.
//
// The memory (a memfd that the holder also keeps) is drawn thus, little endian:
//
//	page 0    0 magic "MNRG" · 4 version u32 = 1 · 8 volume 16 · 24 epoch 20 · 44 slots u32 · 48 data u64 (bytes)
//	          56 crc32c of bytes 0..56 · 64 low u64: the lowest write sequence that is not freed
//	          72 minted u64: extent numbers below it may have been used by this epoch's writer
//	          80 freed u64: the highest write sequence that was committed and is freed
//	          2048 second copy of bytes 0..60
//	slots     slots × 64 bytes; the slot of write sequence w is number w mod slots
//	          0 commit u64 (w when committed, else 0; written last) · 8 request id 24 · 32 page u64 · 40 offset u64 into the data
//	          48 pages u32 · 52 op u8 · 53 answered u8 · 56 reserved 8
//	data      payloads, 4096-aligned, each contiguous
//
// Invariants, for a process that may be killed between any two stores:
//
//   - A slot counts once its commit word is written, after everything else of it; until then it may hold anything.
//   - Slots are freed in order: first low passes them, then their commit word is zeroed. A committed slot below low is a
//     freed one. As low stays in the memory, no write sequence is handed out twice under one epoch, which encryption
//     relies on (a sequence is part of a nonce), and which keeps "is in the journal up to w" true over a restart.
//   - A slot is not freed before its request was answered: so a request that is sent again is either in the ring, or was
//     never accepted.
//   - One of the two copies of the head is whole at any moment.
//
// What no writer can have left is refused by Open as a whole: a committed slot is never passed over as if it were a hole.
//
// Not safe for concurrent use, but for the payload that Reserve returns: the caller fills it without a lock.
package ring
