package mount

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Kinds of file systems that can be made, and the smallest device for each in bytes (mkfs.xfs refuses less than 300 MiB).
const (
	Ext4 = "ext4"
	XFS  = "xfs"

	MinExt4 = 16 << 20
	MinXFS  = 300 << 20
)

// Runner runs programs.
type Runner interface {
	// Run gives what a program printed and its exit status; err is set if it could not be run, or did not end by itself.
	Run(ctx context.Context, name string, args ...string) (out []byte, exit int, err error)
}

// Exec runs programs of this machine. They are killed when ctx ends or when this process dies.
type Exec struct{}

// Run implements Runner.
func (Exec) Run(ctx context.Context, name string, args ...string) ([]byte, int, error) {
	runtime.LockOSThread() // the kernel takes the death of the thread for that of the parent
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second // for a pipe that a child of it has left open
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return out, -1, fmt.Errorf("%s: %w", name, ctx.Err())
	case errors.As(err, &exit) && exit.Exited():
		return out, exit.ExitCode(), nil
	case err != nil:
		return out, -1, fmt.Errorf("run %s: %w", name, err)
	}
	return out, 0, nil
}

// content is what was found on a device.
type content struct {
	fs     string // kind of the file system; empty: none
	other  string // what else blkid finds
	blank  bool   // both ends are zeros
	marked bool   // an unfinished format
}

// Prepare makes a file system of the kind fs on an empty device, or checks the one that is there. A device that holds
// anything else is left as it is: ErrForeign. With readOnly nothing is written. ErrDamaged if a check finds what it cannot repair.
func (m *Mounter) Prepare(ctx context.Context, device, fs string, readOnly bool) error {
	if fs != Ext4 && fs != XFS {
		return fmt.Errorf("file system %q: want %s or %s: %w", fs, Ext4, XFS, ErrOption)
	}
	c, err := m.look(ctx, device)
	if err != nil {
		return err
	}
	switch {
	case c.other != "":
		return fmt.Errorf("%s holds %s, not %s: %w", device, c.other, fs, ErrForeign)
	case !c.marked && c.fs == fs:
		return m.check(ctx, device, fs, readOnly)
	case !c.marked && c.fs != "":
		return fmt.Errorf("%s holds the file system %s, not %s; ask for that or for another volume: %w", device, c.fs, fs, ErrForeign)
	case !c.marked && !c.blank:
		return fmt.Errorf("%s holds data that are no known file system; it is not formatted: %w", device, ErrForeign)
	case readOnly:
		return fmt.Errorf("%s holds no file system and is to be read only: %w", device, ErrForeign)
	}
	return m.format(ctx, device, fs)
}

// look finds what is on a device. Any doubt is an error.
func (m *Mounter) look(ctx context.Context, device string) (content, error) {
	f, d, err := openDevice(device, os.O_RDONLY)
	if err != nil {
		return content{}, err
	}
	defer f.Close()
	if d.Size < minSize {
		return content{}, fmt.Errorf("%s has %d bytes, too few for a file system: %w", device, d.Size, ErrDevice)
	}
	var c content
	if c.fs, c.other, err = m.blkid(ctx, device); err != nil {
		return content{}, err
	}
	if c.marked, err = marked(f, d.Size); err != nil {
		return content{}, fmt.Errorf("%s: %w: %w", device, err, ErrDevice)
	}
	if c.blank, err = blank(f, d.Size); err != nil {
		return content{}, fmt.Errorf("%s: %w: %w", device, err, ErrDevice)
	}
	return c, nil
}

// blkid gives the kind of the file system on a device, or what else is found.
func (m *Mounter) blkid(ctx context.Context, device string) (fs, other string, err error) {
	out, exit, err := m.run.Run(ctx, "blkid", "-p", "-o", "export", device)
	if err != nil {
		return "", "", err
	}
	switch exit {
	case 0:
	case 2: // nothing, or nothing that could be read: the caller reads for itself
		return "", "", nil
	case 8:
		return "", "several things at once (blkid is in doubt)", nil
	default:
		return "", "", fmt.Errorf("blkid %s: exit status %d: %s: %w", device, exit, tail(out), ErrDevice)
	}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "TYPE":
			fs = value
		case "PTTYPE":
			other = "a partition table (" + value + ")"
		}
	}
	if fs == "" && other == "" {
		other = "something that blkid does not name"
	}
	return fs, other, nil
}

