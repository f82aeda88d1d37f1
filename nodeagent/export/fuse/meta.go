package fuse

import (
	"bytes"

	"golang.org/x/sys/unix"

	"mynetwork.io/mynetwork/nodeagent/export"
)

// meta answers everything that carries no data of the volume.
func (s *Server) meta(e exchange, q request) {
	switch q.op() {
	case opInit:
		s.init(e, q)
	case opLookup:
		s.lookup(e, q)
	case opGetattr:
		s.attr(e, q)
	case opSetattr:
		s.setattr(e, q)
	case opOpen:
		s.open(e, q)
	case opStatfs:
		putStatfs(e.room(statfsOut), s.back.Size())
		e.reply(q, 0, statfsOut)
	case opRelease, opDestroy:
		e.reply(q, 0, 0)
	case opForget, opBatchForget: // have no answer
	default:
		// Among them INTERRUPT, which the kernel then sends no more: a request takes as long as its backend.
		e.reply(q, unix.ENOSYS, 0)
	}
}

func (s *Server) init(e exchange, q request) {
	body := q.arg
	if len(body) < minInitIn {
		e.reply(q, unix.EPROTO, 0)
		return
	}
	major, minor := native.Uint32(body), native.Uint32(body[4:])
	flags := uint64(native.Uint32(body[12:]))
	if flags&initExt != 0 && len(body) >= minInitIn+4 {
		flags |= uint64(native.Uint32(body[16:])) << 32
	}
	if major != protoMajor || minor < protoMinMinor || flags&initRequired != initRequired {
		s.fail(ErrProtocol)
		e.reply(q, unix.EPROTO, 0)
		return
	}
	wanted := uint64(initWanted)
	if s.rings != nil {
		wanted |= initOverUring
	}
	flags &= wanted
	s.resend.Store(flags&initHasResend != 0)
	p := e.room(initOut)
	clear(p)
	native.PutUint32(p, protoMajor)
	native.PutUint32(p[4:], min(minor, protoMinor))
	native.PutUint32(p[12:], uint32(flags))
	native.PutUint16(p[16:], s.opt.MaxBackground)
	native.PutUint16(p[18:], s.opt.MaxBackground) // the congestion threshold
	native.PutUint32(p[20:], MaxIO)
	native.PutUint32(p[24:], 1) // time granularity, ns
	native.PutUint16(p[28:], MaxIO/pageSize)
	native.PutUint32(p[32:], uint32(flags>>32))
	e.reply(q, 0, initOut)
	s.initialised(flags&initOverUring != 0)
}

func (s *Server) lookup(e exchange, q request) {
	name, _, _ := bytes.Cut(q.data, []byte{0})
	if q.node() != rootNode || string(name) != FileName {
		e.reply(q, unix.ENOENT, 0)
		return
	}
	p := e.room(entryOut)
	clear(p)
	native.PutUint64(p, fileNode)
	native.PutUint64(p[16:], forever)
	native.PutUint64(p[24:], forever)
	putAttr(p[40:], fileNode, s.back.Size())
	e.reply(q, 0, entryOut)
}

func (s *Server) attr(e exchange, q request) {
	if q.node() != rootNode && q.node() != fileNode {
		e.reply(q, unix.ENOENT, 0)
		return
	}
	p := e.room(attrOut)
	clear(p)
	native.PutUint64(p, forever)
	putAttr(p[16:], q.node(), s.back.Size())
	e.reply(q, 0, attrOut)
}

// setattr takes everything but a size that is not the file's: times and modes are not kept.
func (s *Server) setattr(e exchange, q request) {
	body := q.arg
	if len(body) < setattrIn {
		e.reply(q, unix.EIO, 0)
		return
	}
	if native.Uint32(body)&setattrSize != 0 && int64(native.Uint64(body[16:])) != s.back.Size() {
		e.reply(q, unix.EPERM, 0)
		return
	}
	s.attr(e, q)
}

func (s *Server) open(e exchange, q request) {
	if q.node() != fileNode {
		e.reply(q, unix.EISDIR, 0)
		return
	}
	if r, ok := s.back.(export.ReadOnly); ok && r.ReadOnly() && (len(q.arg) < 4 || native.Uint32(q.arg)&unix.O_ACCMODE != unix.O_RDONLY) {
		e.reply(q, unix.EROFS, 0)
		return
	}
	p := e.room(openOut)
	clear(p)
	native.PutUint32(p[8:], openDirectIO|openKeepCache|openNoFlush|openParallelWrites)
	e.reply(q, 0, openOut)
}
