package fuse

import (
	"encoding/binary"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// Sizes of the wire, in bytes.
const (
	pageSize   = 4096
	inHeader   = 40
	outHeader  = 16
	writeIn    = 40
	initOut    = 64
	attrOut    = 16 + attrSize
	entryOut   = 40 + attrSize
	attrSize   = 88
	statfsOut  = 80
	openOut    = 16
	writeOut   = 8
	invalOut   = 24
	minInitIn  = 16
	readSize   = 40
	fallocSize = 32
	setattrIn  = 88
	maxName    = 255
)

// Opcodes.
const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opSetattr     = 4
	opOpen        = 14
	opRead        = 15
	opWrite       = 16
	opStatfs      = 17
	opRelease     = 18
	opFsync       = 20
	opInit        = 26
	opInterrupt   = 36
	opDestroy     = 38
	opBatchForget = 42
	opFallocate   = 43
)

// Notifications to the kernel.
const (
	notifyInvalInode = 2
	notifyResend     = 7
)

// Flags of INIT; the higher 32 bits travel in flags2.
const (
	initAsyncRead  = 1 << 0
	initBigWrites  = 1 << 5
	initAsyncDIO   = 1 << 15
	initAbortError = 1 << 21
	initMaxPages   = 1 << 22
	initExt        = 1 << 30
	initHasResend  = 1 << 39
	initOverUring  = 1 << 41

	initWanted   = initAsyncRead | initBigWrites | initAsyncDIO | initAbortError | initMaxPages | initExt | initHasResend
	initRequired = initAsyncDIO | initMaxPages
)

// Flags of OPEN's answer.
const (
	openDirectIO       = 1 << 0
	openKeepCache      = 1 << 1
	openNoFlush        = 1 << 5
	openParallelWrites = 1 << 6
)

const (
	uniqueResend = 1 << 63 // set in a request that is sent again

	protoMajor    = 7
	protoMinMinor = 31 // the oldest minor that has all that is required
	protoMinor    = 40 // the newest that this server knows; 7.40 has FUSE_HAS_RESEND

	rootNode = 1
	fileNode = 2

	setattrSize = 1 << 3

	forever = uint64(365 * 24 * time.Hour / time.Second)
)

var native = binary.LittleEndian

// request is one request, as views of its transport's buffers.
type request struct {
	head []byte // fuse_in_header
	arg  []byte // the operation's own struct
	data []byte // what follows: the bytes of a WRITE, the name of a LOOKUP
}

func (q request) op() uint32     { return native.Uint32(q.head[4:]) }
func (q request) unique() uint64 { return native.Uint64(q.head[8:]) }
func (q request) node() uint64   { return native.Uint64(q.head[16:]) }
func (q request) resent() bool   { return q.unique()&uniqueResend != 0 }

// id is the identity that a request has on connection conn, however often it is sent.
func (q request) id(conn [16]byte) export.RequestID {
	return export.NewRequestID(conn, q.unique()&^uniqueResend)
}

// parse cuts what was read from /dev/fuse. It reports false unless p is one whole request that tells its own length.
func parse(p []byte) (q request, ok bool) {
	if len(p) < inHeader || int64(native.Uint32(p)) != int64(len(p)) {
		return q, false
	}
	q.head, q.arg = p[:inHeader], p[inHeader:]
	switch q.op() {
	case opLookup:
		q.arg, q.data = nil, q.arg
	case opWrite:
		n := min(writeIn, len(q.arg))
		q.arg, q.data = q.arg[:n], q.arg[n:]
	}
	return q, true
}

// putHeader fills a reply's header; n is the length of what follows it.
func putHeader(p []byte, unique uint64, errno syscall.Errno, n int) {
	native.PutUint32(p, uint32(outHeader+n))
	native.PutUint32(p[4:], uint32(-int32(errno)))
	native.PutUint64(p[8:], unique)
}

// putAttr fills a fuse_attr of the root or the file.
func putAttr(p []byte, node uint64, size int64) {
	clear(p[:attrSize])
	mode, links := uint32(unix.S_IFREG|0o600), uint32(1)
	if node == rootNode {
		mode, links, size = unix.S_IFDIR|0o700, 2, 0
	}
	native.PutUint64(p, node)
	native.PutUint64(p[8:], uint64(size))
	native.PutUint64(p[16:], uint64(size/512))
	native.PutUint32(p[60:], mode)
	native.PutUint32(p[64:], links)
	native.PutUint32(p[80:], pageSize)
}

// putStatfs fills a fuse_statfs_out. The block size is what a loop device takes as its discard granularity.
func putStatfs(p []byte, size int64) {
	clear(p[:statfsOut])
	native.PutUint64(p, uint64(size/pageSize))
	native.PutUint64(p[24:], 1) // files
	native.PutUint32(p[40:], pageSize)
	native.PutUint32(p[44:], maxName)
	native.PutUint32(p[48:], pageSize)
}
