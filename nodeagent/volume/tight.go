package volume

import (
	"cmp"
	"errors"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/blockmap"
)

// Where there is little room, writes go in step with cleaning: a pass takes as many extents as the volume's share of what is left can hold twice, since each costs a checkpoint,
// which a volume that is overwritten at random writes most of its map for; and until it has ended writes may take the share of what is left for users, half of that at once,
// the other half as the pass gets on. So they come to rest where a pass gains as much as they take. DESIGN.md has the arithmetic.
const (
	tightBatch = 256 << 20 // bytes that a pass for want of room copies at most
	vainPasses = 3         // so many passes one after the other that gain nothing tell that there is nothing to gain
	roomParts  = 8         // an extent has at most such a part of the volume's share of the room up to the cleaners' mark,

	plentyParts = 64 // or such a part of what is left for all users until room is short
)

// leastReserve is the least that cleaners have beyond users, bytes, where passes and writes go by the room there is: extents for the ends of three passes. On a smaller disk, of
// less than 128 MiB, users stop at their mark, and the reserve is for cleaning only.
var leastReserve = 3 * sizeOpen(leastFirst)

// sizeOpen is what an extent of a capacity takes while it is open, bytes.
func sizeOpen(capacity uint32) int64 { return int64(capacity) + int64(logCapacity(capacity)) }

// Room is what a store has left for extents, bytes. Below 0: by how much it is beyond the mark.
type Room struct {
	Users    int64 // up to the mark for users
	Cleaners int64 // up to the mark for cleaning, and for what was acknowledged
	Used     int64 // in use or reserved, by whomever
}

// reserve is what cleaners have beyond users.
func (r Room) reserve() int64 { return r.Cleaners - r.Users }

// tight is what is known of the room there is, and how cleaning and writes share it. Guarded by Engine.mu.
type tight struct {
	room  Room
	known bool
	share float64 // of what is in use, this volume's; so much of the room is for it
	said  map[block.StoreID]saidRoom

	allow int64    // bytes that writes may take while room is short
	wrote int64    // bytes written since the latest pass began
	waits bool     // a write waits since then
	check int64    // bytes that the latest checkpoint has written
	pass  *cleaner // that is under way, if room is short
	vain  int      // passes one after the other that have gained nothing
	least int64    // room for cleaners, while nothing is hoped of cleaning: the least since that began
	anew  bool     // live pages were counted anew since there is no room
}

// own is the volume's share of so many bytes.
func (t *tight) own(bytes int64) int64 { return int64(t.share * float64(bytes)) }

// short tells that users' room comes to an end: half of what cleaners have beyond it is left.
func (t *tight) short() bool { return t.known && t.room.Users < t.room.reserve()/2 }

// due tells that room is short, and so much was written that a pass gains something, or a write waits for what it gains.
func (t *tight) due() bool {
	return t.short() && (t.wrote > max(t.own(t.room.reserve()/roomParts), leastFirst) || t.waits && t.vain == 0)
}

// holds tells that writes wait for a pass.
func (t *tight) holds(full bool) bool {
	return t.allow <= 0 && (full || t.short() && t.vain == 0)
}

// most is what writes may take until a pass has ended. The room for one extent is left to who has nothing to clean, and the last quarter of the reserve is for the ends of
// passes and for opening volumes.
func (t *tight) most() int64 {
	if !t.short() || t.room.Cleaners < max(t.room.reserve()/4, leastReserve) {
		return 0
	}
	return max(t.own(t.room.Users-sizeOpen(leastFirst)), 0)
}

// spend notes what is written: pages and their rows.
func (t *tight) spend(bytes int64) {
	bytes += bytes / logShare
	t.wrote += bytes
	t.allow = max(t.allow-bytes, 0)
}

// lookAtRoom notes how much room there is: what the last of as many stores has as an extent wants, of those that are believed alive and known, best first.
func (e *Engine) lookAtRoom() {
	if e.Room == nil {
		return
	}
	var all []Room
	for _, s := range e.Placer.Candidates(block.ExtentID{Volume: e.spec.ID}.Key()) {
		if r, ok := e.Room(s); ok && e.Placer.Alive(s) && e.Placer.Site(s).Takes {
			all = append(all, e.since(s, r))
		}
	}
	slices.SortFunc(all, func(a, b Room) int { return cmp.Compare(b.Users, a.Users) })
	e.mu.Lock()
	defer e.mu.Unlock()
	t := &e.tidy.tight
	short := t.short()
	if t.known = len(all) > 0; t.known {
		t.room = all[min(len(all), e.spec.Replicas)-1]
		t.known = t.room.reserve() >= leastReserve
		waits := e.unpumped()
		t.room.Users, t.room.Cleaners = t.room.Users-waits, t.room.Cleaners-waits
		each := float64(min(e.spec.Replicas, len(all))) / float64(len(all)) // of its extents, on each store
		t.share = min(float64(e.cat.held)*each/float64(max(t.room.Used, 1)), 1)
	}
	if !short && t.short() {
		t.vain = 0
		e.permit(t.most() / 2)
	}
	e.hope()
}

