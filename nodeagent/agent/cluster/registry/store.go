package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	base "mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/task"
	"mynetwork.io/mynetwork/nodeagent/volume"
)

// API is what a Store needs of Kubernetes. A controller-runtime client that has no cache is one; reads must be consistent.
type API interface {
	client.Reader
	Create(ctx context.Context, obj client.Object, opts ...client.CreateOption) error
	Update(ctx context.Context, obj client.Object, opts ...client.UpdateOption) error
	Delete(ctx context.Context, obj client.Object, opts ...client.DeleteOption) error
}

var _ API = client.Client(nil)

// Options are what a Store is made with.
type Options struct {
	API     API
	Network string    // name of the MyNetwork
	UID     types.UID // of that MyNetwork
	// CallLimit bounds one request to the API; Limit bounds a whole operation. 0: 4 s and 12 s.
	CallLimit, Limit time.Duration
	Log              *slog.Logger
	// Now is the clock; nil: the system's. It only tells how old an unfinished record is.
	Now func() time.Time
}

const (
	callLimit = 4 * time.Second
	limit     = 12 * time.Second
	abandoned = 60 * time.Second // far above limit: what is in the making for so long has lost its maker
	pageSize  = 500              // records in one answer: about 2 MB
	firstWait = 5 * time.Millisecond
	lastWait  = 500 * time.Millisecond
)

// Store is the registry of one network. The zero value is not usable: see New.
type Store struct{ opt Options }

var (
	_ base.Store = (*Store)(nil)
	_ base.Namer = (*Store)(nil)
	_ base.Tombs = (*Store)(nil)
)

// New makes a store; it asks for nothing yet.
func New(o Options) *Store {
	if o.CallLimit == 0 {
		o.CallLimit = callLimit
	}
	if o.Limit == 0 {
		o.Limit = limit
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{opt: o}
}

// begin starts an operation.
func (s *Store) begin() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), s.opt.Limit)
}

// call makes one request.
func (s *Store) call(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.opt.CallLimit)
	defer cancel()
	return f(ctx)
}

// unsure tells that a write may or may not have been done.
func unsure(err error) bool {
	var status apierrors.APIStatus
	return !errors.As(err, &status) || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) || apierrors.IsInternalError(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsTooManyRequests(err) || apierrors.IsUnexpectedServerError(err)
}

