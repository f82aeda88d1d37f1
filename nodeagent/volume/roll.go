package volume

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
	"mynetwork.io/mynetwork/nodeagent/core/journal"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// opening is one try to open an extent on its members.
type opening struct {
	e       *Engine
	id      block.ExtentID
	members []block.StoreID
	open    journal.Record
	rec     []byte
	hash    block.Hash
	closed  *journal.Record // of the extent before; nil for a volume's first

	mu       sync.Mutex
	acks     map[block.StoreID]error // nil: durable
	outdated bool                    // a member knows a newer layout, and refused
	full     bool
	capacity uint32
	urgent   bool // what was acknowledged needs a place: the users' mark does not hold
	switched bool
	news     interface{ Notify() }
}

// openNext opens a new extent and goes on there. The order is what recovery relies on (invariant R5): the open record
// is durable at a quorum of the new extent before the closed record, which names it, is sent to the old one; and nothing
// in the new extent counts as committed before the closed record is durable at a quorum of the old one (Progress).
//
// The caller has paused the journal. It tries until it succeeds or the engine ends.
func (e *Engine) openNext() error {
	e.lookAtRoom()
	urgent, most := e.openUrgent(), e.spec.Extent
	full := map[block.StoreID]bool{} // beyond the cleaners' mark
	e.jmu.Lock()
	if e.log.extent != (block.ExtentID{}) {
		e.syncSenders()
		e.sealBlock()
	}
	e.jmu.Unlock()
	for {
		if err := e.Err(); err != nil {
			return err
		}
		o := e.propose(urgent, most)
		if o == nil {
			e.forgive()
			e.Env.Sleep(retryPause)
			continue
		}
		if o.try() {
			e.switchTo(o)
			return nil
		}
		e.giveUp(o)
		if urgent = o.noSpace(); urgent && o.urgent {
			e.tellFull(o, full)
			most = max(o.capacity/2, min(leastFirst, e.spec.Extent))
		}
		if urgent == o.urgent {
			e.Env.Sleep(retryPause)
		}
	}
}

// openUrgent tells whether an extent is to be opened beyond the users' mark at once: to ask for users' room in vain would take time, in which cleaning and flushes wait. Once there
// was none, it takes twice as much for users to open one again.
func (e *Engine) openUrgent() bool {
	e.mu.RLock()
	full, known := e.full, e.tidy.tight.known
	e.mu.RUnlock()
	switch {
	case !known:
		return full
	case full:
		return !e.mayHaveRoom(2)
	default:
		return !e.mayHaveRoom(1)
	}
}

// urgentExtent is the capacity of an extent that is opened beyond the users' mark, bytes: the room up to the next mark is
// small on a small disk. It also is that of one by which is learned whether there is room again.
const urgentExtent = 8 << 20

// A store reserves a whole extent when it is opened, so an engine that writes little is not to open large ones: its first is a sixteenth
// of the volume's capacity, and each that was filled is followed by one of twice its own.
const firstShare = 16

// leastFirst is the least capacity of a first extent, bytes: any block fits. That of a volume's extents may be less.
const leastFirst = 1 << 20

const _ = uint(leastFirst - block.MaxPages*block.PageSize) // does not compile if a block could be larger

// nextCapacity is the capacity of the next extent. The caller holds jmu.
func (e *Engine) nextCapacity() uint32 {
	l, most := &e.log, e.spec.Extent
	if l.opened == 0 {
		return min(most, max(most/firstShare, leastFirst))
	}
	if l.chain.DataLen < l.opened/2 && l.chain.LogLen < logCapacity(l.opened)/2 {
		return min(most, l.opened) // it is left early
	}
	return uint32(min(uint64(most), 2*uint64(l.opened)))
}

// propose mints an extent id and lists its replicas: the first R stores of the layout that are believed alive. If there
// are too few it takes, literally, what there is and names missing ones, as long as a majority of R is alive. nil: not
// even that.
func (e *Engine) propose(urgent bool, most uint32) *opening {
	r := e.copies()
	id := block.ExtentID{Volume: e.spec.ID, Epoch: e.epochNow().Number, N: e.mintN()}
	members, alive := e.pick(id, r)
	if alive < r/2+1 || len(members) < r {
		return nil
	}
	e.jmu.Lock()
	defer e.jmu.Unlock()
	e.mu.RLock()
	most = min(most, e.mostCapacity())
	if urgent && !e.tidy.tight.known {
		most = min(most, urgentExtent)
	}
	e.mu.RUnlock()
	capacity := min(e.nextCapacity(), most)
	o := e.newOpening(id, members, capacity)
	o.urgent = urgent
	return o
}

