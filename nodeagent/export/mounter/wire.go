package mounter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Versions of the protocol that this code speaks.
const (
	MinVersion = 1
	MaxVersion = 1
)

// maxPatience is the longest that a call at the server waits.
const maxPatience = 2 * time.Minute

const (
	maxFrame = 4 << 10
	maxList  = MaxDevices * (4 + 1 + MaxName + 1 + 255)
)

const (
	tHello   uint8 = 1
	tMount   uint8 = 2
	tBind    uint8 = 3
	tResize  uint8 = 4
	tUnbind  uint8 = 5
	tUnmount uint8 = 6
	tAbort   uint8 = 7
	tDiscard uint8 = 8
	tList    uint8 = 9
	tFreeze  uint8 = 10
	tThaw    uint8 = 11
	tOK      uint8 = 128
	tHi      uint8 = 129
	tMounted uint8 = 130
	tBound   uint8 = 131
	tSize    uint8 = 132
	tFound   uint8 = 133
	tFrozen  uint8 = 134
	tError   uint8 = 255
)

func appendString(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

func cutString(b []byte) (s string, rest []byte, err error) {
	if len(b) < 1 || len(b) < 1+int(b[0]) {
		return "", nil, fmt.Errorf("%w: short string", ErrProtocol)
	}
	return string(b[1 : 1+b[0]]), b[1+b[0]:], nil
}

// appendTarget writes a request's name and patience.
func appendTarget(b []byte, name string, patience time.Duration) []byte {
	ms := min(max(patience, 0), maxPatience) / time.Millisecond
	return appendString(binary.LittleEndian.AppendUint32(b, uint32(ms)), name)
}

func parseTarget(b []byte) (name string, patience time.Duration, err error) {
	if len(b) < 4 {
		return "", 0, fmt.Errorf("%w: short request", ErrProtocol)
	}
	patience = min(time.Duration(binary.LittleEndian.Uint32(b))*time.Millisecond, maxPatience)
	name, rest, err := cutString(b[4:])
	if err == nil && len(rest) != 0 {
		err = fmt.Errorf("%w: %d bytes too many", ErrProtocol, len(rest))
	}
	return name, patience, err
}

func appendFound(b []byte, list []Found) []byte {
	for _, f := range list {
		b = binary.LittleEndian.AppendUint32(b, f.Conn)
		b = appendString(appendString(b, f.Name), f.Loop)
	}
	return b
}

func parseFound(b []byte) (out []Found, err error) {
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, fmt.Errorf("%w: short list", ErrProtocol)
		}
		f := Found{Conn: binary.LittleEndian.Uint32(b)}
		if f.Name, b, err = cutString(b[4:]); err == nil {
			f.Loop, b, err = cutString(b)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func appendError(b []byte, err error) []byte {
	code := 0
	for i, e := range codes() {
		if i > 0 && errors.Is(err, e) {
			code = i
			break
		}
	}
	return append(binary.LittleEndian.AppendUint16(b, uint16(code)), err.Error()[:min(len(err.Error()), 1024)]...)
}

func parseError(b []byte) error {
	if len(b) < 2 {
		return fmt.Errorf("%w: short error", ErrProtocol)
	}
	sentinel := ErrServer
	if c := int(binary.LittleEndian.Uint16(b)); c < len(codes()) {
		sentinel = codes()[c]
	}
	return fmt.Errorf("%w (mounter: %s)", sentinel, b[2:])
}
