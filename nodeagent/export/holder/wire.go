package holder

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"mynetwork.io/mynetwork/nodeagent/export/socket"
)

// Versions of the protocol that this code speaks.
const (
	MinVersion = 1
	MaxVersion = 1
)

// Limits.
const (
	MaxName    = 200      // bytes of a name
	MaxMeta    = 64 << 10 // bytes of an entry's meta
	MaxFDs     = 8        // descriptors of an entry
	MaxEntries = 2048     // entries of a holder
	MaxFrame   = MaxMeta + 1024

	maxListBody = 4 + MaxEntries*(2+MaxName)
)

// Errors; the ones with a code also travel.
var (
	ErrVersion  = errors.New("holder speaks another version")
	ErrProtocol = errors.New("not the holder's protocol")
	ErrNotFound = errors.New("holder has no such entry")
	ErrOwned    = errors.New("another live process owns the entry")
	ErrExists   = errors.New("holder has such an entry already")
	ErrNotOwner = errors.New("entry is not owned by this connection")
	ErrLimit    = errors.New("beyond the holder's limits")
	ErrServer   = errors.New("holder failed")
)

type frameType uint8

const (
	tHello  frameType = 1
	tPut    frameType = 2
	tGet    frameType = 3
	tList   frameType = 4
	tDrop   frameType = 5
	tUpdate frameType = 6
	tOK     frameType = 128
	tHi     frameType = 129
	tEntry  frameType = 131
	tNames  frameType = 132
	tError  frameType = 255
)

// codes are the errors that travel; a code's number never changes.
func codes() []error {
	return []error{ErrServer, ErrVersion, ErrProtocol, ErrNotFound, ErrOwned, ErrExists, ErrNotOwner, ErrLimit}
}

// State tells what has become of an entry.
type State uint8

// States of an entry.
const (
	Unowned State = iota // no connection owns it: the watchdog counts
	Owned
	Ended // by the watchdog: its device is gone, its memory is kept
)

// Entry is what the holder keeps for one volume. Whoever has an Entry owns its descriptors.
type Entry struct {
	Name   string
	Meta   []byte
	Conn   uint32 // number of the FUSE connection below /sys/fs/fuse/connections; 0 for none
	Device []int  // descriptors whose last close ends the device
	Memory []int  // descriptors of memory that outlives the device
	State  State
}

// Close closes the entry's descriptors.
func (e *Entry) Close() {
	closeAll(e.Device)
	closeAll(e.Memory)
	e.Device, e.Memory = nil, nil
}

func closeAll(fds []int) { socket.CloseAll(fds) }

func (e *Entry) check() error {
	if e.Name == "" || len(e.Name) > MaxName {
		return fmt.Errorf("%w: a name of %d bytes", ErrLimit, len(e.Name))
	}
	if len(e.Meta) > MaxMeta || len(e.Device)+len(e.Memory) > MaxFDs {
		return fmt.Errorf("%w: %d bytes of meta, %d descriptors", ErrLimit, len(e.Meta), len(e.Device)+len(e.Memory))
	}
	return nil
}

func appendName(b []byte, name string) []byte {
	return append(append(b, byte(len(name))), name...)
}

func appendMeta(b, meta []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(meta))), meta...)
}

func appendEntry(b []byte, e *Entry) []byte {
	b = appendMeta(appendName(b, e.Name), e.Meta)
	b = binary.LittleEndian.AppendUint32(b, e.Conn)
	return append(b, byte(len(e.Device)), byte(len(e.Memory)), byte(e.State))
}

func cutName(b []byte) (name string, rest []byte, err error) {
	if len(b) < 1 || len(b) < 1+int(b[0]) || b[0] == 0 || int(b[0]) > MaxName {
		return "", nil, fmt.Errorf("%w: bad name", ErrProtocol)
	}
	return string(b[1 : 1+b[0]]), b[1+b[0]:], nil
}

func cutMeta(b []byte) (meta, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, fmt.Errorf("%w: short meta", ErrProtocol)
	}
	n := uint64(binary.LittleEndian.Uint32(b))
	if b = b[4:]; n > MaxMeta || n > uint64(len(b)) {
		return nil, nil, fmt.Errorf("%w: %d bytes of meta", ErrProtocol, n)
	}
	return append([]byte(nil), b[:n]...), b[n:], nil
}

// parseEntry decodes an entry and gives it its descriptors. On error they stay the caller's.
func parseEntry(b []byte, fds []int) (*Entry, error) {
	name, b, err := cutName(b)
	if err != nil {
		return nil, err
	}
	meta, b, err := cutMeta(b)
	if err != nil {
		return nil, err
	}
	if len(b) != 7 || b[6] > byte(Ended) {
		return nil, fmt.Errorf("%w: bad end of an entry", ErrProtocol)
	}
	nd, nm := int(b[4]), int(b[5])
	if nd+nm != len(fds) {
		return nil, fmt.Errorf("%w: %d descriptors named, %d came", ErrProtocol, nd+nm, len(fds))
	}
	e := &Entry{Name: name, Meta: meta, Conn: binary.LittleEndian.Uint32(b), State: State(b[6])}
	e.Device, e.Memory = fds[:nd:nd], fds[nd:]
	return e, nil
}

func appendError(b []byte, err error) []byte {
	code := 0
	for i, e := range codes() {
		if errors.Is(err, e) {
			code = i
		}
	}
	return append(binary.LittleEndian.AppendUint16(b, uint16(code)), err.Error()[:min(len(err.Error()), 512)]...)
}

func parseError(b []byte) error {
	if len(b) < 2 {
		return fmt.Errorf("%w: short error", ErrProtocol)
	}
	sentinel := ErrServer
	if c := int(binary.LittleEndian.Uint16(b)); c < len(codes()) {
		sentinel = codes()[c]
	}
	return fmt.Errorf("%w (holder: %s)", sentinel, b[2:])
}

// writeFrame sends one frame, its descriptors with the first byte.
func writeFrame(c *net.UnixConn, t frameType, body []byte, fds []int) error {
	return socket.Send(c, uint8(t), body, fds)
}

// readFrame receives one frame of at most limit bytes. The descriptors are the caller's; on error none are left open.
func readFrame(c *net.UnixConn, limit int) (t frameType, body []byte, fds []int, err error) {
	u, body, fds, err := socket.Receive(c, limit, MaxFDs)
	switch {
	case errors.Is(err, socket.ErrLong):
		err = fmt.Errorf("%w: %w", ErrLimit, err)
	case errors.Is(err, socket.ErrFrame):
		err = fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return frameType(u), body, fds, err
}
