package layouts

import (
	"context"
	"encoding/binary"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/peer"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// TypeLayout is the type of the request for a piece of a body.
const TypeLayout = 0x82

const (
	requestSize = 36
	piece       = 512 << 10
)

// Serve answers a request of TypeLayout.
func (f *Files) Serve(req *peer.Request) {
	defer req.Release()
	status, parts := f.answer(req.Body)
	req.Reply(status, parts...)
}

func (f *Files) answer(body []byte) (uint16, [][]byte) {
	if len(body) != requestSize {
		return replica.StatusBad, [][]byte{[]byte("want a hash and an offset")}
	}
	b, err := f.Get(block.Hash(body[:32]))
	if err != nil {
		return replica.StatusNotHeld, [][]byte{[]byte(err.Error())}
	}
	off := int64(binary.LittleEndian.Uint32(body[32:]))
	if off > int64(len(b)) {
		return replica.StatusBad, [][]byte{[]byte("the offset is behind the end")}
	}
	total := binary.LittleEndian.AppendUint32(nil, uint32(len(b)))
	return replica.StatusOK, [][]byte{total, b[off:min(off+piece, int64(len(b)))]}
}

// Call asks a node; the answer's body is the caller's.
type Call func(ctx context.Context, request []byte) (status uint16, body []byte, err error)

// Fetch gets a body from a node, piece by piece, and verifies it.
func Fetch(ctx context.Context, h block.Hash, call Call) ([]byte, error) {
	var out []byte
	for {
		req := binary.LittleEndian.AppendUint32(append([]byte(nil), h[:]...), uint32(len(out)))
		status, body, err := call(ctx, req)
		if err != nil {
			return nil, err
		}
		if status != replica.StatusOK {
			return nil, fmt.Errorf("%w: %s", ErrNotFound, body)
		}
		if len(body) < 4 {
			return nil, fmt.Errorf("%w: an answer of %d bytes", ErrInvalid, len(body))
		}
		total := int(binary.LittleEndian.Uint32(body))
		out = append(out, body[4:]...)
		switch {
		case total > maxBody || len(out) > total || len(body) == 4 && len(out) < total:
			return nil, fmt.Errorf("%w: %d bytes of %d", ErrInvalid, len(out), total)
		case len(out) == total:
			if block.Sum(out) != h {
				return nil, fmt.Errorf("%w: it has not the hash that was asked for", ErrInvalid)
			}
			return out, nil
		}
	}
}