func (m *Mounter) format(ctx context.Context, device, fs string) error {
	f, d, err := openDevice(device, os.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := setMark(f, fs, d.Size, true); err != nil {
		return fmt.Errorf("%s: %w", device, err)
	}
	args := []string{"-q", "-F", "-m", "0", "-e", "remount-ro", "-E", "nodiscard", device}
	if fs == XFS {
		args = []string{"-q", "-f", "-K", device}
	}
	out, exit, err := m.run.Run(ctx, "mkfs."+fs, args...)
	if err != nil {
		return err
	}
	if exit != 0 {
		return fmt.Errorf("mkfs.%s %s: exit status %d: %s: %w", fs, device, exit, tail(out), ErrDevice)
	}
	made, other, err := m.blkid(ctx, device)
	if err != nil {
		return err
	}
	if made != fs || other != "" {
		return fmt.Errorf("mkfs.%s %s ended well, but blkid finds %q %q: %w", fs, device, made, other, ErrDevice)
	}
	if err := setMark(f, fs, d.Size, false); err != nil {
		return fmt.Errorf("%s: %w", device, err)
	}
	return f.Sync()
}

// check repairs what can be repaired without a person. XFS does that when it is mounted. Where an ext4 could not grow once
// it is mounted, it does so here.
func (m *Mounter) check(ctx context.Context, device, fs string, readOnly bool) error {
	if fs != Ext4 || readOnly {
		return nil
	}
	smaller, err := ext4Smaller(device)
	if err != nil {
		return err
	}
	if offline := smaller && !growsMounted(); !offline {
		return m.e2fsck(ctx, device, "-p")
	}
	if err := m.e2fsck(ctx, device, "-p", "-f"); err != nil {
		return err
	}
	return m.grow(ctx, "resize2fs", device)
}

func (m *Mounter) e2fsck(ctx context.Context, device string, args ...string) error {
	out, exit, err := m.run.Run(ctx, "e2fsck", append(args, device)...)
	if err != nil {
		return err
	}
	if exit&^3 != 0 { // 1: repaired, 2: repaired, and would want a reboot if it were mounted
		return fmt.Errorf("e2fsck %s: exit status %d: %s: %w", device, exit, tail(out), ErrDamaged)
	}
	return nil
}

// ext4Smaller tells whether the ext4 of a device is smaller than the device. Offsets are those of struct ext4_super_block.
func ext4Smaller(device string) (bool, error) {
	f, d, err := openDevice(device, os.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer f.Close()
	sb := make([]byte, 1024)
	if _, err := f.ReadAt(sb, 1024); err != nil {
		return false, fmt.Errorf("superblock of %s: %w: %w", device, err, ErrDevice)
	}
	le := binary.LittleEndian
	blocks := uint64(le.Uint32(sb[0x4:])) | uint64(le.Uint32(sb[0x150:]))<<32
	size := uint64(1024) << (le.Uint32(sb[0x18:]) & 15)
	return blocks < uint64(d.Size)/size, nil
}

// growsMounted tells whether the kernel lets this process grow a mounted ext4.
func growsMounted() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return err == nil && data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// Grow makes the file system of device, mounted on dir, as large as the device. Nothing happens if it is. ErrDenied: it
// grows when it is prepared the next time.
func (m *Mounter) Grow(ctx context.Context, device, dir, fs string) error {
	if err := m.CheckPath(dir); err != nil {
		return err
	}
	if fs == XFS {
		return m.grow(ctx, "xfs_growfs", "-d", dir)
	}
	smaller, err := ext4Smaller(device)
	if err != nil || !smaller {
		return err
	}
	if !growsMounted() {
		return fmt.Errorf("grow ext4 of %s: %w", device, ErrDenied)
	}
	return m.grow(ctx, "resize2fs", device)
}

func (m *Mounter) grow(ctx context.Context, name string, args ...string) error {
	out, exit, err := m.run.Run(ctx, name, args...)
	if err != nil {
		return err
	}
	if exit != 0 {
		return fmt.Errorf("%s %q: exit status %d: %s: %w", name, args, exit, tail(out), ErrDevice)
	}
	return nil
}

// tail is the end of what a program printed, in one line.
func tail(out []byte) string {
	const most = 400
	out = bytes.TrimSpace(out)
	if len(out) > most {
		out = out[len(out)-most:]
	}
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(out), "?")), " ")
}
