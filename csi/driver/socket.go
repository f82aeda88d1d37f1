package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/csi/request"
)

// Socket is a unix socket that only one process has. The guard against two calls for one volume is within a process; during
// an update two processes may be there, and the second must wait until the first has ended all its calls.
type Socket struct {
	net.Listener
	lock *os.File
}

// lockPoll is how often a process looks whether the one before has ended.
const lockPoll = 100 * time.Millisecond

// Listen makes a unix socket that only this user may use, in a directory that it makes if need be. It waits until no other
// process has the socket; one that a dead process left is replaced.
func Listen(ctx context.Context, socket string) (*Socket, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, fmt.Errorf("directory of the socket: %w", err)
	}
	lock, err := os.OpenFile(socket+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock of the socket: %w", err)
	}
	s := &Socket{lock: lock}
	if err := s.acquire(ctx, socket); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

func (s *Socket) acquire(ctx context.Context, socket string) error {
	for {
		err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock the socket: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("socket %s: another process has it: %w", socket, ctx.Err())
		case <-time.After(lockPoll):
		}
	}
	if st, err := os.Lstat(socket); err == nil && st.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s is there and is no socket: %w", socket, request.ErrPrecondition)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("old socket: %w", err)
	}
	ln, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s.Listener = ln
	if err := os.Chmod(socket, 0o600); err != nil {
		return errors.Join(fmt.Errorf("mode of the socket: %w", err), ln.Close())
	}
	return nil
}

// release lets the next process have the socket. The file of the lock stays.
func (s *Socket) release() { _ = s.lock.Close() }