// giveUp frees what a failed try has left, and notes whether it failed for want of space.
func (e *Engine) giveUp(o *opening) {
	full := o.noSpace() || o.urgent
	e.mu.Lock()
	switch {
	case full && o.urgent && o.noSpace():
		e.tidy.giveUp(e.Env.Now())
	case !full || !e.full: // of an earlier want of room it says nothing about this one
		e.tidy.hopeless = false
	}
	e.full = full
	e.mu.Unlock()
	e.tend.Notify()
	e.Env.Go("free", o.abandon)
}

// probeSpace opens a new extent, once, to learn whether there is space again; until it succeeds writes go on by what cleaning gains, if at all.
func (e *Engine) probeSpace() {
	e.lookAtRoom()
	e.mu.RLock()
	passes := e.tidy.tight.pass != nil // its end brings room, and it would end early for this
	e.mu.RUnlock()
	if passes || !e.mayHaveRoom(1) {
		return
	}
	if e.pause() != nil {
		return
	}
	defer e.resume()
	e.jmu.Lock()
	e.syncSenders()
	e.sealBlock()
	e.jmu.Unlock()
	o := e.propose(false, urgentExtent)
	switch {
	case o == nil:
	case o.try():
		e.switchTo(o)
	default:
		e.giveUp(o)
	}
}

// mintN takes the next extent number. None is taken twice under an epoch, by whatever session: an extent that was opened in vain, and a
// closed record that names it, may be on a store that a recovery did not hear, and be chosen by a later one (invariant R5).
func (e *Engine) mintN() uint32 {
	e.jmu.Lock()
	defer e.jmu.Unlock()
	n := e.log.nextN
	e.log.nextN++
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ring != nil {
		e.ring.SetMinted(n + 1)
	}
	return n
}

// pick takes the first r living candidates, then dead ones to make up the number. Candidates that are slower than others come after those, and
// candidates that take no new copies are last, but before dead ones: a copy that has to move soon is better than none.
func (e *Engine) pick(x block.ExtentID, r int) (members []block.StoreID, alive int) {
	candidates := slices.DeleteFunc(e.Placer.Candidates(x.Key()), e.left)
	if len(candidates) < r {
		candidates = e.addNamed(candidates)
	}
	e.demote(candidates)
	for _, s := range candidates {
		if len(members) < r && e.believedAlive(s) && !e.left(s) && !e.leftUnheard(s) {
			members = append(members, s)
		}
	}
	alive = len(members)
	for _, s := range candidates {
		if len(members) < r && (!e.believedAlive(s) || e.leftUnheard(s)) {
			members = append(members, s)
		}
	}
	return members, alive
}

// leftUnheard tells that nothing is put on a store under a layout that this node has not heard of yet.
func (e *Engine) leftUnheard(s block.StoreID) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	v, known := e.unheard[s]
	return known && e.Placer.Version() < v
}

// outdated notes why a store did not open an extent: its node knows a newer layout. Who is alive is proposed without those that leave;
// if there are too few of these, no extent is opened before this node has heard of that layout too.
func (e *Engine) outdated(why *replica.LayoutError) {
	e.mu.Lock()
	news := e.newest < why.Version
	e.newest = max(e.newest, why.Version)
	for _, s := range why.Leaving {
		e.unheard[s] = max(e.unheard[s], why.Version)
	}
	e.mu.Unlock()
	if news {
		e.Logf("volume %s: layout %d is in use elsewhere and has not reached this node, which has %d; nothing new is put on %v", e.spec.ID, why.Version, e.Placer.Version(), why.Leaving)
	}
}

// left tells that a store's node is no member of the layout any more: it is read from, and gets nothing.
func (e *Engine) left(s block.StoreID) bool {
	site := e.Placer.Site(s)
	return site.Node != "" && !site.Member
}