// unpumped is what was acknowledged and is not in the journal yet, bytes: it needs room. The caller holds mu.
func (e *Engine) unpumped() int64 {
	if e.ring == nil || e.ring.Next() <= e.pumped+1 {
		return 0
	}
	return int64(float64(e.ring.Used()) * float64(e.ring.Next()-1-e.pumped) / float64(e.ring.Next()-e.ring.Low()))
}

// hope ends that nothing is hoped of cleaning, once what it lacked may be there. The caller holds mu.
func (e *Engine) hope() {
	t := &e.tidy.tight
	switch {
	case !e.tidy.hopeless:
		t.least = t.room.Cleaners
	case t.known && t.room.Cleaners > t.least+t.room.reserve()/roomParts:
		e.tidy.hopeless = false
		e.tend.Notify()
	default:
		t.least = min(t.least, t.room.Cleaners)
	}
}

// since is what a store has left now, if this volume alone has changed that since it said r: others say it once in a while only.
func (e *Engine) since(s block.StoreID, r Room) Room {
	e.mu.Lock()
	defer e.mu.Unlock()
	said := e.tidy.tight.said
	if said == nil {
		said = make(map[block.StoreID]saidRoom)
		e.tidy.tight.said = said
	}
	if said[s].room != r {
		said[s] = saidRoom{r, e.cat.held}
	}
	more := e.cat.held - said[s].held
	return Room{r.Users - more, r.Cleaners - more, r.Used + more}
}

// saidRoom is what a store said of its room last, and what the volume's closed extents held then.
type saidRoom struct {
	room Room
	held int64
}

// mostCapacity is the capacity that an extent has at most where there is little room. The caller holds mu.
func (e *Engine) mostCapacity() uint32 {
	t := &e.tidy.tight
	switch {
	case !t.known && e.full:
		return urgentExtent
	case !t.known:
		return e.spec.Extent
	}
	most := min(t.own(t.room.Cleaners)/roomParts, t.room.reserve()/2) // so that its copies find room when nothing else is left
	most = max(most, (t.room.Users-t.room.reserve()/2)/plentyParts, leastFirst)
	return uint32(min(most/block.PageSize*block.PageSize, int64(e.spec.Extent)))
}

// mayHaveRoom tells whether users may open that many extents again, as far as is known: without that, it is tried.
func (e *Engine) mayHaveRoom(n int64) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	t, capacity := &e.tidy.tight, min(e.mostCapacity(), urgentExtent)
	return !t.known || t.room.Users > n*sizeOpen(capacity)
}

// spares tells whether an extent may be opened beyond the users' mark for one that lacks a copy.
func (e *Engine) spares() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	t := &e.tidy.tight
	return t.known && t.room.Cleaners > t.room.reserve()/4+sizeOpen(e.mostCapacity())
}

// ending is what a pass leaves for its end: its checkpoint, and an extent for it of a capacity. The caller holds mu.
func (e *Engine) ending(capacity uint32) int64 { return e.tidy.tight.check + sizeOpen(capacity) }

// scarce tells that a pass has to end, as its end needs the room that is left.
func (c *cleaner) scarce() bool {
	if !c.tight {
		return false
	}
	c.e.lookAtRoom()
	c.e.mu.RLock()
	defer c.e.mu.RUnlock()
	t := &c.e.tidy.tight
	c.poor = t.known && t.room.Cleaners < c.e.ending(leastFirst)
	return c.poor
}

// giveBack ends the open extent if much more is reserved for it than one gets now: what it does not fill is room.
func (c *cleaner) giveBack() {
	e := c.e
	e.jmu.Lock()
	unused := int64(e.log.capacity) - int64(e.log.chain.DataLen)
	e.jmu.Unlock()
	e.mu.RLock()
	next := sizeOpen(e.mostCapacity())
	gains := unused > 2*next && e.tidy.tight.room.Cleaners > next
	e.mu.RUnlock()
	if gains {
		e.healOpen()
	}
}

