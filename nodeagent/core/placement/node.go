package placement

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Limits that Compute and the decoders enforce.
const (
	MaxMembers    = 1 << 15
	MaxReplicas   = 16
	MaxShards     = 1 << 22
	MaxWeight     = 1 << 32
	MaxName       = 255  // bytes of an id or a zone
	DefaultShards = 4096 // raised until each active node holds MinCopies on average
	MinCopies     = 100
)

// Refusals of Compute and of the decoders, wrapped with what was looked at.
var (
	ErrNoNodes   = errors.New("no active node")
	ErrDuplicate = errors.New("duplicate node id")
	ErrWeight    = errors.New("weight out of range")
	ErrName      = errors.New("id or zone empty or too long")
	ErrState     = errors.New("unknown node state")
	ErrReplicas  = errors.New("replicas out of range")
	ErrShards    = errors.New("shards not a power of two in range")
	ErrZones     = errors.New("fewer zones than replicas")
	ErrPolicy    = errors.New("unknown zone policy")
	ErrMembers   = errors.New("too many members")
	ErrVersion   = errors.New("layout version exhausted")
)

// State says whether a member may hold replicas. Only active members appear in a table.
type State uint8

// The member states. A draining member can still be copied from; a down one cannot.
const (
	Active State = iota
	Draining
	Down
)

// String is the state's name in lower case.
func (s State) String() string {
	switch s {
	case Active:
		return "active"
	case Draining:
		return "draining"
	case Down:
		return "down"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// Node is one member. Weight is its capacity in any unit that is the same for all members, 1..MaxWeight.
// Members with the same Zone, the empty one included, share one failure domain.
type Node struct {
	ID     string
	Zone   string
	Weight uint64
	State  State
}

func (n Node) check() error {
	switch {
	case n.ID == "" || len(n.ID) > MaxName || len(n.Zone) > MaxName:
		return fmt.Errorf("node %q zone %q: %w", n.ID, n.Zone, ErrName)
	case n.Weight == 0 || n.Weight > MaxWeight:
		return fmt.Errorf("node %q weight %d: %w", n.ID, n.Weight, ErrWeight)
	case n.State > Down:
		return fmt.Errorf("node %q state %d: %w", n.ID, n.State, ErrState)
	}
	return nil
}

// sortMembers returns a checked copy in order of id.
func sortMembers(members []Node) ([]Node, error) {
	if len(members) > MaxMembers {
		return nil, fmt.Errorf("%d members: %w", len(members), ErrMembers)
	}
	sorted := slices.Clone(members)
	slices.SortFunc(sorted, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	return sorted, checkSorted(sorted)
}

func checkSorted(sorted []Node) error {
	active := 0
	for i, n := range sorted {
		if err := n.check(); err != nil {
			return err
		}
		if i > 0 && sorted[i-1].ID >= n.ID {
			return fmt.Errorf("node %q: %w", n.ID, ErrDuplicate)
		}
		if n.State == Active {
			active++
		}
	}
	if active == 0 {
		return fmt.Errorf("%d members: %w", len(sorted), ErrNoNodes)
	}
	return nil
}

// ZonePolicy says how zones bind the replicas of one shard.
type ZonePolicy uint8

// The zone policies.
const (
	ZonesSpread ZonePolicy = iota // distinct zones while there are enough, else spread evenly
	ZonesStrict                   // as ZonesSpread, but fewer zones than replicas is ErrZones
	ZonesIgnore                   // all members count as one zone
)

// Params are the choices that are not members. Shards 0 means DefaultShards; it is raised to give each active node
// MinCopies on average, and never falls below the previous layout's. Replicas has no default: it decides durability.
type Params struct {
	Replicas int
	Shards   int
	Zones    ZonePolicy
}

func (p Params) check() error {
	switch {
	case p.Replicas < 1 || p.Replicas > MaxReplicas:
		return fmt.Errorf("%d replicas: %w", p.Replicas, ErrReplicas)
	case p.Shards < 0 || p.Shards > MaxShards || p.Shards&(p.Shards-1) != 0:
		return fmt.Errorf("%d shards: %w", p.Shards, ErrShards)
	case p.Zones > ZonesIgnore:
		return fmt.Errorf("policy %d: %w", p.Zones, ErrPolicy)
	}
	return nil
}
