//go:build !amd64 || purego

package leaf

const wide = false

func chunk(_ *byte, _ int, _ *[64]byte, _ *[32]byte) { panic("leaf: no kernel here") }

func pair(_, _ *[Size]byte, _ *[2][32]byte) { panic("leaf: no kernel here") }
