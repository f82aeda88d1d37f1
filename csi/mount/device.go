package mount

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Device is a block device.
type Device struct {
	Number uint64
	Size   int64 // bytes
}

// Device looks at a block device without opening it, which could block for ever on one whose server is dead. The path may
// be a symbolic link; ErrDevice unless it leads to a block device.
func (m *Mounter) Device(path string) (Device, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Device{}, fmt.Errorf("device %q: %w: %w", path, err, ErrDevice)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Device{}, fmt.Errorf("%q is no block device: %w", path, ErrDevice)
	}
	b, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/size", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	if err != nil {
		return Device{}, fmt.Errorf("size of device %s: %w: %w", path, err, ErrDevice)
	}
	sectors, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
	if err != nil {
		return Device{}, fmt.Errorf("size of device %s: %w: %w", path, err, ErrDevice)
	}
	return Device{Number: st.Rdev, Size: sectors * 512}, nil
}

func openDevice(path string, how int) (*os.File, Device, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, Device{}, fmt.Errorf("device %q: %w: %w", path, err, ErrDevice)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return nil, Device{}, fmt.Errorf("%q is no block device: %w", path, ErrDevice)
	}
	f, err := os.OpenFile(path, how, 0)
	if err != nil {
		return nil, Device{}, fmt.Errorf("open device: %w: %w", err, ErrDevice)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		_ = f.Close()
		return nil, Device{}, fmt.Errorf("size of device %s: %w: %w", path, err, ErrDevice)
	}
	return f, Device{Number: st.Rdev, Size: size}, nil
}

// Sizes of what is looked at, in bytes.
const (
	page    = 4096
	margin  = 1 << 20 // at each end must be zeros; the mark lies at the beginning of the last
	minSize = 4 << 20 // of a device to format
)

const markMagic = "mynetwork.io unfinished format 1"

func markOf(fs string, size int64) []byte {
	b := make([]byte, page)
	copy(b, markMagic)
	binary.LittleEndian.PutUint64(b[32:], uint64(size))
	copy(b[40:56], fs)
	sum := sha256.Sum256(b[:page-sha256.Size])
	copy(b[page-sha256.Size:], sum[:])
	return b
}

// isMark tells whether b is a mark on a device of that size.
func isMark(b []byte, size int64) bool {
	sum := sha256.Sum256(b[:page-sha256.Size])
	return string(b[:len(markMagic)]) == markMagic && bytes.Equal(sum[:], b[page-sha256.Size:]) && binary.LittleEndian.Uint64(b[32:]) == uint64(size)
}

func markAt(size int64) int64 { return (size - margin) / page * page }

// marked tells whether the device carries the mark.
func marked(f io.ReaderAt, size int64) (bool, error) {
	b := make([]byte, page)
	if _, err := f.ReadAt(b, markAt(size)); err != nil {
		return false, fmt.Errorf("read the place of the mark: %w", err)
	}
	return isMark(b, size), nil
}

// blank tells whether both ends of the device are zeros.
func blank(f io.ReaderAt, size int64) (bool, error) {
	b := make([]byte, margin+page)
	for _, at := range []int64{0, markAt(size)} {
		n := min(int64(len(b)), size-at)
		if _, err := f.ReadAt(b[:n], at); err != nil {
			return false, fmt.Errorf("read the device at %d: %w", at, err)
		}
		if len(bytes.TrimLeft(b[:n], "\x00")) > 0 {
			return false, nil
		}
	}
	return true, nil
}

// setMark writes the mark, or takes it away if it is there still, durably.
func setMark(f *os.File, fs string, size int64, on bool) error {
	b := make([]byte, page)
	if on {
		b = markOf(fs, size)
	} else if is, err := marked(f, size); err != nil || !is {
		return err
	}
	if _, err := f.WriteAt(b, markAt(size)); err != nil {
		return fmt.Errorf("write the mark of an unfinished format: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync the mark of an unfinished format: %w", err)
	}
	return nil
}
