package socket

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestListen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "private")
	path := filepath.Join(dir, "s")
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); !errors.Is(err, ErrPathInUse) {
		t.Errorf("a served socket: %v", err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()
	ln, err = Listen(path) // stale now
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file); !errors.Is(err, ErrPathInUse) {
		t.Errorf("a file's path: %v", err)
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("the file was replaced")
	}
	if _, err := Listen(filepath.Join(dir, strings.Repeat("x", MaxPath))); !errors.Is(err, ErrPathTooLong) {
		t.Errorf("a long path: %v", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); !errors.Is(err, ErrNotPrivate) {
		t.Errorf("an open directory: %v", err)
	}
}

func TestCheckPeer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "private", "s")
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := CheckPeer(c, uint32(os.Geteuid())); err != nil {
		t.Error(err)
	}
	if err := CheckPeer(c, uint32(os.Geteuid()+1)); !errors.Is(err, ErrPeer) {
		t.Errorf("another user: %v", err)
	}
}
