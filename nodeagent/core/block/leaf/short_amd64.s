//go:build !purego

#include "textflag.h"

// The initial state.
DATA shortIV<>+0(SB)/4, $0x6a09e667
DATA shortIV<>+4(SB)/4, $0xbb67ae85
DATA shortIV<>+8(SB)/4, $0x3c6ef372
DATA shortIV<>+12(SB)/4, $0xa54ff53a
DATA shortIV<>+16(SB)/4, $0x510e527f
DATA shortIV<>+20(SB)/4, $0x9b05688c
DATA shortIV<>+24(SB)/4, $0x1f83d9ab
DATA shortIV<>+28(SB)/4, $0x5be0cd19
GLOBL shortIV<>(SB), RODATA|NOPTR, $32

// Which words of a message the four halves of a first round take; and where they are, for the next round, among those of a round.
DATA shortMsg<>+0(SB)/4, $0
DATA shortMsg<>+4(SB)/4, $2
DATA shortMsg<>+8(SB)/4, $4
DATA shortMsg<>+12(SB)/4, $6
DATA shortMsg<>+16(SB)/4, $1
DATA shortMsg<>+20(SB)/4, $3
DATA shortMsg<>+24(SB)/4, $5
DATA shortMsg<>+28(SB)/4, $7
DATA shortMsg<>+32(SB)/4, $8
DATA shortMsg<>+36(SB)/4, $10
DATA shortMsg<>+40(SB)/4, $12
DATA shortMsg<>+44(SB)/4, $14
DATA shortMsg<>+48(SB)/4, $9
DATA shortMsg<>+52(SB)/4, $11
DATA shortMsg<>+56(SB)/4, $13
DATA shortMsg<>+60(SB)/4, $15
DATA shortMsg<>+64(SB)/4, $1
DATA shortMsg<>+68(SB)/4, $5
DATA shortMsg<>+72(SB)/4, $7
DATA shortMsg<>+76(SB)/4, $2
DATA shortMsg<>+80(SB)/4, $3
DATA shortMsg<>+84(SB)/4, $9
DATA shortMsg<>+88(SB)/4, $0
DATA shortMsg<>+92(SB)/4, $14
DATA shortMsg<>+96(SB)/4, $4
DATA shortMsg<>+100(SB)/4, $10
DATA shortMsg<>+104(SB)/4, $12
DATA shortMsg<>+108(SB)/4, $15
DATA shortMsg<>+112(SB)/4, $13
DATA shortMsg<>+116(SB)/4, $6
DATA shortMsg<>+120(SB)/4, $11
DATA shortMsg<>+124(SB)/4, $8
GLOBL shortMsg<>(SB), RODATA|NOPTR, $128

// HALF mixes the columns, or the diagonals, of the state X0 to X3 with two times four words of the message.
#define HALF(x, y) \
	VPADDD x, X0, X0  \
	VPADDD X1, X0, X0 \
	VPXOR  X0, X3, X3 \
	VPRORD $16, X3, X3 \
	VPADDD X3, X2, X2 \
	VPXOR  X2, X1, X1 \
	VPRORD $12, X1, X1 \
	VPADDD y, X0, X0  \
	VPADDD X1, X0, X0 \
	VPXOR  X0, X3, X3 \
	VPRORD $8, X3, X3 \
	VPADDD X3, X2, X2 \
	VPXOR  X2, X1, X1 \
	VPRORD $7, X1, X1

// ROUND takes the words in Z4.
#define ROUND \
	VEXTRACTI32X4 $1, Z4, X5 \
	VEXTRACTI32X4 $2, Z4, X6 \
	VEXTRACTI32X4 $3, Z4, X7 \
	HALF(X4, X5)             \
	VPSHUFD $0x39, X1, X1    \
	VPSHUFD $0x4e, X2, X2    \
	VPSHUFD $0x93, X3, X3    \
	HALF(X6, X7)             \
	VPSHUFD $0x93, X1, X1    \
	VPSHUFD $0x4e, X2, X2    \
	VPSHUFD $0x39, X3, X3

#define NEXT VPERMD Z4, Z13, Z4

// func chunk(p *byte, n int, tail *[64]byte, sum *[32]byte)
TEXT ·chunk(SB), NOSPLIT, $0-32
	MOVQ      p+0(FP), SI
	MOVQ      n+8(FP), CX
	MOVQ      tail+16(FP), DX
	MOVQ      sum+24(FP), DI
	VMOVDQU   shortIV<>+0(SB), X0
	VMOVDQU   shortIV<>+16(SB), X1
	VMOVDQA   X0, X14
	VMOVDQU32 shortMsg<>+0(SB), Z12
	VMOVDQU32 shortMsg<>+64(SB), Z13
	MOVL      $1, R9 // the first block of a chunk

block:
	MOVL $64, R8
	CMPQ CX, $64
	JGT  more
	MOVQ CX, R8
	MOVQ DX, SI
	ORL  $10, R9 // the last one, and the root

more:
	SHLQ      $32, R9
	ORQ       R8, R9
	VMOVQ     R9, X3
	VPSLLDQ   $8, X3, X3
	VMOVDQA   X14, X2
	VMOVDQU32 (SI), Z4
	VPERMD    Z4, Z12, Z4
	ROUND
	NEXT
	ROUND
	NEXT
	ROUND
	NEXT
	ROUND
	NEXT
	ROUND
	NEXT
	ROUND
	NEXT
	ROUND
	VPXOR     X2, X0, X0
	VPXOR     X3, X1, X1
	ADDQ      $64, SI
	XORL      R9, R9
	SUBQ      $64, CX
	JGT       block
	VMOVDQU   X0, (DI)
	VMOVDQU   X1, 16(DI)
	VZEROUPPER
	RET
