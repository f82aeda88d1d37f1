package mailbox

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/agent/grants"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	"mynetwork.io/mynetwork/nodeagent/core/warrant"
)

// API is what a Box needs of Kubernetes; a controller-runtime client that has no cache, and can watch, is one.
type API interface {
	Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error
	Update(ctx context.Context, obj client.Object, opts ...client.UpdateOption) error
	Watch(ctx context.Context, obj client.ObjectList, opts ...client.ListOption) (watch.Interface, error)
}

var _ API = client.WithWatch(nil)

// Options are what a Box is made with.
type Options struct {
	API     API
	Network string // uid of the network
	Node    string // this node
	// Keys gives the public control keys of the network, as they are now.
	Keys func() []ed25519.PublicKey
	// Dir is the directory of the grants' files; it is made if it is missing.
	Dir string
	// CallLimit bounds one request to the API; 0: 4 s.
	CallLimit time.Duration
	Log       *slog.Logger
	Now       func() time.Time // nil: the system's clock
}

const (
	callLimit  = 4 * time.Second
	margin     = 10 * time.Minute // a grant that ends sooner is asked for anew, if the operator answers
	maxPending = 16               // requests in one record
	firstWait  = 20 * time.Millisecond
	lastWait   = 2 * time.Second
)

// Box asks and keeps. The zero value is not usable: see New.
type Box struct {
	opt Options

	mu    sync.Mutex
	busy  map[block.VolumeID]chan struct{} // closed when the request that is under way has ended
	kept  map[block.VolumeID]keptGrant
	retry map[block.VolumeID]time.Time // renewals that failed: not before then
}

// keptGrant is a grant that is on disk.
type keptGrant struct {
	grant   warrant.Grant
	encoded []byte
	since   time.Time
}

var _ grants.Signer = (*Box)(nil)

// New makes a box and reads the grants that are on disk.
func New(o Options) (*Box, error) {
	if o.CallLimit == 0 {
		o.CallLimit = callLimit
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	b := &Box{opt: o, busy: map[block.VolumeID]chan struct{}{}, kept: map[block.VolumeID]keptGrant{}, retry: map[block.VolumeID]time.Time{}}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory of grants: %w", err)
	}
	return b, b.load()
}

// lock waits for the right to ask about a volume.
func (b *Box) lock(ctx context.Context, v block.VolumeID) (unlock func(), err error) {
	for {
		b.mu.Lock()
		other := b.busy[v]
		if other == nil {
			done := make(chan struct{})
			b.busy[v] = done
			b.mu.Unlock()
			return func() {
				b.mu.Lock()
				delete(b.busy, v)
				b.mu.Unlock()
				close(done)
			}, nil
		}
		b.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fmt.Errorf("another request for volume %s waits too: %w: %w", v, grants.ErrNoAnswer, ctx.Err())
		}
	}
}

// Sign implements grants.Signer: it gives a grant for the volume with what the operator grants to who attaches it, whatever part of
// that is asked for. It waits for the operator until ctx ends.
func (b *Box) Sign(ctx context.Context, g warrant.Grant) ([]byte, error) {
	if g.Volume.IsZero() || g.Node != b.opt.Node {
		return nil, fmt.Errorf("grant for volume %s and node %s: node %s asks for itself, and names a volume: %w", g.Volume, g.Node, b.opt.Node, warrant.ErrGrant)
	}
	unlock, err := b.lock(ctx, g.Volume)
	if err != nil {
		return nil, err
	}
	defer unlock()
	have, ok := b.valid(g.Volume, margin)
	if ok {
		return have.encoded, nil
	}
	fresh, err := b.askGrant(ctx, g.Volume)
	if err == nil || errors.Is(err, grants.ErrRefused) {
		return fresh, err
	}
	if have, ok := b.valid(g.Volume, 0); ok {
		b.opt.Log.Warn("a grant that ends soon is used, as the operator does not answer", "volume", g.Volume, "ends", time.Unix(have.grant.NotAfter, 0), "err", err)
		return have.encoded, nil
	}
	return nil, err
}

