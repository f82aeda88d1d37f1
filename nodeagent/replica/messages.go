package replica

import (
	"encoding/binary"
	"errors"
	"fmt"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
)

// Type is the type of a request between a writer and a replica.
type Type = uint8

// Requests. Every body begins with the store that is meant (16 bytes) and, but for TypeVolumes, the volume's extent.
const (
	TypeAppend   Type = 16 + iota // store 16, epoch 20, extent 28, record length u32, record, payload
	TypePromise                   // store, epoch, extent, fresh u8 (may be left out) -> state
	TypeStat                      // store, epoch (ignored), extent  -> state
	TypeReadLog                   // store, epoch (ignored), extent, off u32, n u32 -> n bytes
	TypeReadData                  // likewise
	TypeCut                       // store, epoch, extent, after u64 -> state
	TypePull                      // store, epoch, extent, source store 16, chosen u8 (2: and what goes is set aside; 3: all anew, of a log that ends the same) -> state
	TypeFree                      // store, epoch, extent, aside u8 = 1 (or left out)
	TypeLease                     // store, epoch (ignored), extent (volume only) -> lease
	TypeExtents                   // store, epoch (ignored), extent (volume only) -> extents
	TypeVolumes                   // store                           -> volumes
	TypeDrop                      // store, epoch, extent (volume only), signed deletion record
	TypeRepair                    // store, epoch, extent, off u32, kind u8 (0 log, 1 data), good bytes
	TypeScrub                     // store, epoch (ignored), extent  -> findings
	TypeAppendGC                  // as TypeAppend; may fill the disk beyond the users' mark: cleaning, and what was acknowledged
	TypeConfirm                   // store, epoch, extent, seq u64, hash 32: this log, ending so, is the one that this epoch went on from -> state
	TypeHoldings                  // store, epoch (ignored), extent (volume only), aside u8 (or left out) -> holdings, 69 bytes each: extent 28, seq u64, hash 32, unknown u8
	typeEnd
)

// Status is the outcome of a request.
type Status = uint16

// Outcomes.
const (
	StatusOK          Status = iota
	StatusBad                // the request is malformed or breaks a rule
	StatusDenied             // no grant
	StatusFenced             // a later epoch is promised; the body is that epoch
	StatusGap                // the record does not follow the log, or the log that of the source
	StatusNotHeld            // this store does not have it
	StatusFull               // no space
	StatusBusy               // try again later
	StatusMismatch           // bytes do not match their hash
	StatusDeleted            // the volume is deleted
	StatusQuarantined        // the disk has failed
	StatusError              // anything else; the body is text
	StatusUnsure             // damage may have cost this store a promise: only a fresh one settles that
	StatusLayout             // the extent was proposed under a layout that is too old: see LayoutError
)

// Errors that outcomes are turned into, on the caller's side.
var (
	ErrBad         = errors.New("replica refused a malformed request")
	ErrDenied      = errors.New("replica refused: no grant")
	ErrGap         = errors.New("replica's log does not continue there")
	ErrNotHeld     = errors.New("replica does not hold it")
	ErrFull        = errors.New("replica's disk is full")
	ErrBusy        = errors.New("replica is busy")
	ErrDeleted     = errors.New("volume is deleted")
	ErrQuarantined = errors.New("replica's disk is quarantined")
	ErrRemote      = errors.New("replica failed")
	ErrUnsure      = errors.New("replica may have lost a promise")
	ErrUnreachable = errors.New("replica cannot be reached")
)

// headSize is store 16 + epoch 20 + extent 28.
const headSize = 16 + block.EpochSize + block.ExtentIDSize

// MaxRead is the most bytes of one read request.
const MaxRead = 1 << 20

// Head is what every request begins with.
type Head struct {
	Store  block.StoreID
	Epoch  block.Epoch
	Extent block.ExtentID
}

// Put encodes h into the first headSize bytes of b.
func (h *Head) Put(b []byte) {
	copy(b, h.Store[:])
	h.Epoch.Put(b[16:])
	h.Extent.Put(b[16+block.EpochSize:])
}

// Encode gives the head followed by extra.
func (h *Head) Encode(extra ...byte) []byte {
	b := make([]byte, headSize, headSize+len(extra))
	h.Put(b)
	return append(b, extra...)
}

