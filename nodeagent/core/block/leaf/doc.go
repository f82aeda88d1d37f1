// Package leaf hashes pages: BLAKE3-256 of 4096 bytes, which every page that is written, replicated or read costs, and what is up to 1 KiB long, as the
// heads of journal records are.
//
// On processors with AVX-512 (F and VL, registers of 256 bits) it has a kernel of its own for two pages at once: with 32 registers and
// an instruction that rotates, it takes a third of the time of the general library, which knows AVX2 alone and hashes one message
// at a time. A second kernel takes what is short, whose blocks come one after the other, with the same instructions.
// Elsewhere the library hashes. Both give the same sums (TestSame, TestShort, and their fuzz tests).
//
// Everything here is pure and safe for concurrent use.
package leaf
