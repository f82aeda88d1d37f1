// Package grants sees to it that this node has the grants that its requests need, and asks for others' on behalf of the
// stores.
//
// Keeper has grants made by a Signer and presents them through the peer pool; for one volume it keeps the union of the
// verbs that were asked for. A grant that ends is asked for anew when it is needed next; a node that stores data has one for every
// volume too (Member), and asks for nothing that it allows. Authorizer answers replica's question from what peers have presented. Reading is decorated:
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
	now    func() time.Time

	mu     sync.Mutex
	have   map[block.VolumeID]*held
	member warrant.Grant // for every volume; without verbs: none
}

// held is what is presented for one volume.
type held struct {
	turn  chan struct{} // has one element, which is taken while a grant is signed and presented: nobody goes on before it is under way
	grant warrant.Grant // without verbs: none
}

// margin is how long before its end a grant counts as ended: what it was asked for has to begin, and clocks differ.
const margin = time.Minute

// NewKeeper makes a keeper for a node.
func NewKeeper(node string, s Signer, to Presenter) *Keeper {
	return &Keeper{node: node, signer: s, to: to, now: time.Now, have: map[block.VolumeID]*held{}}
}

// lasts tells whether a grant allows verbs, and will for a while.
func (k *Keeper) lasts(g *warrant.Grant, verbs grant.Verbs) bool {
	return g.Verbs&verbs == verbs && !g.Ended(k.now().Add(margin).Unix())
}

// uncovered is what of verbs the grant for every volume does not allow.
func (k *Keeper) uncovered(verbs grant.Verbs) grant.Verbs {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lasts(&k.member, 0) {
		verbs &^= k.member.Verbs
	}
	return verbs
}

func (k *Keeper) held(v block.VolumeID) *held {
	k.mu.Lock()
	defer k.mu.Unlock()
	h := k.have[v]
	if h == nil {
		h = &held{turn: make(chan struct{}, 1)}
		h.turn <- struct{}{}
		k.have[v] = h
	}
	return h
}

// Ensure returns once a grant with the verbs is presented. It may wait for whoever signs as long as ctx lasts.
func (k *Keeper) Ensure(ctx context.Context, v block.VolumeID, verbs grant.Verbs) error {
	if verbs = k.uncovered(verbs); verbs == 0 {
		return nil
	}
	h := k.held(v)
	select {
	case <-h.turn:
	case <-ctx.Done():
		return fmt.Errorf("grant to %v volume %s: %w", verbs, v, ctx.Err())
	}
	defer func() { h.turn <- struct{}{} }()
	if k.lasts(&h.grant, verbs) {
		return nil
	}
	b, err := k.signer.Sign(ctx, warrant.Grant{Volume: v, Node: k.node, Verbs: h.grant.Verbs | verbs})
	if err != nil {
		return fmt.Errorf("grant to %v volume %s: %w", verbs, v, err)
	}
	return k.present(ctx, v, h, b, verbs)
}

// present presents an encoded grant and remembers it. The turn is the caller's.
func (k *Keeper) present(ctx context.Context, v block.VolumeID, h *held, encoded []byte, verbs grant.Verbs) error {
	g, err := warrant.DecodeGrant(encoded)
	if err == nil && (g.Volume != v || g.Verbs&verbs != verbs) {
		err = fmt.Errorf("it allows to %v volume %s: %w", g.Verbs, g.Volume, warrant.ErrGrant)
	}
	if err == nil {
		err = k.to.AddGrant(ctx, v, encoded)
	}
	if err != nil {
		return fmt.Errorf("present the grant to %v volume %s: %w", verbs, v, err)
	}
	h.grant = g
	return nil
}

// Renewed presents a grant that replaces one that is presented.
func (k *Keeper) Renewed(ctx context.Context, v block.VolumeID, encoded []byte) error {
	h := k.held(v)
	select {
	case <-h.turn:
	case <-ctx.Done():
		return fmt.Errorf("renewed grant of volume %s: %w", v, ctx.Err())
	}
	defer func() { h.turn <- struct{}{} }()
	return k.present(ctx, v, h, encoded, 0)
}

// Member presents a grant for every volume: what it allows need not be granted volume by volume.
func (k *Keeper) Member(ctx context.Context, encoded []byte) error {
	g, err := warrant.DecodeGrant(encoded)
	if err == nil && (!g.Volume.IsZero() || g.Node != k.node) {
		err = fmt.Errorf("it is for node %s, volume %s: %w", g.Node, g.Volume, warrant.ErrGrant)
	}
	if err == nil {
		err = k.to.AddGrant(ctx, g.Volume, encoded)
	}
	if err != nil {
		return fmt.Errorf("grant for every volume: %w", err)
	}
	k.mu.Lock()
	k.member = g
	k.mu.Unlock()
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
