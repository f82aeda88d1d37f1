//go:build !amd64 || purego

package leaf

const wide = false

func pair(_, _ *[Size]byte, _ *[2][32]byte) { panic("leaf: no kernel here") }
