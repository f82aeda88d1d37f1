package upkeep

import (
	"cmp"
	"slices"

	"mynetwork.io/mynetwork/nodeagent/core/block"
)

// State says what is known of one copy.
type State uint8

// The states of a copy.
const (
	Whole   State = iota // it has all of the extent
	Lacking              // its store answers, and lacks some of it or all
	Away                 // its store does not answer, but may be back soon
	Gone                 // its store has not answered for longer than the grace time, or takes nothing any more
)

// Copy is what one store has, or should have, of an extent.
type Copy struct {
	Store    block.StoreID
	State    State
	Member   bool // the directory names it
	Doubtful bool // an order to free it may be under way still: no reason to drop another one
}

// Extent is one closed extent. Copies lists the members first, in the directory's order, each store once.
type Extent struct {
	ID      block.ExtentID
	Bytes   int64 // of one copy, 1 or more
	Want    int   // copies, 1 or more
	Min     int   // fewer are urgent; 1 ≤ Min ≤ Want
	Max     int   // more are trimmed; at least Want
	Settled bool  // neither recovery nor replay can need it any more
	Durable bool  // a checkpoint that is durable at a quorum names the members as they are here
	Copies  []Copy
}

// Site says where a store is.
type Site struct {
	Node, Zone string
	Member     bool // its node is a member of the layout, active or not
	Takes      bool // its node is an active member: new copies may go there
}

// Network is the layout, and who answers.
type Network interface {
	// Places lists where n copies of an extent belong, as far as those stores are known, best first.
	Places(x block.ExtentID, n int) []block.StoreID
	// Candidates lists all stores in the layout's order for an extent; those that leave are last.
	Candidates(x block.ExtentID) []block.StoreID
	Site(s block.StoreID) Site
	// Ready tells whether a store is believed to answer, and to have room for another copy.
	Ready(s block.StoreID) bool
	// Gone tells that a store has not answered for longer than the grace time.
	Gone(s block.StoreID) bool
}

// Class is the urgency of an action, the most urgent first.
type Class uint8

// The classes.
const (
	Last   Class = iota // one whole copy is left, or fewer than the minimum
	Below               // fewer than wanted
	Leave               // a store that leaves holds a copy
	Move                // the layout wants a copy elsewhere
	Trim                // there are more than the maximum
	Settle              // what nobody counts on is dropped
)

// String is the class's name.
func (c Class) String() string {
	return [...]string{"last copy", "below wanted", "leaving", "moving", "trimming", "dropping"}[c]
}

// Kind is what is to be done.
type Kind uint8

// The kinds of actions.
const (
	Fetch Kind = iota // Store pulls what it lacks from one of Sources; then the directory names Members
	Name              // the directory names Members
	Drop              // Store frees its copy, which no member list names
)

// Action is one thing to do for one extent.
type Action struct {
	Kind    Kind
	Class   Class
	Extent  block.ExtentID
	Store   block.StoreID   // Fetch: that gets the copy; Name: the copy that is named, if one is; Drop: that loses it
	Sources []block.StoreID // of a Fetch: whole copies, best first
	Members []block.StoreID // of a Fetch or Name
	Bytes   int64           // of the extent
	whole   int
}

// Limits bound a plan.
type Limits struct {
	Bytes int64 // extents to fetch; one is planned whatever its size
	Other int   // further actions
}

// Summary counts what was seen and what is left to do.
type Summary struct {
	Extents  int
	Bytes    int64                 // of one copy of each
	Below    int                   // extents with fewer whole copies than wanted
	Lost     int                   // of these: extents of which no store that answers has a whole copy
	Repair   int64                 // bytes to fetch for extents below what is wanted
	Moving   int64                 // bytes to fetch because of the layout
	Misplace int                   // copies that are to be elsewhere
	Waiting  int                   // of these: in extents that recovery or replay may need still
	Stuck    int                   // copies on stores that leave, for which there is no other place
	Surplus  int                   // copies to drop
	Held     map[block.StoreID]int // copies that each store that answers has, of any kind
	Only     map[block.StoreID]int // extents whose one whole copy is there
}

// Settled tells that every extent is where the layout wants it, whole, and nothing else is left.
func (s *Summary) Settled() bool {
	return s.Below == 0 && s.Misplace == 0 && s.Stuck == 0 && s.Surplus == 0
}

// Plan looks at all extents and gives what to do first, most urgent first, within limits.
func Plan(net Network, extents []Extent, l Limits) ([]Action, Summary) {
	sum := Summary{Held: make(map[block.StoreID]int), Only: make(map[block.StoreID]int)}
	var all []Action
	for i := range extents {
		v := look(net, &extents[i])
		v.count(&sum)
		all = append(all, v.decide(&sum)...)
	}
	slices.SortStableFunc(all, func(a, b Action) int {
		return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(a.whole, b.whole))
	})
	out := all[:0:0]
	left, others, fetches := l.Bytes, l.Other, 0
	for _, a := range all {
		switch {
		case a.Kind == Fetch && (fetches == 0 || a.Bytes <= left):
			left -= a.Bytes
			fetches++
		case a.Kind != Fetch && others > 0:
			others--
		default:
			continue
		}
		out = append(out, a)
	}
	return out, sum
}
