package mounter

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"mynetwork.io/mynetwork/nodeagent/export"
	"mynetwork.io/mynetwork/nodeagent/export/fuse"
	"mynetwork.io/mynetwork/nodeagent/export/loop"
)

// Limits.
const (
	MaxName    = 200  // bytes of a name
	MaxDevices = 2048 // of one directory
)

// Errors of mounters, beside export.ErrBusy, fuse.ErrNoDevice, fuse.ErrNotMounted, loop.ErrNoDevice and loop.ErrBuffered.
var (
	// ErrName tells that a name cannot be a directory's.
	ErrName = errors.New("not a device's name")
	// ErrMounted tells that there is a mount at the device's place: leftovers to discard, or a live device.
	ErrMounted = errors.New("the device's directory is a mount already")
	// ErrLimit tells that there are too many devices.
	ErrLimit = errors.New("beyond the mounter's limits")
	// ErrVersion tells that client and server have no version of the protocol in common.
	ErrVersion = errors.New("mounter speaks another version")
	// ErrProtocol tells that the other end does not speak the protocol.
	ErrProtocol = errors.New("not the mounter's protocol")
	// ErrServer is any other failure of the server.
	ErrServer = errors.New("mounter failed")
	// ErrAway tells that no server answers.
	ErrAway = errors.New("the node's mounter does not answer: look whether the CSI node plugin runs on this node")
	// ErrTime tells that what the call waited for did not happen in time.
	ErrTime = errors.New("the device did not answer in time")
)

// codes are the errors that travel; a code's number never changes.
func codes() []error {
	return []error{ErrServer, ErrVersion, ErrProtocol, ErrName, ErrMounted, ErrLimit, ErrTime, export.ErrBusy, fuse.ErrNoDevice,
		fuse.ErrNotMounted, loop.ErrNoDevice, loop.ErrBuffered}
}

// Mount is a connection that is mounted, and that nobody serves yet.
type Mount struct {
	FD   int    // /dev/fuse: the caller's. When its last copy is closed, the connection ends
	Conn uint32 // the connection's number below /sys/fs/fuse/connections
}

// Found is a device that has a mount or a loop device.
type Found struct {
	Name string
	Conn uint32 // 0: it has no mount
	Loop string // path of its loop device; empty: it has none
}

// CheckName reports ErrName unless a device can be named so.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\x00") || filepath.Base(name) != name {
		return fmt.Errorf("%w: %q", ErrName, name)
	}
	return nil
}
