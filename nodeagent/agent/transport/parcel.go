package transport

import (
	"mynetwork.io/mynetwork/nodeagent/peer"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// parcel is what is the same in requests to several stores, copied once; connections and lanes use it from here. Before it there is room
// for the head of the one that stays in this process, so that its body is in one piece.
type parcel struct {
	peer.Shared
	t    *Transport
	mem  *[]byte // of bodies: room for a head, then B
	head int     // bytes of the head, which end where B begins
	end  func()
}

func newParcel(t *Transport) *parcel {
	p := &parcel{t: t}
	p.end = p.giveBack
	return p
}

// pack copies parts to a parcel, which the caller uses from now on.
func (t *Transport) pack(parts [][]byte) *parcel {
	n := replica.AppendHeadSize
	for _, p := range parts {
		n += len(p)
	}
	p := t.shared.Get().(*parcel)
	p.mem, p.head = t.bodies.get(n), 0
	*p.mem = (*p.mem)[:replica.AppendHeadSize]
	for _, b := range parts {
		*p.mem = append(*p.mem, b...)
	}
	p.Init((*p.mem)[replica.AppendHeadSize:], p.end)
	return p
}

// giveBack ends the last use.
func (p *parcel) giveBack() {
	mem := p.mem
	p.mem, p.B = nil, nil
	p.t.bodies.put(mem)
	p.t.shared.Put(p)
}

// lead puts a head before the parcel. Only one store's is.
func (p *parcel) lead(head []byte) {
	p.head = len(head)
	copy((*p.mem)[replica.AppendHeadSize-len(head):], head)
}

// whole is the head and the parcel.
func (p *parcel) whole() []byte { return (*p.mem)[replica.AppendHeadSize-p.head:] }

// tail is the parcel as a connection takes it; nil is nil.
func (p *parcel) tail() *peer.Shared {
	if p == nil {
		return nil
	}
	return &p.Shared
}

// SendAll implements replica.Sharer.
func (t *Transport) SendAll(typ replica.Type, to []replica.Target, parts ...[]byte) {
	p := t.pack(parts)
	defer p.Release()
	for i := range to {
		g := &to[i]
		switch l := t.opt.Local(g.Store); {
		case l == nil:
			t.sendAway(g.Store, typ, g.Done, p, [][]byte{g.Head})
		case p.head == 0 && len(g.Head) <= replica.AppendHeadSize:
			p.lead(g.Head)
			t.localLane(g.Store).add(&item{typ: typ, done: g.Done, parcel: p}, nil)
		default: // another store of this process
			t.sendLocal(g.Store, l, typ, g.Done, [][]byte{g.Head, p.B})
		}
	}
}