func getHead(b []byte) (h Head, rest []byte, err error) {
	if len(b) < headSize {
		return h, nil, fmt.Errorf("request of %d bytes: %w", len(b), ErrBad)
	}
	copy(h.Store[:], b)
	h.Epoch = block.GetEpoch(b[16:])
	h.Extent = block.GetExtentID(b[16+block.EpochSize:])
	return h, b[headSize:], nil
}

// AppendHeadSize is the size of what precedes the record in an append request.
const AppendHeadSize = headSize + 4

// PutAppendHead encodes the part of an append request that precedes record and payload.
func PutAppendHead(b []byte, h *Head, recLen int) {
	h.Put(b)
	binary.LittleEndian.PutUint32(b[headSize:], uint32(recLen))
}

// AppendReplySize is the size of an append's OK body: the durable sequence, u64.
const AppendReplySize = 8

// State is a replica's answer about an extent.
type State struct {
	Promised block.Epoch   // for the volume
	Held     bool          // the extent is here
	Freed    bool          // it is not here, and may have been
	Past     bool          // it was here, closed, and was freed: the journal has gone on behind it
	Unknown  bool          // its tail is not known
	Chain    journal.Chain // durable end; its epoch is that of a later Confirm, if there was one
}

const stateSize = block.EpochSize + 2 + 8 + 32 + block.EpochSize + 4 + 4 + 1

// Encode gives the body: promised 20, held u8 (0 no, 1 yes, 2 no more: it may have been freed), unknown u8 (2: it was freed, and closed before), seq u64, hash 32, epoch 20, logLen u32, dataLen u32, closed u8.
func (s *State) Encode() []byte {
	b := make([]byte, stateSize)
	s.Promised.Put(b)
	i := block.EpochSize
	b[i], b[i+1] = flag(s.Held), flag(s.Unknown)
	if s.Freed || s.Past {
		b[i] = 2
	}
	if s.Past {
		b[i+1] = 2
	}
	i += 2
	binary.LittleEndian.PutUint64(b[i:], s.Chain.Seq)
	copy(b[i+8:], s.Chain.Hash[:])
	s.Chain.Epoch.Put(b[i+40:])
	i += 40 + block.EpochSize
	binary.LittleEndian.PutUint32(b[i:], s.Chain.LogLen)
	binary.LittleEndian.PutUint32(b[i+4:], s.Chain.DataLen)
	b[i+8] = flag(s.Chain.Closed)
	return b
}

// DecodeState reads what Encode wrote.
func DecodeState(b []byte) (s State, err error) {
	if len(b) != stateSize {
		return s, fmt.Errorf("state of %d bytes: %w", len(b), ErrBad)
	}
	s.Promised = block.GetEpoch(b)
	i := block.EpochSize
	s.Held, s.Freed, s.Unknown, s.Past = b[i] == 1, b[i] == 2, b[i+1] == 1, b[i+1] == 2
	i += 2
	s.Chain.Seq = binary.LittleEndian.Uint64(b[i:])
	copy(s.Chain.Hash[:], b[i+8:])
	s.Chain.Epoch = block.GetEpoch(b[i+40:])
	i += 40 + block.EpochSize
	s.Chain.LogLen = binary.LittleEndian.Uint32(b[i:])
	s.Chain.DataLen = binary.LittleEndian.Uint32(b[i+4:])
	s.Chain.Closed = b[i+8] == 1
	return s, nil
}

func flag(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// ErrorOf turns an outcome into an error; nil for StatusOK. text is the reply's body.
func ErrorOf(st Status, text []byte) error {
	switch st {
	case StatusOK:
		return nil
	case StatusBad:
		return fmt.Errorf("%s: %w", text, ErrBad)
	case StatusDenied:
		return fmt.Errorf("%s: %w", text, ErrDenied)
	case StatusGap:
		return fmt.Errorf("%s: %w", text, ErrGap)
	case StatusNotHeld:
		return ErrNotHeld
	case StatusFull:
		return ErrFull
	case StatusBusy:
		return ErrBusy
	case StatusMismatch:
		return fmt.Errorf("%s: %w", text, block.ErrMismatch)
	case StatusDeleted:
		return ErrDeleted
	case StatusLayout:
		return DecodeLayoutError(text)
	case StatusUnsure:
		return fmt.Errorf("%s: %w", text, ErrUnsure)
	case StatusQuarantined:
		return fmt.Errorf("%s: %w", text, ErrQuarantined)
	}
	return fmt.Errorf("%s: %w", text, ErrRemote)
}
