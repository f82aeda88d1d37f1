package disk

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Direct is a File that can do without the page cache.
type Direct interface {
	// Direct makes writes go past the page cache from now on, if the file system allows it where offset, length and
	// memory are multiples of align bytes, as the caller then guarantees for reads too. Otherwise it changes nothing
	// and returns errors.ErrUnsupported.
	Direct(align int) error
}

var _ Direct = (*osFile)(nil)

// Direct implements Direct with O_DIRECT. Only what statx(2) promises counts: on an alignment that does not suit it, some
// file systems fail at the first write, others quietly use the page cache.
func (f *osFile) Direct(align int) error {
	return f.call("direct", func(fd int) error {
		var st unix.Statx_t
		if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st); err != nil {
			return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		}
		mem, off := int(st.Dio_mem_align), int(st.Dio_offset_align)
		if st.Mask&unix.STATX_DIOALIGN == 0 || mem == 0 || off == 0 || align%mem != 0 || align%off != 0 {
			return fmt.Errorf("%w: needs memory at %d, offsets at %d", errors.ErrUnsupported, mem, off)
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err == nil {
			_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags|unix.O_DIRECT)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		}
		return nil
	})
}
