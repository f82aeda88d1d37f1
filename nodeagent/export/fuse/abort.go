package fuse

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Abort ends the connection of the mount on dir: all its requests fail. If nothing uses the mount any more it is
// unmounted, too. It never waits for the connection. A dir that is not a mount of ours is fine.
func Abort(dir string) error {
	if _, err := ConnOf(dir); errors.Is(err, ErrNotMounted) {
		return nil
	} else if err != nil {
		return err
	}
	err := unix.Unmount(dir, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("abort %s: %w", dir, err)
	}
	return nil
}

// AbortConn ends a connection by its number, for who does not see its mount. It takes fusectl, and does nothing where that
// is not mounted or the connection has gone: a connection also ends when its last descriptor is closed.
func AbortConn(conn uint32) error {
	f, err := os.OpenFile("/sys/fs/fuse/connections/"+strconv.FormatUint(uint64(conn), 10)+"/abort", os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = f.WriteString("1")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("abort FUSE connection %d: %w", conn, err)
	}
	return nil
}