// askGrant asks for a grant and keeps it. The right to ask is the caller's.
func (b *Box) askGrant(ctx context.Context, v block.VolumeID) ([]byte, error) {
	a, err := b.ask(ctx, v, v1alpha1.VolumeRequest{Attach: true})
	if err != nil {
		return nil, fmt.Errorf("grant for volume %s on node %s: %w", v, b.opt.Node, err)
	}
	g, err := warrant.VerifyGrant(a.Grant, b.opt.Network, b.opt.Keys())
	if err == nil && (g.Volume != v || g.Node != b.opt.Node || g.Ended(b.opt.Now().Unix())) {
		err = fmt.Errorf("it is for volume %s on node %s, until %s: %w", g.Volume, g.Node, time.Unix(g.NotAfter, 0), warrant.ErrGrant)
	}
	if err != nil {
		return nil, fmt.Errorf("grant for volume %s on node %s: what the operator has answered is not accepted: %w", v, b.opt.Node, err)
	}
	b.keep(g, a.Grant)
	return a.Grant, nil
}

// SignDeletion has the operator sign a deletion. It waits until ctx ends.
func (b *Box) SignDeletion(ctx context.Context, d warrant.Deletion) ([]byte, error) {
	unlock, err := b.lock(ctx, d.Volume)
	if err != nil {
		return nil, err
	}
	defer unlock()
	a, err := b.ask(ctx, d.Volume, v1alpha1.VolumeRequest{Deletion: &v1alpha1.DeletionRequest{Epoch: int64(d.Epoch), At: d.At}})
	if err != nil {
		return nil, fmt.Errorf("deletion of volume %s: %w", d.Volume, err)
	}
	got, err := warrant.VerifyDeletion(a.Deletion, d.Volume, b.opt.Network, b.opt.Keys())
	if err == nil && got != d {
		err = fmt.Errorf("it is for epoch %d at %d: %w", got.Epoch, got.At, warrant.ErrDeletion)
	}
	if err != nil {
		return nil, fmt.Errorf("deletion of volume %s: what the operator has answered is not accepted: %w", d.Volume, err)
	}
	return a.Deletion, nil
}

// ask writes a request and waits for its answer.
func (b *Box) ask(ctx context.Context, v block.VolumeID, r v1alpha1.VolumeRequest) (v1alpha1.VolumeAnswer, error) {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	r.Node, r.ID = b.opt.Node, hex.EncodeToString(id[:])
	name := b.opt.Network + "." + v.String()
	if err := b.post(ctx, name, r); err != nil {
		return v1alpha1.VolumeAnswer{}, err
	}
	a, err := b.await(ctx, name, r.ID)
	if err == nil && a.Refused != "" {
		err = fmt.Errorf("%w: %s", grants.ErrRefused, a.Refused)
	}
	return a, err
}

// put enters a request among those of other nodes. Of too many the oldest goes.
func put(list []v1alpha1.VolumeRequest, r v1alpha1.VolumeRequest) []v1alpha1.VolumeRequest {
	list = slices.DeleteFunc(slices.Clone(list), func(o v1alpha1.VolumeRequest) bool { return o.Node == r.Node })
	slices.SortStableFunc(list, func(a, b v1alpha1.VolumeRequest) int { return a.At.Compare(b.At.Time) })
	if len(list) >= maxPending {
		list = list[len(list)-maxPending+1:]
	}
	return append(list, r)
}

// answerTo finds the answer to a request.
func answerTo(o *v1alpha1.VolumeRecord, node, id string) (v1alpha1.VolumeAnswer, bool) {
	for _, a := range o.Status.Answers {
		if a.Node == node && a.ID == id {
			return a, a.Refused != "" || len(a.Grant) > 0 || len(a.Deletion) > 0
		}
	}
	return v1alpha1.VolumeAnswer{}, false
}

// asked tells whether a request is still in the record.
func asked(o *v1alpha1.VolumeRecord, r *v1alpha1.VolumeRequest) bool {
	return slices.ContainsFunc(o.Requests, func(h v1alpha1.VolumeRequest) bool { return h.Node == r.Node && h.ID == r.ID })
}
