package fuse

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// meta answers everything that carries no data of the volume.
func (r *reader) meta(q request) {
	switch q.op() {
	case opInit:
		r.init(q)
	case opLookup:
		r.lookup(q)
	case opGetattr:
		r.attr(q)
	case opSetattr:
		r.setattr(q)
	case opOpen:
		r.open(q)
	case opStatfs:
		putStatfs(r.out[outHeader:], r.s.back.Size())
		r.reply(q, 0, statfsOut)
	case opRelease, opDestroy:
		r.reply(q, 0, 0)
	case opForget, opBatchForget: // have no answer
	default:
		// Among them INTERRUPT, which the kernel then sends no more: a request takes as long as its backend.
		r.reply(q, unix.ENOSYS, 0)
	}
}

func (r *reader) init(q request) {
	body := q.body()
	if len(body) < minInitIn {
		r.reply(q, unix.EPROTO, 0)
		return
	}
	major, minor := native.Uint32(body), native.Uint32(body[4:])
	flags := uint64(native.Uint32(body[12:]))
	if flags&initExt != 0 && len(body) >= minInitIn+4 {
		flags |= uint64(native.Uint32(body[16:])) << 32
	}
	if major != protoMajor || minor < protoMinMinor || flags&initRequired != initRequired {
		r.s.fail(ErrProtocol)
		r.reply(q, unix.EPROTO, 0)
		return
	}
	flags &= initWanted
	r.s.resend.Store(flags&initHasResend != 0)
	p := r.out[outHeader : outHeader+initOut]
	clear(p)
	native.PutUint32(p, protoMajor)
	native.PutUint32(p[4:], min(minor, protoMinor))
	native.PutUint32(p[12:], uint32(flags))
	native.PutUint16(p[16:], r.s.opt.MaxBackground)
	native.PutUint16(p[18:], r.s.opt.MaxBackground) // the congestion threshold
	native.PutUint32(p[20:], MaxIO)
	native.PutUint32(p[24:], 1) // time granularity, ns
	native.PutUint16(p[28:], MaxIO/pageSize)
	native.PutUint32(p[32:], uint32(flags>>32))
	r.reply(q, 0, initOut)
	r.s.once.Do(func() { close(r.s.ready) })
}

func (r *reader) lookup(q request) {
	name, _, _ := bytes.Cut(q.body(), []byte{0})
	if q.node() != rootNode || string(name) != FileName {
		r.reply(q, unix.ENOENT, 0)
		return
	}
	p := r.out[outHeader : outHeader+entryOut]
	clear(p)
	native.PutUint64(p, fileNode)
	native.PutUint64(p[16:], forever)
	native.PutUint64(p[24:], forever)
	putAttr(p[40:], fileNode, r.s.back.Size())
	r.reply(q, 0, entryOut)
}

func (r *reader) attr(q request) {
	if q.node() != rootNode && q.node() != fileNode {
		r.reply(q, unix.ENOENT, 0)
		return
	}
	p := r.out[outHeader : outHeader+attrOut]
	clear(p)
	native.PutUint64(p, forever)
	putAttr(p[16:], q.node(), r.s.back.Size())
	r.reply(q, 0, attrOut)
}

// setattr takes everything but a size that is not the file's: times and modes are not kept.
func (r *reader) setattr(q request) {
	body := q.body()
	if len(body) < setattrIn {
		r.reply(q, unix.EIO, 0)
		return
	}
	if native.Uint32(body)&setattrSize != 0 && int64(native.Uint64(body[16:])) != r.s.back.Size() {
		r.reply(q, unix.EPERM, 0)
		return
	}
	r.attr(q)
}

func (r *reader) open(q request) {
	if q.node() != fileNode {
		r.reply(q, unix.EISDIR, 0)
		return
	}
	p := r.out[outHeader : outHeader+openOut]
	clear(p)
	native.PutUint32(p[8:], openDirectIO|openKeepCache|openNoFlush|openParallelWrites)
	r.reply(q, 0, openOut)
}
