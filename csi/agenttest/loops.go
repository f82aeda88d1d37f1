package agenttest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Loops are loop devices on sparse files of a directory. It needs root.
type Loops struct{ Dir string }

var _ Devices = Loops{}

func (l Loops) file(name string) string { return filepath.Join(l.Dir, name) }

// Create implements Devices.
func (l Loops) Create(volume string, size int64) error {
	if err := os.WriteFile(l.file(volume), nil, 0o600); err != nil {
		return err
	}
	return os.Truncate(l.file(volume), size)
}

// Copy implements Devices. Zeros stay holes.
func (l Loops) Copy(from, to string, size int64) error {
	in, err := os.Open(l.file(from))
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(l.file(to))
	if err != nil {
		return err
	}
	defer out.Close()
	buf := make([]byte, 1<<20)
	for at := int64(0); ; {
		n, err := io.ReadFull(in, buf)
		if len(bytes.TrimLeft(buf[:n], "\x00")) > 0 {
			if _, err := out.WriteAt(buf[:n], at); err != nil {
				return err
			}
		}
		if at += int64(n); err == io.EOF || err == io.ErrUnexpectedEOF {
			return out.Truncate(size)
		} else if err != nil {
			return err
		}
	}
}

func losetup(args ...string) (string, error) {
	out, err := exec.Command("losetup", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("losetup %q: %w: %s", args, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// Attach implements Devices.
func (l Loops) Attach(volume string) (string, error) {
	return losetup("--find", "--show", l.file(volume))
}

// AttachReader implements Devices.
func (l Loops) AttachReader(volume, _ string) (string, error) {
	return losetup("--find", "--show", "--read-only", l.file(volume))
}

// Detach implements Devices.
func (l Loops) Detach(device string) error {
	_, err := losetup("--detach", device)
	return err
}

// Resize implements Devices.
func (l Loops) Resize(volume, device string, size int64) error {
	if err := os.Truncate(l.file(volume), size); err != nil || device == "" {
		return err
	}
	_, err := losetup("--set-capacity", device)
	return err
}
