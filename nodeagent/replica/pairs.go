package replica

import (
	"encoding/binary"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// following is a Replier that can show the body of the request that follows, so that pages of both are hashed together. It is asked while the
// request is handled, by who handles it.
type following interface {
	// Next is that body, nil if it is not here yet. It may be anything.
	Next() []byte
	// Leave gives the request that Next has shown a sum of bytes of its body.
	Leave(sum [32]byte)
	// Left is what was left for this one.
	Left() (sum [32]byte, ok bool)
}

// check is r.CheckPayload. A single page is hashed together with that of the next append, as two take little longer than one.
func check(r *journal.Record, payload []byte, to Replier) error {
	f, ok := to.(following)
	if !ok || r.Rows != 1 || len(payload) != block.PageSize || r.Payload != block.PageSize {
		return r.CheckPayload(payload)
	}
	if sum, ok := f.Left(); ok {
		return r.CheckSum(sum)
	}
	next := lonePage(f.Next())
	if next == nil {
		return r.CheckPayload(payload)
	}
	sum, then := block.SumPair(payload, next)
	f.Leave(then)
	return r.CheckSum(sum)
}

// lonePage is the payload of an append if it has the length of a page; nil if it has not, or body is no append. Whether it is a page is not known: the sum
// is of the bytes that splitAppend will take for the payload, and if they are something else, nobody asks for it.
func lonePage(body []byte) []byte {
	if len(body) < AppendHeadSize+block.PageSize {
		return nil
	}
	n := binary.LittleEndian.Uint32(body[headSize:])
	if uint64(n) != uint64(len(body)-AppendHeadSize-block.PageSize) {
		return nil
	}
	return body[len(body)-block.PageSize:]
}
