// Package socket makes unix sockets that only their own user can reach, in a directory of mode 0700, or that one user
// serves to another one. It looks at who is at the other end, and frames what they say.
//
// All functions are safe for concurrent use.
package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// MaxPath is the greatest length of a socket's path in bytes: sun_path without its final zero.
const MaxPath = 107

// Errors of sockets.
var (
	ErrPathTooLong = errors.New("path of a unix socket is longer than 107 bytes")
	ErrPathInUse   = errors.New("the unix socket's path is in use")
	ErrNotPrivate  = errors.New("directory of a unix socket must be of mode 0700 and this user's")
	ErrPeer        = errors.New("the other end of the unix socket is another user")
	ErrNotOurs     = errors.New("directory of a unix socket must be this user's, and writable by nobody else")
)

// CheckPath returns ErrPathTooLong for a path that no socket can have.
func CheckPath(path string) error {
	if len(path) > MaxPath {
		return fmt.Errorf("%w: %s", ErrPathTooLong, path)
	}
	return nil
}

// Listen listens at path, whose directory is made if it is missing. A socket that nobody serves is replaced; a served
// one, and anything that is no socket, is ErrPathInUse.
func Listen(path string) (*net.UnixListener, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	if err := privateDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return listen(path)
}

// ListenFor is Listen for a socket that the processes of a group may reach too, but not replace: the directory, which
// must be there, and the socket stay this user's.
func ListenFor(path string, gid int) (*net.UnixListener, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Dir(path), &st); err != nil {
		return nil, fmt.Errorf("look at the socket's directory: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&0o022 != 0 || st.Uid != uint32(os.Geteuid()) {
		return nil, fmt.Errorf("%w: %s", ErrNotOurs, filepath.Dir(path))
	}
	ln, err := listen(path)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Lchown(path, -1, gid), os.Chmod(path, 0o660)); err != nil {
		return nil, errors.Join(fmt.Errorf("give the socket to group %d: %w", gid, err), ln.Close())
	}
	return ln, nil
}

func listen(path string) (*net.UnixListener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("%w: %s", ErrPathInUse, path)
	}
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("look at the socket's path: %w", err)
	case fi.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%w: %s is no socket", ErrPathInUse, path)
	default:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("replace a stale socket: %w", err)
		}
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return ln, nil
}

func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the socket's directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("look at the socket's directory: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&0o077 != 0 || st.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("%w: %s", ErrNotPrivate, dir)
	}
	return nil
}

// CheckPeer fails with ErrPeer unless the other end's process runs as one of uids.
func CheckPeer(c *net.UnixConn, uids ...uint32) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("other end of the unix socket: %w", err)
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return fmt.Errorf("other end of the unix socket: %w", err)
	}
	if cerr != nil {
		return fmt.Errorf("other end of the unix socket: %w", cerr)
	}
	if !slices.Contains(uids, cred.Uid) {
		return fmt.Errorf("%w: uid %d", ErrPeer, cred.Uid)
	}
	return nil
}
