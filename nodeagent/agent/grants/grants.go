// Package grants sees to it that this node has the grants that its requests need, and asks for others' on behalf of the
// stores.
//
// Keeper has grants made by a Signer and presents them through the peer pool; for one volume it keeps the union of the
// verbs that were asked for. Authorizer answers replica's question from what peers have presented. Reading is decorated:
// Reader presents a read grant before the first request for a volume, for pulls and checks, whose volumes are not known
// before.
//
// Invariants: no request of another node passes without a grant that it has presented; this node's own requests to its own
// stores need none, as they do not leave the process. Everything is safe for concurrent use.
package grants

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"sync"
	"time"

	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/warrant"
	"mynetwork.io/mynetwork/nodeagent/peer/grant"
	"mynetwork.io/mynetwork/nodeagent/peer/identity"
	"mynetwork.io/mynetwork/nodeagent/replica"
)

// Writer is what the node that attaches a volume needs.
const Writer = warrant.Writer

// Signer has a grant signed by the network's control key, or says why it is not. The grant that it gives may allow more than was
// asked for, and may end. It may take as long as ctx lasts.
type Signer interface {
	Sign(ctx context.Context, g warrant.Grant) ([]byte, error)
}

// KeySigner signs with the network's control key, as the agents of one machine do.
type KeySigner struct {
	Network string
	Key     ed25519.PrivateKey
}

// Sign implements Signer.
func (s KeySigner) Sign(_ context.Context, g warrant.Grant) ([]byte, error) {
	return g.Encode(s.Network, s.Key)
}

// SignDeletion signs a deletion.
func (s KeySigner) SignDeletion(_ context.Context, d warrant.Deletion) ([]byte, error) {
	return d.Encode(s.Network, s.Key), nil
}

// Presenter presents a grant on all connections; *peer.Pool is one.
type Presenter interface {
	AddGrant(ctx context.Context, v block.VolumeID, encoded []byte) error
}

// Keeper keeps this node's grants. The zero value is not usable: see NewKeeper.
type Keeper struct {
	node   string
	signer Signer
	to     Presenter

	mu   sync.Mutex // held while presenting, so that nobody goes on before the grant is under way
	have map[block.VolumeID]grant.Verbs
}

// NewKeeper makes a keeper for a node.
func NewKeeper(node string, s Signer, to Presenter) *Keeper {
	return &Keeper{node: node, signer: s, to: to, have: map[block.VolumeID]grant.Verbs{}}
}

// Ensure returns once a grant with the verbs is presented.
func (k *Keeper) Ensure(ctx context.Context, v block.VolumeID, verbs grant.Verbs) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	have := k.have[v]
	if have&verbs == verbs {
		return nil
	}
	b, err := k.signer.Sign(ctx, warrant.Grant{Volume: v, Node: k.node, Verbs: have | verbs})
	if err != nil {
		return fmt.Errorf("grant to %v volume %s: %w", verbs, v, err)
	}
	if err := k.to.AddGrant(ctx, v, b); err != nil {
		return fmt.Errorf("present the grant to %v volume %s: %w", verbs, v, err)
	}
	k.have[v] = have | verbs
	return nil
}

// Authorizer implements replica.Authorizer.
type Authorizer struct {
	Self      string
	Network   string
	Presented *grant.Authorizer
}

var _ replica.Authorizer = (*Authorizer)(nil)

// Allow implements replica.Authorizer.
func (a *Authorizer) Allow(from string, v block.VolumeID, epoch uint64, verb replica.Verb) error {
	if from == a.Self {
		return nil
	}
	var need grant.Verbs
	switch verb {
	case replica.VerbRead:
		need = grant.Read
	case replica.VerbWrite:
		need = grant.Write
	case replica.VerbRepair:
		need = grant.Repair
	case replica.VerbDelete:
		need = grant.Delete
	default:
		return fmt.Errorf("verb %d: %w", verb, grant.ErrDenied)
	}
	return a.Presented.Allow(identity.Identity{Network: a.Network, Node: from}, v, epoch, need)
}

// Reader is a transport that presents a read grant before the first request for a volume. Its Send may wait a little:
// it is for tasks of their own.
type Reader struct {
	replica.Transport
	Keeper *Keeper
}

const (
	volumeAt    = 16 + block.EpochSize // of a request's head: behind the store and the epoch
	presentWait = 3 * time.Second
)

// Send implements replica.Transport.
func (r Reader) Send(s block.StoreID, typ replica.Type, done replica.Done, parts ...[]byte) {
	if len(parts) > 0 && len(parts[0]) >= volumeAt+16 {
		if v := block.VolumeID(parts[0][volumeAt:][:16]); !v.IsZero() {
			ctx, cancel := context.WithTimeout(context.Background(), presentWait)
			_ = r.Keeper.Ensure(ctx, v, grant.Read) // without it the request is refused, with the reason
			cancel()
		}
	}
	r.Transport.Send(s, typ, done, parts...)
}
