package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// Magic numbers.
const (
	magicInit    = 0x4e42444d41474943 // NBDMAGIC
	magicOption  = 0x49484156454f5054 // IHAVEOPT
	magicAnswer  = 0x3e889045565a9
	magicRequest = 0x25609513
	magicSimple  = 0x67446698
	magicChunk   = 0x668e33ef
)

// Limits, in bytes but for the names'.
const (
	maxName     = 4096 // of a string, by the specification
	maxOption   = 3*4096 + 64
	maxRequest  = 32 << 20 // what clients may assume without asking
	maxInline   = 128 << 10
	maxBytes    = 64 << 20
	maxInFlight = 512
	maxOptions  = 256 // before transmission
)

// Sizes of the wire, in bytes.
const (
	optionHead  = 16
	requestSize = 28
	simpleSize  = 16
	chunkSize   = 20
)

// Options.
const (
	optExportName = 1
	optAbort      = 2
	optList       = 3
	optInfo       = 6
	optGo         = 7
	optStructured = 8
	optListMeta   = 9
	optSetMeta    = 10
)

// Types of answers to options.
const (
	repAck        = 1
	repServer     = 2
	repInfo       = 3
	repMeta       = 4
	repErr        = 1 << 31
	repErrUnsup   = repErr + 1
	repErrInvalid = repErr + 3
	repErrUnknown = repErr + 6
	repErrTooBig  = repErr + 9

	infoExport    = 0
	infoName      = 1
	infoBlockSize = 3
)

// Handshake flags.
const (
	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1
)

// Transmission flags of the export.
const (
	flagHasFlags    = 1 << 0
	flagSendFlush   = 1 << 2
	flagSendFUA     = 1 << 3
	flagSendTrim    = 1 << 5
	flagSendZeroes  = 1 << 6
	flagSendDF      = 1 << 7
	flagMultiConn   = 1 << 8
	exportFlags     = flagHasFlags | flagSendFlush | flagSendFUA | flagSendTrim | flagSendZeroes | flagSendDF | flagMultiConn
	metaContext     = "base:allocation"
	metaContextID   = 1
	stateHoleZeroes = 3 // NBD_STATE_HOLE | NBD_STATE_ZERO
	maxExtents      = 1024
)

// Commands and their flags.
const (
	cmdRead        = 0
	cmdWrite       = 1
	cmdDisconnect  = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdZeroes      = 6
	cmdBlockStatus = 7

	cmdFlagFUA    = 1 << 0
	cmdFlagNoHole = 1 << 1
	cmdFlagDF     = 1 << 2
	cmdFlagReqOne = 1 << 3
)

// Chunks of structured replies.
const (
	chunkDone       = 1 << 0
	chunkOffsetData = 1
	chunkStatus     = 5
	chunkError      = 1<<15 + 1
)

// ErrProtocol tells that a client does not speak NBD as it should.
var ErrProtocol = errors.New("bad NBD client")

var be = binary.BigEndian

// request is a decoded request without its payload.
type request struct {
	flags, cmd uint16
	cookie     uint64
	off        uint64
	n          uint32
}

func parseRequest(b []byte) (request, error) {
	if len(b) < requestSize || be.Uint32(b) != magicRequest {
		return request{}, fmt.Errorf("%w: no request", ErrProtocol)
	}
	return request{
		flags: be.Uint16(b[4:]), cmd: be.Uint16(b[6:]), cookie: be.Uint64(b[8:]),
		off: be.Uint64(b[16:]), n: be.Uint32(b[24:]),
	}, nil
}

// allowed are the flags that a command may have; ok is false for an unknown command.
func allowed(cmd uint16) (flags uint16, ok bool) {
	switch cmd {
	case cmdRead:
		return cmdFlagDF | cmdFlagFUA, true
	case cmdWrite, cmdFlush, cmdTrim:
		return cmdFlagFUA, true
	case cmdZeroes:
		return cmdFlagFUA | cmdFlagNoHole, true
	case cmdBlockStatus:
		return cmdFlagFUA | cmdFlagReqOne, true
	default:
		return 0, false
	}
}

// check returns what is wrong with a request on a volume of size bytes, or nil.
func (q request) check(size int64, structured, meta bool) error {
	flags, known := allowed(q.cmd)
	switch {
	case !known, q.flags&^flags != 0:
		return syscall.EINVAL
	case q.cmd == cmdFlush:
		return nil
	case q.cmd == cmdBlockStatus && !meta, q.flags&cmdFlagDF != 0 && !structured:
		return syscall.EINVAL
	case q.n == 0:
		return syscall.EINVAL
	case q.off > uint64(size) || uint64(q.n) > uint64(size)-q.off:
		if q.cmd == cmdWrite || q.cmd == cmdZeroes {
			return syscall.ENOSPC
		}
		return syscall.EINVAL
	case (q.cmd == cmdRead || q.cmd == cmdWrite) && q.n > maxRequest:
		return syscall.EOVERFLOW
	default:
		return nil
	}
}

// aligned reports whether the request covers whole blocks.
func (q request) aligned() bool { return (q.off|uint64(q.n))%export.BlockSize == 0 }

// errnoOf is the protocol's number for an error.
func errnoOf(err error) uint32 {
	switch e := export.Errno(err); e {
	case 0, syscall.EPERM, syscall.EIO, syscall.ENOMEM, syscall.EINVAL, syscall.ENOSPC, syscall.EOVERFLOW, syscall.ESHUTDOWN:
		return uint32(e) // the protocol's numbers are Linux's
	default:
		return uint32(syscall.EIO)
	}
}

func appendSimple(b []byte, cookie uint64, errno uint32) []byte {
	b = be.AppendUint32(b, magicSimple)
	b = be.AppendUint32(b, errno)
	return be.AppendUint64(b, cookie)
}

func appendChunk(b []byte, flags, kind uint16, cookie uint64, n int) []byte {
	b = be.AppendUint32(b, magicChunk)
	b = be.AppendUint16(b, flags)
	b = be.AppendUint16(b, kind)
	b = be.AppendUint64(b, cookie)
	return be.AppendUint32(b, uint32(n))
}

// appendFailure answers a request with an error, in the form that its command asks for.
func appendFailure(b []byte, q request, structured bool, err error) []byte {
	if !structured || q.cmd != cmdRead && q.cmd != cmdBlockStatus {
		return appendSimple(b, q.cookie, errnoOf(err))
	}
	b = appendChunk(b, chunkDone, chunkError, q.cookie, 6)
	b = be.AppendUint32(b, errnoOf(err))
	return be.AppendUint16(b, 0) // no message
}

// appendReadHead is what stands before the n bytes of a READ.
func appendReadHead(b []byte, q request, structured bool) []byte {
	if !structured {
		return appendSimple(b, q.cookie, 0)
	}
	return be.AppendUint64(appendChunk(b, chunkDone, chunkOffsetData, q.cookie, 8+int(q.n)), q.off)
}

const maxReadHead = chunkSize + 8