// say turns an error of the API into one of the registry.
func say(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%s: %w", what, base.ErrNotFound)
	case apierrors.IsConflict(err):
		return fmt.Errorf("%s: %w: %w", what, base.ErrConflict, err)
	case apierrors.IsInvalid(err) || apierrors.IsBadRequest(err):
		return fmt.Errorf("%s: the API server refuses the record: %w: %w", what, base.ErrInvalid, err)
	case unsure(err):
		return fmt.Errorf("%s: %w: %w", what, base.ErrAway, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// fetch reads the object of a volume.
func (s *Store) fetch(ctx context.Context, v block.VolumeID) (*v1alpha1.VolumeRecord, error) {
	o := &v1alpha1.VolumeRecord{}
	err := s.call(ctx, func(ctx context.Context) error {
		return s.opt.API.Get(ctx, client.ObjectKey{Name: s.handle(v)}, o)
	})
	if err != nil {
		return nil, say("volume "+v.String(), err)
	}
	return o, nil
}

// read reads a volume's record and its object. One in the making is ErrNotFound.
func (s *Store) read(ctx context.Context, v block.VolumeID) (*v1alpha1.VolumeRecord, base.Record, error) {
	o, err := s.fetch(ctx, v)
	if err != nil {
		return nil, base.Record{}, err
	}
	if making(o) {
		return nil, base.Record{}, fmt.Errorf("volume %s is still being made: %w", v, base.ErrNotFound)
	}
	r, err := s.decode(o)
	return o, r, err
}

// Get implements registry.Store.
func (s *Store) Get(v block.VolumeID) (base.Record, error) {
	ctx, cancel := s.begin()
	defer cancel()
	_, r, err := s.read(ctx, v)
	return r, err
}

// Load implements volume.Registry. A deleted volume is ErrDeleted.
func (s *Store) Load(v block.VolumeID) (volume.Fact, error) {
	r, err := s.Get(v)
	if err == nil && !r.Live() {
		err = fmt.Errorf("volume %q: %w", r.Name, base.ErrDeleted)
	}
	return r.Fact, err
}

// errDone tells revise that there is nothing to write.
var errDone = errors.New("nothing to write")

// revise reads a record, lets decide alter it and its object, and writes it; from the beginning if it changed meanwhile or if
// nobody knows whether it was written.
func (s *Store) revise(v block.VolumeID, decide func(ctx context.Context, o *v1alpha1.VolumeRecord, r *base.Record) error) (base.Record, error) {
	ctx, cancel := s.begin()
	defer cancel()
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		o, r, err := s.read(ctx, v)
		if err != nil {
			return base.Record{}, err
		}
		err = decide(ctx, o, &r)
		if errors.Is(err, errDone) {
			return r, nil
		}
		if err != nil {
			return base.Record{}, err
		}
		s.encode(&r, o)
		err = s.call(ctx, func(ctx context.Context) error { return s.opt.API.Update(ctx, o) })
		if err == nil {
			return r, nil
		}
		again := apierrors.IsConflict(err) || unsure(err)
		if !again || !task.PauseAbout(ctx, wait) {
			return base.Record{}, say(fmt.Sprintf("volume %q", r.Name), err)
		}
	}
}

// Swap implements volume.Registry.
func (s *Store) Swap(v block.VolumeID, next volume.Fact) (string, error) {
	next.Epoch.Session = 0
	from, err := strconv.ParseUint(next.Revision, 10, 64)
	if err != nil {
		return "", fmt.Errorf("volume %s: revision %q is none of this registry: %w", v, next.Revision, base.ErrConflict)
	}
	want := next
	want.Revision = strconv.FormatUint(from+1, 10)
	first := true
	_, err = s.revise(v, func(_ context.Context, _ *v1alpha1.VolumeRecord, r *base.Record) error {
		again := !first
		first = false
		switch {
		case !r.Live():
			return fmt.Errorf("volume %q: %w", r.Name, base.ErrDeleted)
		case again && sameFact(&r.Fact, &want):
			return errDone // written, and the answer was lost
		case r.Fact.Revision != next.Revision:
			return fmt.Errorf("volume %q is at revision %s, not %s: %w", r.Name, r.Fact.Revision, next.Revision, base.ErrConflict)
		}
		r.Fact = want
		return nil
	})
	if err != nil {
		return "", err
	}
	return want.Revision, nil
}

// Update implements registry.Store.
func (s *Store) Update(v block.VolumeID, change func(r *base.Record) error) (base.Record, error) {
	return s.revise(v, func(ctx context.Context, _ *v1alpha1.VolumeRecord, r *base.Record) error {
		before := r.Clone()
		if err := change(r); err != nil {
			return err
		}
		return base.CheckUpdate(&before, r, func() ([]base.Record, error) { return s.clones(ctx, v) })
	})
}

// list reads all records with some labels, those of this network only. With an error it returns those that could be read.
func (s *Store) list(ctx context.Context, with labels.Set) (out []*v1alpha1.VolumeRecord, err error) {
	sel := labels.Set{v1alpha1.LabelNetworkUID: string(s.opt.UID)}
	for k, v := range with {
		sel[k] = v
	}
	var next string
	for {
		var page v1alpha1.VolumeRecordList
		err := s.call(ctx, func(ctx context.Context) error {
			return s.opt.API.List(ctx, &page, client.MatchingLabelsSelector{Selector: sel.AsSelector()}, client.Limit(pageSize), client.Continue(next))
		})
		if err != nil {
			return out, say("list volumes", err)
		}
		for i := range page.Items {
			out = append(out, &page.Items[i])
		}
		if next = page.Continue; next == "" {
			return out, nil
		}
	}
}
