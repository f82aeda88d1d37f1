package grant

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/warrant"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
)

const (
	maxGrantsPerVolume = 4       // of one node; beyond it the lowest epoch goes
	maxVolumesPerNode  = 1 << 16 // for which one node has grants
)

// ErrDenied is returned when a node asks for what no grant allows.
var ErrDenied = errors.New("denied")

// Authorizer knows which grants the connected nodes have presented. A signature is checked once, when a grant is installed;
// Allow is a look-up. The grants of a node are forgotten with its last connection. Safe for concurrent use.
type Authorizer struct {
	network string
	now     func() time.Time

	mu     sync.RWMutex
	keys   []ed25519.PublicKey
	grants map[string]map[block.VolumeID][]Grant // by node
}

// NewAuthorizer makes an authorizer that trusts the control keys of a network; a nil clock is the system's.
func NewAuthorizer(network string, keys []ed25519.PublicKey, now func() time.Time) *Authorizer {
	if now == nil {
		now = time.Now
	}
	return &Authorizer{network: network, now: now, keys: keys, grants: map[string]map[block.VolumeID][]Grant{}}
}

// SetKeys replaces the trusted control keys. Grants that are installed stay.
func (a *Authorizer) SetKeys(keys []ed25519.PublicKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys = keys
}

// Install verifies a grant that a node presents and remembers it. It fails with warrant.ErrGrant.
func (a *Authorizer) Install(from identity.Identity, encoded []byte) error {
	a.mu.RLock()
	keys := a.keys
	a.mu.RUnlock()
	g, err := warrant.VerifyGrant(encoded, a.network, keys)
	if err != nil {
		return err
	}
	now := a.now()
	switch {
	case from.Network != a.network || g.Node != from.Node:
		return fmt.Errorf("%w: it is for node %s, presented by %s", warrant.ErrGrant, g.Node, from.URI())
	case g.Ended(now.Unix()):
		return fmt.Errorf("%w: volume %v, node %s: it has ended", warrant.ErrGrant, g.Volume, g.Node)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	volumes := a.grants[g.Node]
	if volumes == nil {
		volumes = map[block.VolumeID][]Grant{}
		a.grants[g.Node] = volumes
	}
	if len(volumes) >= maxVolumesPerNode && volumes[g.Volume] == nil {
		return fmt.Errorf("%w: node %s has grants for %d volumes", warrant.ErrGrant, g.Node, len(volumes))
	}
	volumes[g.Volume] = merge(volumes[g.Volume], g, now)
	return nil
}

// merge adds a grant to those of a volume in a new slice: the ended ones and one of the same epoch go, the lowest epoch when there are too many.
func merge(have []Grant, g Grant, now time.Time) []Grant {
	out := []Grant{g}
	for _, h := range have {
		if h.EpochNumber != g.EpochNumber && !h.Ended(now.Unix()) {
			out = append(out, h)
		}
	}
	slices.SortFunc(out, func(x, y Grant) int { return strings.Compare(epochKey(y), epochKey(x)) })
	return out[:min(len(out), maxGrantsPerVolume)]
}

// epochKey orders grants for any epoch above all others.
func epochKey(g Grant) string { return fmt.Sprintf("%016x", g.EpochNumber-1) }

// Allow reports whether a node may do what verb says to a volume in an epoch: nil, or ErrDenied with the grant that is missing.
func (a *Authorizer) Allow(from identity.Identity, volume block.VolumeID, epoch uint64, verb Verbs) error {
	a.mu.RLock()
	volumes := a.grants[from.Node]
	have, every := volumes[volume], volumes[block.VolumeID{}]
	a.mu.RUnlock()
	if a.covers(have, epoch, verb) || verb&^warrant.EveryVolume == 0 && a.covers(every, epoch, verb) {
		return nil
	}
	return a.denied(from, volume, epoch, verb, have, every)
}

// covers tells whether one of the grants of a volume allows verb.
func (a *Authorizer) covers(have []Grant, epoch uint64, verb Verbs) bool {
	for i := range have {
		g := &have[i]
		if g.Verbs&verb == verb && verb != 0 && (g.EpochNumber == 0 || g.EpochNumber == epoch) && (g.NotAfter == 0 || !g.Ended(a.now().Unix())) {
			return true
		}
	}
	return false
}

func (a *Authorizer) denied(from identity.Identity, volume block.VolumeID, epoch uint64, verb Verbs, have, every []Grant) error {
	text := "it has presented none for this volume"
	if len(have)+len(every) > 0 {
		var list []string
		for _, g := range slices.Concat(have, every) {
			s := fmt.Sprintf("%v in epoch %d", g.Verbs, g.EpochNumber)
			if g.Volume.IsZero() {
				s = fmt.Sprintf("%v for every volume", g.Verbs)
			}
			if g.Ended(a.now().Unix()) {
				s += " (ended)"
			}
			list = append(list, s)
		}
		text = "it has " + strings.Join(list, ", ")
	}
	return fmt.Errorf("%w: node %s has no grant to %v volume %v in epoch %d: %s", ErrDenied, from.Node, verb, volume, epoch, text)
}

// Forget drops the grants of a node.
func (a *Authorizer) Forget(node string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.grants, node)
}
