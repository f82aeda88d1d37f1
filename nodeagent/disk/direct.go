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

// Gatherer is a File that writes what lies in several places at once.
type Gatherer interface {
	// GatherAt writes parts one behind the other from off on. After an error any of it may have been written.
	GatherAt(parts [][]byte, off int64) error
}

var _ Gatherer = (*osFile)(nil)

// Gather writes parts one behind the other from off on: at once, if f is a Gatherer and there are several, else one by one.
func Gather(f File, parts [][]byte, off int64) error {
	if g, ok := f.(Gatherer); ok && len(parts) > 1 {
		return g.GatherAt(parts, off)
	}
	return writeEach(f, parts, off)
}

func writeEach(f File, parts [][]byte, off int64) error {
	for _, p := range parts {
		if _, err := f.WriteAt(p, off); err != nil {
			return err
		}
		off += int64(len(p))
	}
	return nil
}

// mostParts is IOV_MAX of Linux.
const mostParts = 1024

// GatherAt implements Gatherer with pwritev(2).
func (f *osFile) GatherAt(parts [][]byte, off int64) error {
	return f.call("pwritev", func(fd int) error {
		for rest := parts; len(rest) > 0; {
			n, err := unix.Pwritev(fd, rest[:min(len(rest), mostParts)], off)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return err
			}
			off += int64(n)
			for len(rest) > 0 && n >= len(rest[0]) {
				n, rest = n-len(rest[0]), rest[1:]
			}
			if n > 0 { // the disk has taken a part of one
				if _, err := f.WriteAt(rest[0][n:], off); err != nil {
					return err
				}
				off, rest = off+int64(len(rest[0])-n), rest[1:]
			}
		}
		return nil
	})
}
