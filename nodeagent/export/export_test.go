package export

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
)

func TestErrno(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want syscall.Errno
	}{
		"none":    {nil, 0},
		"wrapped": {fmt.Errorf("write: %w", syscall.ENOSPC), syscall.ENOSPC},
		"other":   {errors.New("quorum lost"), syscall.EIO},
		"zero":    {syscall.Errno(0), syscall.EIO},
	} {
		if got := Errno(c.err); got != c.want {
			t.Errorf("%s: Errno = %v, want %v", name, got, c.want)
		}
	}
}

func TestCheckRange(t *testing.T) {
	const size = 8 * BlockSize
	for name, c := range map[string]struct {
		off, n int64
		want   error
	}{
		"whole":        {0, size, nil},
		"last block":   {size - BlockSize, BlockSize, nil},
		"past the end": {size - BlockSize, 2 * BlockSize, syscall.ENOSPC},
		"overflow":     {1<<63 - BlockSize, BlockSize, syscall.ENOSPC},
		"negative":     {-BlockSize, BlockSize, syscall.EINVAL},
		"empty":        {0, 0, syscall.EINVAL},
		"unaligned":    {512, BlockSize, syscall.EINVAL},
	} {
		if got := CheckRange(c.off, c.n, size); !errors.Is(got, c.want) || (got == nil) != (c.want == nil) {
			t.Errorf("%s: CheckRange = %v, want %v", name, got, c.want)
		}
	}
	for _, n := range []int64{0, -4096, 4097} {
		if !errors.Is(CheckSize(n), ErrSize) {
			t.Errorf("CheckSize(%d) accepts", n)
		}
	}
}