// addNamed adds to candidates the stores that hold extents of this volume. A process that was started while a node is down knows
// nothing of that node's stores; the volume does, and can name them.
func (e *Engine) addNamed(candidates []block.StoreID) []block.StoreID {
	out := slices.Clone(candidates)
	e.mu.RLock()
	for _, members := range e.holders {
		for _, s := range members {
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	e.mu.RUnlock()
	slices.SortFunc(out[len(candidates):], func(a, b block.StoreID) int { return slices.Compare(a[:], b[:]) })
	return out
}

// newOpening builds the closed and the open record. The caller holds jmu.
func (e *Engine) newOpening(id block.ExtentID, members []block.StoreID, capacity uint32) *opening {
	o := &opening{e: e, id: id, members: members, capacity: capacity, acks: make(map[block.StoreID]error), news: nil}
	chain := e.log.chain
	epoch := e.epochNow()
	var previous block.ExtentID
	if chain.Seq != 0 {
		c := journal.Closed{Next: id, Members: members}
		o.closed = &journal.Record{Type: journal.TypeClosed, Body: c.Encode(), Seq: chain.Seq + 1, Epoch: epoch, Prev: chain.Hash,
			LogOff: chain.LogLen, DataOff: chain.DataLen}
		_, h := o.closed.Append(nil)
		chain = journal.Chain{Seq: chain.Seq + 1, Hash: h}
		previous = e.log.extent
	}
	e.mu.RLock()
	body := journal.Open{Extent: id, Previous: previous, Layout: e.Placer.Version(), Replicas: uint8(len(members)), Quorum: uint8(o.quorum()),
		Capacity: capacity, Checkpoint: e.checkpoint, Members: members, History: e.history}
	e.mu.RUnlock()
	o.open = journal.Record{Type: journal.TypeOpen, Body: body.Encode(), Seq: chain.Seq + 1, Epoch: epoch, Prev: chain.Hash}
	o.rec, o.hash = o.open.Append(nil)
	journal.SetMAC(o.rec, e.codec.mac(e.spec.ID, o.hash))
	return o
}

// quorum is W of the extent, whatever R is by now.
func (o *opening) quorum() int { return o.e.flushQuorum(len(o.members)) }

// structure is how many members must have its open record.
func (o *opening) structure() int { return o.e.structure(len(o.members)) }

// try sends the open record and reports whether a quorum has it durable.
func (o *opening) try() bool {
	news := o.e.Env.NewSignal()
	o.news = news
	epoch := o.e.epochNow()
	for _, s := range o.members {
		var head [replica.AppendHeadSize]byte
		h := replica.Head{Store: s, Epoch: epoch, Extent: o.id}
		replica.PutAppendHead(head[:], &h, len(o.rec))
		typ := replica.TypeAppend
		if o.urgent {
			typ = replica.TypeAppendGC
		}
		o.e.Client.Transport.Send(s, typ, o.answer(s), head[:], o.rec)
	}
	quorum := o.structure()
	deadline := o.e.Env.Now() + slowReplica
	for {
		good, all := o.count()
		left := deadline - o.e.Env.Now()
		switch {
		case all:
			return good >= quorum
		case left <= 0 || o.e.Err() != nil:
			return good >= quorum && o.e.Err() == nil
		}
		news.WaitFor(left)
	}
}

func (o *opening) answer(s block.StoreID) replica.Done {
	return func(st replica.Status, body []byte, err error) {
		ok := err == nil && st == replica.StatusOK
		if err == nil && st == replica.StatusFenced {
			o.e.fenced(s, body)
		}
		if o.e.epochNow().Session != o.open.Epoch.Session {
			return // late: see sender.finish
		}
		why := err
		if err == nil && !ok {
			why = replica.ErrorOf(st, append([]byte(nil), body...))
		}
		o.mu.Lock()
		switched := o.switched
		o.acks[s] = why
		o.full = o.full || (err == nil && st == replica.StatusFull)
		o.outdated = o.outdated || (err == nil && st == replica.StatusLayout)
		o.mu.Unlock()
		if err == nil && st == replica.StatusUnsure {
			o.e.settle(s, o.id, replica.ErrUnsure)
		}
		if err == nil && st == replica.StatusLayout {
			o.e.outdated(replica.DecodeLayoutError(body))
		}
		switch {
		case !switched:
			o.news.Notify()
		case ok:
			o.e.acked(o.id, s, o.open.Seq)
		default:
			o.e.memberFailed(o.id, s, why)
		}
	}
}

func (o *opening) count() (good int, all bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, err := range o.acks {
		if err == nil {
			good++
		}
	}
	return good, len(o.acks) == len(o.members)
}

// noSpace tells whether a member had no room; answers may still come.
func (o *opening) noSpace() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.full
}

// abandon frees what a failed try has left.
func (o *opening) abandon() {
	o.mu.Lock()
	o.e.mu.Lock()
	for s, err := range o.acks {
		if err != nil && !o.outdated { // a store that knows more than this node has not failed
			o.e.suspectLocked(s, err)
			o.e.suspects[s].full = errors.Is(err, replica.ErrFull) && !o.urgent
		}
	}
	o.e.mu.Unlock()
	o.mu.Unlock()
	for _, s := range o.members {
		_ = o.e.Client.Free(s, o.e.epochNow(), o.id) // a store that cannot be reached frees it as an orphan later
	}
}

// switchTo closes the present extent and makes the opened one the present.
func (e *Engine) switchTo(o *opening) {
	e.jmu.Lock()
	defer e.jmu.Unlock()
	if o.closed != nil {
		e.append(o.closed)
	}
	leaves := e.leaving(o.members) > 0
	l := &e.log
	old := l.ordinal
	oldChain := l.chain
	l.extent, l.capacity, l.opened, l.block = o.id, o.capacity, o.capacity, nil
	l.chain = journal.Chain{}
	l.chain.Advance(&o.open, o.hash)
	l.senders = l.senders[:0:0]
	e.mu.Lock()
	x := e.progress.Open(o.id, o.open.Seq, o.structure(), o.members)
	x.Flush = o.quorum()
	x.Last = o.open.Seq
	ent := blockmap.ExtentEntry{Epoch: o.id.Epoch, N: o.id.N, State: blockmap.ExtentOpen, Replicas: uint8(len(o.members)), Quorum: uint8(o.quorum())}
	setMembers(&ent, o.members)
	l.ordinal = e.cat.addExtent(e.spec.ID, ent)
	e.holders[o.id] = o.members
	if o.closed != nil {
		e.closeEntry(old, &oldChain)
	}
	e.full, e.tidy.hopeless = o.urgent, false
	e.tidy.tight.anew = e.tidy.tight.anew && e.full
	if leaves { // for want of others: a node that was not counted on any more is again
		e.stock.report.Synced = 0
		e.stock.fallbacks++
	}
	e.stats.Rolls++
	if e.full || e.tidy.tight.due() {
		e.tend.Notify()
	}
	e.mu.Unlock()
	o.mu.Lock()
	o.switched = true
	acks := maps.Clone(o.acks)
	o.mu.Unlock()
	for _, s := range o.members {
		w := e.newSender(o.id, s)
		if err, known := acks[s]; known && err == nil {
			e.acked(o.id, s, o.open.Seq)
		} else if known {
			w.failed = true
			e.memberFailed(o.id, s, fmt.Errorf("did not take the open record: %w", err))
		}
		l.senders = append(l.senders, w)
	}
	e.orderSenders()
}

// closeEntry notes in the directory how an extent ended. Until every member is known to have all of it, it counts as
// degraded: the note may become durable, and the next writer must look. The caller holds mu.
func (e *Engine) closeEntry(ordinal uint32, c *journal.Chain) {
	ent := *e.cat.extents.at(ordinal)
	ent.State = blockmap.ExtentClosed
	ent.Flags |= extentDegraded
	ent.DataBytes, ent.LogBytes, ent.LastSeq, ent.LastHash = c.DataLen, c.LogLen, c.Seq, c.Hash
	e.cat.setExtent(ordinal, ent)
	id := extentID(e.spec.ID, &ent)
	places := e.Placer.Places(id.Key(), int(ent.Replicas))
	for _, s := range e.membersLocked(id, &ent) {
		e.stock.again = e.stock.again || !slices.Contains(places, s) // it is to be elsewhere, and an audit finds that
	}
}

func setMembers(ent *blockmap.ExtentEntry, members []block.StoreID) {
	ent.Count = uint8(len(members))
	ent.Members = [blockmap.InlineMembers]block.StoreID{}
	copy(ent.Members[:], members)
}
