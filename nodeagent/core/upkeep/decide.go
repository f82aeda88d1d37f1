package upkeep

import (
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// view is one extent, sorted out.
type view struct {
	net     Network
	x       *Extent
	members []Copy
	spare   []Copy // copies that the directory does not name
	places  []block.StoreID
	whole   int // whole copies, named or not
	good    int // whole members
}

func look(net Network, x *Extent) *view {
	v := &view{net: net, x: x, places: net.Places(x.ID, x.Want)}
	for _, c := range x.Copies {
		if c.Member {
			v.members = append(v.members, c)
		} else {
			v.spare = append(v.spare, c)
		}
		if c.State == Whole {
			v.whole++
			if c.Member {
				v.good++
			}
		}
	}
	return v
}

// count adds what is seen, before anything is decided.
func (v *view) count(sum *Summary) {
	sum.Extents++
	sum.Bytes += v.x.Bytes
	for _, c := range v.x.Copies {
		if c.State == Whole || (c.State == Lacking && !c.Member) {
			sum.Held[c.Store]++
		}
		if c.State == Whole && v.whole == 1 && v.x.Want > 1 {
			sum.Only[c.Store]++
		}
	}
	if v.whole == 0 {
		sum.Lost++
	}
	if v.x.Lacks() {
		sum.Below++
	}
}

// Lacks tells whether the extent needs repair: a member lacks a part or is gone, or there are too few of them. A store that is away
// for a while is not missed: it is expected back with what it has.
func (x *Extent) Lacks() bool {
	members, bad := 0, false
	for _, c := range x.Copies {
		if c.Member {
			members++
			bad = bad || c.State == Lacking || c.State == Gone
		}
	}
	return bad || members < x.Want
}

func (v *view) class() Class {
	if v.whole <= 1 && v.x.Want > 1 || v.whole < v.x.Min {
		return Last
	}
	return Below
}

func (v *view) action(k Kind, c Class, s block.StoreID, members []block.StoreID) Action {
	a := Action{Kind: k, Class: c, Extent: v.x.ID, Store: s, Members: members, Bytes: v.x.Bytes, whole: v.whole}
	if k == Fetch {
		a.Sources = v.sources(s)
	}
	return a
}

// decide gives the next thing to do for the extent: repair first, then what there is too much of, then moves; drops only if
// there is nothing else.
func (v *view) decide(sum *Summary) []Action {
	if v.x.Lacks() {
		sum.Repair += v.x.Bytes
		if v.whole > 0 {
			return v.repair()
		}
		return nil
	}
	misplaced, stuck := v.misplaced()
	sum.Stuck += stuck
	sum.Misplace += len(misplaced)
	for _, m := range misplaced {
		if !m.held {
			sum.Moving += v.x.Bytes
		}
	}
	if !v.x.Settled {
		sum.Waiting += len(misplaced)
		return nil
	}
	if len(v.members) > v.x.Max && v.good == len(v.members) {
		if out := v.trim(); out != nil {
			sum.Surplus++
			return out
		}
	}
	if len(misplaced) > 0 && v.whole > 0 {
		m := &misplaced[0]
		return v.give(m.why, m.at, m.to)
	}
	return v.drops(sum)
}

// ids lists the members, the copy at index at replaced by s; at len(members) it is added.
func (v *view) ids(at int, s block.StoreID) (out []block.StoreID) {
	for i, m := range v.members {
		if i == at {
			out = append(out, s)
		} else {
			out = append(out, m.Store)
		}
	}
	if at == len(v.members) {
		out = append(out, s)
	}
	return out
}

// sources lists whole copies to pull from, those of stores that stay first; which of several is asked first depends on the
// extent, so that all of them share the work.
func (v *view) sources(target block.StoreID) (out []block.StoreID) {
	for _, stays := range []bool{true, false} {
		var some []block.StoreID
		for _, c := range v.x.Copies {
			if c.State == Whole && c.Store != target && v.net.Site(c.Store).Takes == stays {
				some = append(some, c.Store)
			}
		}
		if len(some) > 1 {
			k := int(v.x.ID.N) % len(some)
			some = append(some[k:len(some):len(some)], some[:k]...)
		}
		out = append(out, some...)
	}
	return out
}

// repair gives the extent another whole member: who lacks a part pulls it; who is gone, or leaves and lacks a part, is
// replaced, if possible by a copy that is there.
func (v *view) repair() []Action {
	class := v.class()
	at := len(v.members)
	for i, m := range v.members {
		if m.State == Lacking && v.net.Site(m.Store).Takes && v.net.Ready(m.Store) {
			return v.give(class, i, m.Store)
		}
	}
	for i, m := range v.members {
		if m.State == Gone {
			at = i
		}
	}
	if at < len(v.members) || len(v.members) < v.x.Want {
		if c, ok := v.adopt(at); ok {
			return []Action{v.action(Name, class, c, v.ids(at, c))}
		}
		if t, ok := v.target(at, true); ok {
			return v.give(class, at, t)
		}
	}
	for i, m := range v.members { // what leaves and lacks something is still the best there is
		if m.State == Lacking && v.net.Ready(m.Store) {
			if t, ok := v.target(i, false); ok && v.x.Settled {
				return v.give(class, i, t)
			}
			return v.give(class, i, m.Store)
		}
	}
	return nil
}

// adopt finds a whole copy that nobody names, to become the member at index at: at a place of the layout first, then on a
// store that stays.
func (v *view) adopt(at int) (best block.StoreID, ok bool) {
	rank := 0
	for _, c := range v.spare {
		if c.State != Whole || c.Doubtful || v.crowds(c.Store, at) {
			continue
		}
		r := 1
		if v.net.Site(c.Store).Takes {
			r = 2
		}
		if slices.Contains(v.places, c.Store) {
			r = 3
		}
		if r > rank {
			best, rank, ok = c.Store, r, true
		}
	}
	return best, ok
}

// crowds tells whether a store's node has another member already, beside the one at index at.
func (v *view) crowds(s block.StoreID, at int) bool {
	node := v.net.Site(s).Node
	for i, m := range v.members {
		if i != at && m.State != Gone && (m.Store == s || v.net.Site(m.Store).Node == node) {
			return true
		}
	}
	return false
}

// target finds a store for a new copy, instead of the member at index at: a place of the layout, else one in a zone that
// has no copy, else any. Only if crowd is set, and there is nothing else, a node gets a second copy.
func (v *view) target(at int, crowd bool) (block.StoreID, bool) {
	var any, crowded block.StoreID
	zones := v.zones(at)
	fits := func(s block.StoreID) bool {
		return v.net.Site(s).Takes && v.net.Ready(s) && !slices.ContainsFunc(v.x.Copies, func(c Copy) bool { return c.Store == s && (c.Member || c.Doubtful) })
	}
	for _, s := range v.places {
		if fits(s) && !v.crowds(s, at) {
			return s, true
		}
	}
	for _, s := range v.net.Candidates(v.x.ID) {
		switch {
		case !fits(s):
		case v.crowds(s, at):
			if crowded.IsZero() {
				crowded = s
			}
		case !slices.Contains(zones, v.net.Site(s).Zone):
			return s, true
		case any.IsZero():
			any = s
		}
	}
	if any.IsZero() && crowd {
		any = crowded
	}
	return any, !any.IsZero()
}

// zones lists the failure domains of the members beside the one at index at, each once. What leaves is in none.
func (v *view) zones(at int) (out []string) {
	for i, m := range v.members {
		if z := v.net.Site(m.Store); i != at && z.Takes && !slices.Contains(out, z.Zone) {
			out = append(out, z.Zone)
		}
	}
	return out
}

// placed tells whether all members are where the layout wants them: then zones are as they should be.
func (v *view) placed() bool {
	return !slices.ContainsFunc(v.members, func(c Copy) bool { return !slices.Contains(v.places, c.Store) })
}

// step is one copy that is to be elsewhere.
type step struct {
	at   int // the member that gives way
	to   block.StoreID
	why  Class
	held bool // to has a whole copy
}

// misplaced pairs members that are not where the layout wants them with places that have no member. stuck counts members on
// stores that leave for which there is no place.
func (v *view) misplaced() (out []step, stuck int) {
	var free []block.StoreID
	waits := false // a place is taken by nobody and does not answer: it may be back
	for _, s := range v.places {
		if slices.ContainsFunc(v.members, func(c Copy) bool { return c.Store == s }) {
			continue
		}
		if v.net.Ready(s) && !v.doubtful(s) {
			free = append(free, s)
		} else if !v.net.Gone(s) {
			waits = true
		}
	}
	for _, leaving := range []bool{true, false} {
		for i, m := range v.members {
			takes := v.net.Site(m.Store).Takes
			if slices.Contains(v.places, m.Store) && takes || takes == leaving {
				continue
			}
			why := Move
			if leaving {
				why = Leave
			}
			var to block.StoreID
			if len(free) > 0 {
				to, free = free[0], free[1:]
			} else if t, ok := v.target(i, false); leaving && ok && !waits && !taken(out, t) {
				to = t
			}
			switch {
			case !to.IsZero():
				out = append(out, step{i, to, why, v.held(to)})
			case leaving:
				stuck++
			}
		}
	}
	return out, stuck
}

func taken(list []step, s block.StoreID) bool {
	return slices.ContainsFunc(list, func(t step) bool { return t.to == s })
}

// held tells whether a store has a whole copy that can be counted on.
func (v *view) held(s block.StoreID) bool {
	return slices.ContainsFunc(v.x.Copies, func(c Copy) bool { return c.Store == s && c.State == Whole && !c.Doubtful })
}

func (v *view) doubtful(s block.StoreID) bool {
	return slices.ContainsFunc(v.x.Copies, func(c Copy) bool { return c.Store == s && c.Doubtful })
}

// give makes s the member at index at: it pulls what it lacks, unless it has all. The copy that gives way goes later, when the
// directory does not name it any more.
func (v *view) give(c Class, at int, s block.StoreID) []Action {
	k := Fetch
	if v.held(s) {
		k = Name
	}
	return []Action{v.action(k, c, s, v.ids(at, s))}
}

// trim takes one member out: one that leaves, else one that is not where the layout wants it, else the last; of these one
// without which as many zones have a copy, if there is one.
func (v *view) trim() []Action {
	best, rank := -1, -1
	for i, m := range v.members {
		r := 0
		if !v.net.Site(m.Store).Takes {
			r = 2
		} else if !slices.Contains(v.places, m.Store) {
			r = 1
		}
		if v.zonesWithout(i) {
			r += 3
		}
		if r >= rank {
			best, rank = i, r
		}
	}
	if rank < 3 {
		return nil // each is the only one of its zone, and zones are needed
	}
	ids := v.ids(-1, block.StoreID{})
	return []Action{v.action(Name, Trim, block.StoreID{}, slices.Delete(ids, best, best+1))}
}

// zonesWithout tells whether the members without the one at index at are in as many zones as wanted, or as all of them.
func (v *view) zonesWithout(at int) bool {
	return len(v.zones(at)) >= min(v.x.Want, len(v.zones(-1)))
}

// drops frees what no member list names, once all members are whole and durably named, and no zone loses its copy.
func (v *view) drops(sum *Summary) (out []Action) {
	sure := len(v.members) >= v.x.Want
	for _, m := range v.members {
		sure = sure && m.State == Whole && !m.Doubtful
	}
	zones := v.zones(-1)
	for _, c := range v.spare {
		if c.State == Away || c.State == Gone {
			continue
		}
		sum.Surplus++
		site := v.net.Site(c.Store)
		lone := c.State == Whole && site.Takes && len(zones) < v.x.Want && !slices.Contains(zones, site.Zone) && !v.placed()
		if sure && v.x.Durable && !lone {
			out = append(out, v.action(Drop, Settle, c.Store, nil))
		}
	}
	return out
}
