//go:build !purego

#include "textflag.h"

// Two pages at once: BLAKE3's four chunks of a page lie in the four 32-bit lanes of a 128-bit half, page a in the low half
// and page b in the high one. Y0 to Y7 are the chaining values h0 to h7, in the rounds v0 to v7; Y8 to Y15 are v8 to v15,
// and scratch between; Y16 to Y31 are the message words m0 to m15.

DATA iv<>+0(SB)/4, $0x6a09e667
DATA iv<>+4(SB)/4, $0xbb67ae85
DATA iv<>+8(SB)/4, $0x3c6ef372
DATA iv<>+12(SB)/4, $0xa54ff53a
DATA iv<>+16(SB)/4, $0x510e527f
DATA iv<>+20(SB)/4, $0x9b05688c
DATA iv<>+24(SB)/4, $0x1f83d9ab
DATA iv<>+28(SB)/4, $0x5be0cd19
GLOBL iv<>(SB), RODATA|NOPTR, $32

// Number of the chunk in each lane.
DATA chunks<>+0(SB)/8, $0x0000000100000000
DATA chunks<>+8(SB)/8, $0x0000000300000002
DATA chunks<>+16(SB)/8, $0x0000000100000000
DATA chunks<>+24(SB)/8, $0x0000000300000002
GLOBL chunks<>(SB), RODATA|NOPTR, $32

// IV loads h0 to h7 with the initial value.
#define INIT \
	VPBROADCASTD iv<>+0(SB), Y0  \
	VPBROADCASTD iv<>+4(SB), Y1  \
	VPBROADCASTD iv<>+8(SB), Y2  \
	VPBROADCASTD iv<>+12(SB), Y3 \
	VPBROADCASTD iv<>+16(SB), Y4 \
	VPBROADCASTD iv<>+20(SB), Y5 \
	VPBROADCASTD iv<>+24(SB), Y6 \
	VPBROADCASTD iv<>+28(SB), Y7

// LOAD brings four words of all eight chunks into four message registers.
#define LOAD(at, m0, m1, m2, m3) \
	VMOVDQU     at(AX), X8             \
	VMOVDQU     at+1024(AX), X9        \
	VMOVDQU     at+2048(AX), X10       \
	VMOVDQU     at+3072(AX), X11       \
	VINSERTI128 $1, at(BX), Y8, Y8     \
	VINSERTI128 $1, at+1024(BX), Y9, Y9    \
	VINSERTI128 $1, at+2048(BX), Y10, Y10  \
	VINSERTI128 $1, at+3072(BX), Y11, Y11  \
	VPUNPCKLDQ  Y9, Y8, Y12            \
	VPUNPCKHDQ  Y9, Y8, Y13            \
	VPUNPCKLDQ  Y11, Y10, Y14          \
	VPUNPCKHDQ  Y11, Y10, Y15          \
	VPUNPCKLQDQ Y14, Y12, m0           \
	VPUNPCKHQDQ Y14, Y12, m1           \
	VPUNPCKLQDQ Y15, Y13, m2           \
	VPUNPCKHQDQ Y15, Y13, m3

#define G(a, b, c, d, x, y) \
	VPADDD x, a, a   \
	VPADDD b, a, a   \
	VPXORD a, d, d   \
	VPRORD $16, d, d \
	VPADDD d, c, c   \
	VPXORD c, b, b   \
	VPRORD $12, b, b \
	VPADDD y, a, a   \
	VPADDD b, a, a   \
	VPXORD a, d, d   \
	VPRORD $8, d, d  \
	VPADDD d, c, c   \
	VPXORD c, b, b   \
	VPRORD $7, b, b

#define ROUND(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, ma, mb, mc, md, me, mf) \
	G(Y0, Y4, Y8, Y12, m0, m1)  \
	G(Y1, Y5, Y9, Y13, m2, m3)  \
	G(Y2, Y6, Y10, Y14, m4, m5) \
	G(Y3, Y7, Y11, Y15, m6, m7) \
	G(Y0, Y5, Y10, Y15, m8, m9) \
	G(Y1, Y6, Y11, Y12, ma, mb) \
	G(Y2, Y7, Y8, Y13, mc, md)  \
	G(Y3, Y4, Y9, Y14, me, mf)

// PAIRS makes the left values of tree nodes of h0 to h7, and the right ones of the lanes that shuffle names.
#define PAIRS(shuffle) \
	VMOVDQA32 Y0, Y16          \
	VMOVDQA32 Y1, Y17          \
	VMOVDQA32 Y2, Y18          \
	VMOVDQA32 Y3, Y19          \
	VMOVDQA32 Y4, Y20          \
	VMOVDQA32 Y5, Y21          \
	VMOVDQA32 Y6, Y22          \
	VMOVDQA32 Y7, Y23          \
	VPSHUFD   shuffle, Y0, Y24 \
	VPSHUFD   shuffle, Y1, Y25 \
	VPSHUFD   shuffle, Y2, Y26 \
	VPSHUFD   shuffle, Y3, Y27 \
	VPSHUFD   shuffle, Y4, Y28 \
	VPSHUFD   shuffle, Y5, Y29 \
	VPSHUFD   shuffle, Y6, Y30 \
	VPSHUFD   shuffle, Y7, Y31

