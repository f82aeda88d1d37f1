package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// Errors of frames.
var (
	ErrFrame = errors.New("not a frame")
	ErrLong  = errors.New("frame beyond its limits")
)

// frameHead is the size of a frame's head:
//
//	0 length u32 little endian (of what follows the head) · 4 type u8 · 5 reserved 3
//
// Descriptors travel as SCM_RIGHTS with the first byte.
const frameHead = 8

// Send sends one frame. The descriptors are copied and stay the caller's.
func Send(c *net.UnixConn, t uint8, body []byte, fds []int) error {
	b := make([]byte, frameHead, frameHead+len(body))
	binary.LittleEndian.PutUint32(b, uint32(len(body)))
	b[4] = t
	b = append(b, body...)
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	n, _, err := c.WriteMsgUnix(b, oob, nil)
	if err == nil && n < len(b) {
		_, err = c.Write(b[n:])
	}
	if err != nil {
		return fmt.Errorf("send to the unix socket: %w", err)
	}
	return nil
}

// Receive receives one frame of at most limit bytes and most descriptors, which are the caller's; on error none are left
// open. Errors: ErrFrame, ErrLong, io.EOF at a frame's boundary.
func Receive(c *net.UnixConn, limit, most int) (t uint8, body []byte, fds []int, err error) {
	var head [frameHead]byte
	oob := make([]byte, unix.CmsgSpace(4*(most+1)))
	n, oobn, flags, _, err := c.ReadMsgUnix(head[:], oob)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return 0, nil, nil, err
	}
	fds, err = parseRights(oob[:oobn])
	if err == nil && flags&unix.MSG_CTRUNC != 0 {
		err = fmt.Errorf("%w: more descriptors than %d", ErrLong, most)
	}
	if err == nil {
		_, err = io.ReadFull(c, head[n:])
	}
	size := int64(binary.LittleEndian.Uint32(head[:]))
	if err == nil && size > int64(limit) {
		err = fmt.Errorf("%w: %d bytes", ErrLong, size)
	}
	if err == nil {
		body = make([]byte, size)
		_, err = io.ReadFull(c, body)
	}
	if err != nil {
		CloseAll(fds)
		return 0, nil, nil, err
	}
	return head[4], body, fds, nil
}

// CloseAll closes descriptors.
func CloseAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

func parseRights(oob []byte) (fds []int, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	for i := range msgs {
		got, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // another kind of message carries no descriptors
		}
		fds = append(fds, got...)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return fds, nil
}
