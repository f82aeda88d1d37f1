package fuse

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

// Abort ends a connection through fusectl: all its requests fail. It never waits for the connection. Where fusectl is
// not mounted, or the connection has gone, it does nothing: a connection also ends when its last descriptor is closed.
func Abort(conn uint32) error {
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
