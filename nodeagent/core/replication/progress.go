package replication

import (
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// Progress counts, for one writer, what the replicas of its extents have made durable. Extents are in the order of
// the journal; usually there is one, and two while the writer rolls.
type Progress struct {
	extents   []*Extent
	committed uint64
	flushed   uint64
}

// Extent is one extent as the writer sees it.
type Extent struct {
	ID      block.ExtentID
	First   uint64 // sequence of its open record
	Last    uint64 // sequence of its last appended record
	Closed  bool   // Last is the closed record
	Quorum  int    // members that commit a record: see Structure
	Flush   int    // members that answer a FLUSH for it: Quorum, or one if the volume is weak
	Members []Member
}

// Member is one replica of an extent.
type Member struct {
	Store   block.StoreID
	Durable uint64 // highest sequence up to which its log is durable; 0 = nothing yet
	Failed  bool   // takes no more part in this extent; what it made durable still counts
}

// NewProgress starts a writer whose journal is durable at a quorum up to and including seq.
func NewProgress(seq uint64) *Progress { return &Progress{committed: seq, flushed: seq} }

// Open adds the extent that the journal goes on in. first is the sequence of its open record. The caller of a weak volume sets Flush.
func (p *Progress) Open(id block.ExtentID, first uint64, quorum int, members []block.StoreID) *Extent {
	x := &Extent{ID: id, First: first, Last: first, Quorum: quorum, Flush: quorum}
	for _, s := range members {
		x.Members = append(x.Members, Member{Store: s})
	}
	p.extents = append(p.extents, x)
	return x
}

// Find gives the extent with this id, or nil once it is settled and gone.
func (p *Progress) Find(id block.ExtentID) *Extent {
	for _, x := range p.extents {
		if x.ID == id {
			return x
		}
	}
	return nil
}

// Current is the extent that takes appends.
func (p *Progress) Current() *Extent { return p.extents[len(p.extents)-1] }

// Ack tells that a member's log is durable up to seq, also of one that has failed meanwhile. It returns whether Committed
// or Released may have moved. The answer must be to what this session sent: a recovery may have put other records under the
// same sequences (invariant R7).
func (p *Progress) Ack(id block.ExtentID, s block.StoreID, seq uint64) bool {
	x := p.Find(id)
	if x == nil {
		return false
	}
	m := x.member(s)
	if m == nil || seq <= m.Durable || seq > x.Last {
		return false
	}
	m.Durable = seq
	p.advance()
	return true
}

// Fail takes a member out of an extent: it is sent nothing more. What it had made durable counts on.
func (p *Progress) Fail(id block.ExtentID, s block.StoreID) {
	if x := p.Find(id); x != nil {
		if m := x.member(s); m != nil {
			m.Failed = true
		}
	}
}

func (x *Extent) member(s block.StoreID) *Member {
	for i := range x.Members {
		if x.Members[i].Store == s {
			return &x.Members[i]
		}
	}
	return nil
}

// Live is the number of members that take part.
func (x *Extent) Live() (n int) {
	for i := range x.Members {
		if !x.Members[i].Failed {
			n++
		}
	}
	return n
}

// Durable is the highest sequence that a quorum of the extent holds, counted over all R members: 0 if none.
func (x *Extent) Durable() uint64 { return x.with(x.Quorum) }

// with is the highest sequence that n members hold.
func (x *Extent) with(n int) uint64 {
	if len(x.Members) < n {
		return 0
	}
	var buf [16]uint64
	d := buf[:0]
	for i := range x.Members {
		d = append(d, x.Members[i].Durable)
	}
	slices.Sort(d)
	return d[len(d)-n]
}

// settled is the highest sequence that every live member holds (and at least a quorum does).
func (x *Extent) settled() uint64 {
	low := x.Durable()
	for i := range x.Members {
		if m := &x.Members[i]; !m.Failed && m.Durable < low {
			low = m.Durable
		}
	}
	return low
}

// advance moves committed over the extents in order: nothing in an extent counts before all of the one before it,
// with its closed record, is durable at its own quorum (invariant R3).
func (p *Progress) advance() {
	for _, x := range p.extents {
		d := x.Durable()
		p.committed = max(p.committed, d)
		p.flushed = max(p.flushed, d, x.with(x.Flush))
		if !x.Closed || d < x.Last {
			return
		}
	}
}

// Committed is the highest sequence up to which every record has a quorum of its extent.
func (p *Progress) Committed() uint64 { return p.committed }

// Flushed is the highest sequence that a FLUSH may be answered for. In a weak volume it may be ahead of Committed, but only within
// one extent: nothing in an extent counts before a quorum has the closed record before, or the next recovery would not find it.
func (p *Progress) Flushed() uint64 { return p.flushed }

// Released is the highest sequence that every live member holds: up to it the ring may let go.
func (p *Progress) Released() uint64 {
	low := p.committed
	for _, x := range p.extents {
		s := x.settled()
		if s < x.Last || !x.Closed {
			return min(low, max(s, x.First-1))
		}
	}
	return low
}

// Retire drops the leading extents that are closed and wholly durable at every live member, and returns them.
func (p *Progress) Retire() (done []*Extent) {
	for len(p.extents) > 1 {
		x := p.extents[0]
		if !x.Closed || x.settled() < x.Last || p.committed < x.Last {
			break
		}
		done = append(done, x)
		p.extents = p.extents[1:]
	}
	return done
}

// Extents lists the extents that are not retired.
func (p *Progress) Extents() []*Extent { return p.extents }