// func pair(a, b *[4096]byte, sums *[2][32]byte)
// Requires: AVX2, AVX512F, AVX512VL
TEXT ·pair(SB), NOSPLIT, $0-24
	MOVQ a+0(FP), AX
	MOVQ b+8(FP), BX
	MOVQ sums+16(FP), DI
	XORQ CX, CX          // blocks that are done, of each chunk; then tree nodes
	MOVL $1, DX          // flags: a chunk's first block
	MOVL $64, SI
	INIT

blocks:
	LOAD(0, Y16, Y17, Y18, Y19)
	LOAD(16, Y20, Y21, Y22, Y23)
	LOAD(32, Y24, Y25, Y26, Y27)
	LOAD(48, Y28, Y29, Y30, Y31)
	ADDQ    $64, AX
	ADDQ    $64, BX
	VMOVDQU chunks<>(SB), Y12

compress:
	VPBROADCASTD iv<>+0(SB), Y8
	VPBROADCASTD iv<>+4(SB), Y9
	VPBROADCASTD iv<>+8(SB), Y10
	VPBROADCASTD iv<>+12(SB), Y11
	VPXORD       Y13, Y13, Y13
	VPBROADCASTD SI, Y14
	VPBROADCASTD DX, Y15

	ROUND(Y16, Y17, Y18, Y19, Y20, Y21, Y22, Y23, Y24, Y25, Y26, Y27, Y28, Y29, Y30, Y31)
	ROUND(Y18, Y22, Y19, Y26, Y23, Y16, Y20, Y29, Y17, Y27, Y28, Y21, Y25, Y30, Y31, Y24)
	ROUND(Y19, Y20, Y26, Y28, Y29, Y18, Y23, Y30, Y22, Y21, Y25, Y16, Y27, Y31, Y24, Y17)
	ROUND(Y26, Y23, Y28, Y25, Y30, Y19, Y29, Y31, Y20, Y16, Y27, Y18, Y21, Y24, Y17, Y22)
	ROUND(Y28, Y29, Y25, Y27, Y31, Y26, Y30, Y24, Y23, Y18, Y21, Y19, Y16, Y17, Y22, Y20)
	ROUND(Y25, Y30, Y27, Y21, Y24, Y28, Y31, Y17, Y29, Y19, Y16, Y26, Y18, Y22, Y20, Y23)
	ROUND(Y27, Y31, Y21, Y16, Y17, Y25, Y24, Y22, Y30, Y26, Y18, Y28, Y19, Y20, Y23, Y29)

	VPXORD Y8, Y0, Y0
	VPXORD Y9, Y1, Y1
	VPXORD Y10, Y2, Y2
	VPXORD Y11, Y3, Y3
	VPXORD Y12, Y4, Y4
	VPXORD Y13, Y5, Y5
	VPXORD Y14, Y6, Y6
	VPXORD Y15, Y7, Y7

	INCQ CX
	XORL DX, DX
	CMPQ CX, $15
	JL   blocks
	JE   last
	CMPQ CX, $17
	JL   parents
	JE   root

	VPUNPCKLDQ   Y1, Y0, Y8
	VPUNPCKLDQ   Y3, Y2, Y9
	VPUNPCKLDQ   Y5, Y4, Y10
	VPUNPCKLDQ   Y7, Y6, Y11
	VPUNPCKLQDQ  Y9, Y8, Y8
	VPUNPCKLQDQ  Y11, Y10, Y10
	VMOVDQU      X8, (DI)
	VMOVDQU      X10, 16(DI)
	VEXTRACTI128 $1, Y8, 32(DI)
	VEXTRACTI128 $1, Y10, 48(DI)
	VZEROUPPER
	RET

last:
	MOVL $2, DX // a chunk's last block
	JMP  blocks

parents: // lanes 0 and 2 become the nodes over chunks 0 and 1, 2 and 3
	PAIRS($0x31)
	MOVL $4, DX
	JMP  node

root: // lane 0 becomes the root, over lanes 0 and 2
	PAIRS($0x02)
	MOVL $12, DX

node:
	INIT
	VPXORD Y12, Y12, Y12
	JMP    compress

// func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-24
	MOVL leaf+0(FP), AX
	MOVL sub+4(FP), CX
	CPUID
	MOVL AX, eax+8(FP)
	MOVL BX, ebx+12(FP)
	MOVL CX, ecx+16(FP)
	MOVL DX, edx+20(FP)
	RET

// func xcr0() uint32
TEXT ·xcr0(SB), NOSPLIT, $0-4
	XORL CX, CX
	XGETBV
	MOVL AX, ret+0(FP)
	RET
