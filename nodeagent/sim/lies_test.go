package sim

import (
	"encoding/binary"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/core/replication"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// The lies below are the negative controls: each breaks one rule of the protocol from outside, and the checks of a run
// must notice it within a few seeds.

// honest is the base of lies: it does nothing.
type honest struct{}

func (honest) onSend(*World, *proc, *node, *request) bool { return false }
func (honest) onHandle(*World, *node, *request) bool      { return false }
func (honest) onEnd(*World, *node, bool)                  {}

// eagerAck answers appends before they are durable.
type eagerAck struct{ honest }

func (eagerAck) onHandle(_ *World, n *node, r *request) bool {
	seq, ok := appendSeq(r)
	if !ok {
		return false
	}
	var b [replica.AppendReplySize]byte
	binary.LittleEndian.PutUint64(b[:], seq)
	r.Reply(replica.StatusOK, b[:])
	n.srv.Handle(r.c.src.node.name, r.typ, r.body, deaf{})
	return true
}

func appendSeq(r *request) (uint64, bool) {
	if r.typ != replica.TypeAppend || len(r.body) < headSize+4+24 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(r.body[headSize+4+16:]), true
}

// deaf takes replies that nobody waits for.
type deaf struct{}

func (deaf) Reply(replica.Status, ...[]byte) {}

// falseQuorum answers in the name of all replicas but the writer's own, which get nothing: a quorum of one counts as more.
type falseQuorum struct{ honest }

func (falseQuorum) onSend(w *World, src *proc, dst *node, r *request) bool {
	seq, ok := appendSeq(r)
	if !ok || src.node == dst {
		return false
	}
	var b [replica.AppendReplySize]byte
	binary.LittleEndian.PutUint64(b[:], seq)
	w.s.after(time.Millisecond, func() {
		if !src.dead {
			r.done(replica.StatusOK, b[:], nil)
		}
	})
	return true
}

// minority lets a recovery ask one replica only: the others seem to have promised, and to hold nothing.
type minority struct{ honest }

func (minority) onSend(w *World, src *proc, dst *node, r *request) bool {
	if r.typ != replica.TypePromise || dst.idx%2 == 0 {
		return false
	}
	st := replica.State{Promised: block.GetEpoch(r.body[16:])}
	w.s.after(time.Millisecond, func() {
		if !src.dead {
			r.done(replica.StatusOK, st.Encode(), nil)
		}
	})
	return true
}

// forgetful replicas keep promises in memory only: a restart loses them.
type forgetful struct {
	honest
	promised map[*node]map[block.VolumeID]block.Epoch
}

func (f *forgetful) onEnd(_ *World, n *node, _ bool) { delete(f.promised, n) }

func (f *forgetful) onHandle(_ *World, n *node, r *request) bool {
	switch r.typ {
	case replica.TypePromise, replica.TypeAppend, replica.TypeCut, replica.TypePull, replica.TypeFree:
	default:
		return false
	}
	e, x := block.GetEpoch(r.body[16:]), block.GetExtentID(r.body[16+block.EpochSize:])
	if f.promised[n] == nil {
		f.promised[n] = make(map[block.VolumeID]block.Epoch)
	}
	raise, err := replication.Admit(f.promised[n][x.Volume], e)
	if err != nil {
		var b [block.EpochSize]byte
		was := f.promised[n][x.Volume]
		was.Put(b[:])
		r.Reply(replica.StatusFenced, b[:])
		return true
	}
	if raise {
		f.promised[n][x.Volume] = e
	}
	if r.typ == replica.TypePromise {
		r.typ = replica.TypeStat // nothing is kept on disk
	}
	return false
}

// byLength merges old tails: the registry's anchor stays where it was first, so that recoveries meet replicas that a new history has left
// behind; replicas keep what they should set aside where it is; and recoveries compare tails by their length alone. All that ends when
// everything is healed, so that the rest of a volume's promises can be kept.
type byLength struct {
	honest
	now, before map[block.VolumeID]journal.Position
}

func newByLength() lie {
	return byLength{now: make(map[block.VolumeID]journal.Position), before: make(map[block.VolumeID]journal.Position)}
}

// lag holds the registry's anchors back.
func (l byLength) lag(w *World) {
	for _, v := range w.vols {
		id := v.spec.ID
		f := w.reg.facts[id]
		if at := f.Anchor.Extent; !at.IsZero() && at != l.before[id].Extent {
			if l.before[id].Extent.IsZero() {
				l.before[id] = f.Anchor
			}
			l.now[id] = f.Anchor
		}
		if f.Anchor = l.before[id]; !w.cfg.faulty {
			f.Anchor = l.now[id]
		}
		w.reg.facts[id] = f
	}
}

func (l byLength) onSend(w *World, _ *proc, _ *node, r *request) bool {
	l.lag(w)
	if r.typ != replica.TypePromise || !w.cfg.faulty {
		return false
	}
	done := r.done
	r.done = func(st replica.Status, body []byte, err error) {
		if s, derr := replica.DecodeState(body); err == nil && st == replica.StatusOK && derr == nil && s.Held {
			s.Chain.Epoch = block.Epoch{Number: 1}
			body = s.Encode()
		}
		done(st, body, err)
	}
	return false
}

func (l byLength) onHandle(w *World, n *node, r *request) bool {
	if (r.typ != replica.TypePull && r.typ != replica.TypeFree) || !w.cfg.faulty {
		return false
	}
	x := block.GetExtentID(r.body[16+block.EpochSize:])
	if st, ok := n.st.Stat(x); !ok || st.Chain.Closed {
		return false
	}
	r.Reply(replica.StatusBusy)
	return true
}

// silentLoss hides from the checks that a history was given up.
type silentLoss struct{ honest }

func (silentLoss) hidesLoss() {}

// lossyRing forgets what a killed process had in its ring.
type lossyRing struct{ honest }

func (lossyRing) onEnd(_ *World, n *node, kill bool) {
	for _, mem := range n.rings {
		if kill && string(mem[:4]) == "MNRG" {
			slots := int(binary.LittleEndian.Uint32(mem[44:]))
			for i := range slots {
				clear(mem[4096+i*64 : 4096+i*64+8])
			}
		}
	}
}

// wrongCache gives back pages that were not verified: one bit is wrong.
type wrongCache struct{ honest }

func (wrongCache) onSend(_ *World, src *proc, _ *node, _ *request) bool {
	if c := src.node.cache; c.lie == nil {
		c.lie = func(v any) any {
			p, ok := v.(*[block.PageSize]byte)
			if !ok || p[0] == 0 {
				return v
			}
			bad := *p
			bad[100] ^= 1
			return &bad
		}
	}
	return false
}

// claimedCopy has stores say that they have fetched a copy, and have it whole, when they have nothing: what is dropped because of it is
// dropped before the new copy is there.
type claimedCopy struct {
	honest
	claims map[claim]replica.State
}

type claim struct {
	store  block.StoreID
	extent block.ExtentID
}

func (l *claimedCopy) onSend(w *World, src *proc, _ *node, r *request) bool {
	if len(r.body) < headSize {
		return false
	}
	k := claim{r.store, r.extent}
	st, ok := l.claims[k]
	switch r.typ {
	case replica.TypePull:
		o := w.byStore[block.StoreID(r.body[headSize:])]
		if o == nil || o.st == nil {
			return false
		}
		x, held := o.st.Stat(r.extent)
		if !held {
			return false
		}
		st = replica.State{Promised: r.epoch, Held: true, Chain: x.Durable}
		l.claims[k] = st
	case replica.TypePromise:
		if !ok {
			return false
		}
	default:
		return false
	}
	w.s.after(time.Millisecond, func() {
		if !src.dead {
			r.done(replica.StatusOK, st.Encode(), nil)
		}
	})
	return true
}

// freeAll has what one store is told to free freed by all.
type freeAll struct{ honest }

func (freeAll) onHandle(w *World, n *node, r *request) bool {
	if r.typ != replica.TypeFree {
		return false
	}
	for _, o := range w.nodes {
		if o != n && o.srv != nil {
			body := append([]byte(nil), r.body...)
			copy(body, o.store[:])
			o.srv.Handle(r.c.src.node.name, r.typ, body, deaf{})
		}
	}
	return false
}

// hastyMove drops the copy that another was fetched from, whatever the directory says.
type hastyMove struct{ honest }

func (hastyMove) onSend(w *World, src *proc, _ *node, r *request) bool {
	if r.typ != replica.TypePull || len(r.body) < headSize+16 {
		return false
	}
	body := append([]byte(nil), r.body[:headSize]...)
	source := block.StoreID(r.body[headSize:])
	copy(body, source[:])
	w.s.after(time.Second, func() {
		if o := w.byStore[source]; o != nil && o.srv != nil && !src.dead {
			o.srv.Handle(src.node.name, replica.TypeFree, body, deaf{})
		}
	})
	return false
}