// enter gives writes the first part of what they may take until the pass has ended. The caller holds mu.
func (c *cleaner) enter() {
	t := &c.e.tidy.tight
	t.pass, c.grant = c, t.most()
	c.granted = c.grant / 2
	c.e.permit(c.granted)
}

// permit lets writes take so many bytes from now on. The caller holds mu.
func (e *Engine) permit(bytes int64) {
	e.tidy.tight.allow = bytes
	e.letWrite()
}

// letWrite wakes the writes that wait, if they may go on. The caller holds mu.
func (e *Engine) letWrite() {
	if e.tidy.tight.allow <= 0 {
		return
	}
	for _, w := range e.room {
		w.Set()
	}
	e.room = nil
}

// plan takes of the victims, which are in order of how much of them lives, those whose copies there is room for.
func (c *cleaner) plan(extents *extentTable, live []int64) {
	e := c.e
	e.mu.Lock()
	defer e.mu.Unlock()
	t := &e.tidy.tight
	apart := c.grant + e.ending(e.mostCapacity()) // what else takes room until the victims are freed
	all := c.order
	c.order = fitting(all, extents, live, min(t.own(t.room.Cleaners)-apart, tightBatch), t.check)
	if len(c.order) == 0 && len(all) > 0 && copySize(live[all[0]]) <= t.room.Cleaners-apart { // the share is small
		c.order = all[:1]
	}
	c.more = len(c.order) < len(all)
}

// fitting takes extents, emptiest first, whose copies have so many bytes together at most, as long as each gains half as much of its size as those before it together, and their
// checkpoint, do.
func fitting(order []uint32, extents *extentTable, live []int64, budget, check int64) (out []uint32) {
	var size, copies, gains int64
	for _, o := range order {
		s, l := sizeOfExtent(extents.at(o)), copySize(live[o])
		if 2*(s-l)*size < (gains-check)*s {
			break
		}
		if copies+l <= budget {
			out, size, copies, gains = append(out, o), size+s, copies+l, gains+s-l
		}
	}
	return out
}

// sizeOfExtent is what a closed extent takes on each store.
func sizeOfExtent(x *blockmap.ExtentEntry) int64 { return int64(x.DataBytes) + int64(x.LogBytes) }

// copySize is what the copies of so many pages take, with rows and records.
func copySize(pages int64) int64 { return pages * (block.PageSize + block.RowSize + 8) }

// earn gives writes the second half of what they may take, as the pass writes copies and its checkpoint. The caller holds mu.
func (c *cleaner) earn(written int64) {
	rest := c.grant - c.grant/2
	more := min(rest*written/max(c.live+c.e.tidy.tight.check, 1), c.grant-c.granted)
	c.granted += more
	c.e.permit(c.e.tidy.tight.allow + more)
}

// wroteIndex notes what a checkpoint has written.
func (e *Engine) wroteIndex(bytes int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.tidy.tight.pass; c != nil {
		c.earn(bytes)
	}
}

// settle is called when the pass has ended. It notes whether passes gain anything, and lets writes take half of what they may until the next one has ended.
func (c *cleaner) settle(err error) {
	if !c.tight {
		return
	}
	e := c.e
	e.lookAtRoom()
	e.mu.Lock()
	defer e.mu.Unlock()
	t := &e.tidy.tight
	t.pass = nil
	t.waits = t.waits || len(e.room) > 0
	e.permit(t.most() / 2)
	switch {
	case err == nil && c.gone > c.copied+t.check:
		t.vain = 0
		return
	case c.cut && !c.poor: // somebody waits for its end
		return
	}
	if t.vain++; t.vain >= vainPasses && e.full {
		t.vain = 0
		e.tidy.giveUp(e.Env.Now())
	}
}

// cleansItself tells that the volume is being written to, and begins passes by the room there is.
func (e *Engine) cleansItself() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.tidy.tight.known && e.written()
}

// chooseFrom is choose, again after a checkpoint if there was none since the latest pass (former) and nothing is found; and if writes wait for room, once more
// with all pages counted anew: counts only say where to look.
func (c *cleaner) chooseFrom(former bool) error {
	e := c.e
	err := c.choose()
	if err == nil && len(c.victims) == 0 && former {
		if err = e.checkpointNow(nil); err == nil {
			err = c.choose()
		}
	}
	if err != nil || len(c.victims) > 0 || !c.wanted {
		return err
	}
	e.mu.Lock()
	done := e.tidy.tight.anew
	e.tidy.tight.anew = true
	e.mu.Unlock()
	if done {
		return nil
	}
	if err := errors.Join(e.recount(), e.checkpointNow(nil)); err != nil {
		return err
	}
	return c.choose()
}
