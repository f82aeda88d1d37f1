package fuse

import "unsafe"

// Commands of FUSE over io_uring.
const (
	cmdRegister = 1
	cmdCommit   = 2 // commit and fetch: an answer, and the entry is free for the next request
)

// uringHeader is struct fuse_uring_req_header.
type uringHeader struct {
	inOut [128]byte // fuse_in_header of a request, then fuse_out_header of its answer
	opIn  [128]byte // the operation's own struct
	ent   uringInOut
}

// uringInOut is struct fuse_uring_ent_in_out.
type uringInOut struct {
	flags     uint64
	commitID  uint64 // names the request in the commit
	payloadSz uint32 // bytes of the payload, both ways
	_         uint32
	_         uint64
}

// uringCmd is struct fuse_uring_cmd_req, the command's own bytes of a submission.
type uringCmd struct {
	flags    uint64
	commitID uint64
	qid      uint16
	_        [6]byte
}

// iovec is struct iovec: a registered entry is two of them, its header and its payload.
type iovec struct {
	base uint64
	size uint64
}

// The kernel's sizes.
var (
	_ [288]byte = [unsafe.Sizeof(uringHeader{})]byte{}
	_ [32]byte  = [unsafe.Sizeof(uringInOut{})]byte{}
	_ [24]byte  = [unsafe.Sizeof(uringCmd{})]byte{}
	_ [16]byte  = [unsafe.Sizeof(iovec{})]byte{}
)

// argSize is how much of opIn an operation uses. Those that are not named take all of it: no handler looks further than
// the struct that it knows.
func argSize(op uint32) int {
	switch op {
	case opLookup, opStatfs:
		return 0
	case opWrite:
		return writeIn
	default:
		return len(uringHeader{}.opIn)
	}
}
