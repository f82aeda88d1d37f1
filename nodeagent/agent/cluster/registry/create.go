package registry

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"mynetwork.io/mynetwork/api/v1alpha1"
	base "mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// making tells that a record's maker is not done: it is no volume yet.
func making(o *v1alpha1.VolumeRecord) bool {
	return o.Labels[v1alpha1.LabelState] == v1alpha1.StateMaking
}

func deleted(o *v1alpha1.VolumeRecord) bool { return o.State.Deletion != nil }

// abandoned tells that a record's maker has gone before it was done.
func (s *Store) abandoned(o *v1alpha1.VolumeRecord) bool {
	return making(o) && s.opt.Now().Sub(o.CreationTimestamp.Time) > abandoned
}

// Create implements registry.Store. See the package's text for the steps.
func (s *Store) Create(r base.Record) error {
	r.Fact.Revision = "1"
	if err := r.Validate(); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	ctx, cancel := s.begin()
	defer cancel()
	if err := s.checkName(ctx, r.Name, nil); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	o := s.object(&r)
	err := s.call(ctx, func(ctx context.Context) error { return s.opt.API.Create(ctx, o) })
	if apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create: volume %s: %w", r.ID, base.ErrExists)
	}
	if err != nil { // if it is there all the same, it is abandoned
		return say(fmt.Sprintf("create volume %q", r.Name), err)
	}
	err = s.settleParent(&r)
	if err == nil {
		err = s.checkName(ctx, r.Name, o)
	}
	if err == nil {
		return s.settle(ctx, o)
	}
	if rerr := s.remove(ctx, o); rerr != nil {
		s.opt.Log.Warn("an unfinished record stays behind; the next agent that asks for its name removes it", "volume", r.Name, "err", rerr)
	}
	return fmt.Errorf("create: %w", err)
}

// settleParent has the parent's record tell that there is a clone, so that no deletion of it goes on without knowing.
func (s *Store) settleParent(r *base.Record) error {
	if r.Parent.IsZero() {
		return nil
	}
	_, err := s.revise(r.Parent, func(_ context.Context, o *v1alpha1.VolumeRecord, parent *base.Record) error {
		if err := base.CheckParent(r, parent); err != nil {
			return err
		}
		if o.Annotations == nil {
			o.Annotations = map[string]string{}
		}
		o.Annotations[v1alpha1.AnnotationLastClone] = r.ID.String()
		return nil
	})
	if errors.Is(err, base.ErrNotFound) {
		return base.CheckParent(r, nil)
	}
	return err
}

// checkName refuses a name that a live volume has, or that a record created before mine is about to take. mine is nil before it is
// created: then only live volumes count.
func (s *Store) checkName(ctx context.Context, name string, mine *v1alpha1.VolumeRecord) error {
	list, err := s.named(ctx, name)
	if err != nil {
		return err
	}
	for _, o := range list {
		switch {
		case deleted(o) || mine != nil && o.Name == mine.Name || mine == nil && making(o):
		case mine == nil || !making(o) && before(o, mine):
			return fmt.Errorf("volume %q has id %s: %w", name, o.Spec.VolumeID, base.ErrExists)
		case s.abandoned(o):
			if err := s.remove(ctx, o); err != nil {
				return fmt.Errorf("volume %q: a record that was left unfinished is in the way: %w", name, err)
			}
		case before(o, mine):
			return fmt.Errorf("volume %q is being made with id %s: %w", name, o.Spec.VolumeID, base.ErrExists)
		}
	}
	return nil
}

// before tells that o was created before mine, which is in the making. If it cannot tell, it says so too: mine gives way.
func before(o, mine *v1alpha1.VolumeRecord) bool {
	at := o.ResourceVersion
	if !making(o) {
		at = o.Annotations[v1alpha1.AnnotationMadeAt]
	} else if o.Generation > 1 || o.Status.Answers != nil || o.Status.FencedEpoch != 0 {
		return true // its resourceVersion is no more the one it was created with
	}
	c, err := resourceversion.CompareResourceVersion(at, mine.ResourceVersion)
	return err != nil || c <= 0
}

// settle makes a record in the making a volume.
func (s *Store) settle(ctx context.Context, o *v1alpha1.VolumeRecord) error {
	what := fmt.Sprintf("create volume %q", o.Spec.Name)
	uid, created := o.UID, o.ResourceVersion
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		delete(o.Labels, v1alpha1.LabelState)
		if o.Annotations == nil {
			o.Annotations = map[string]string{}
		}
		o.Annotations[v1alpha1.AnnotationMadeAt] = created
		next := o.DeepCopy()
		err := s.call(ctx, func(ctx context.Context) error { return s.opt.API.Update(ctx, next) })
		if err == nil {
			return nil
		}
		if !(apierrors.IsConflict(err) || unsure(err)) || !task.PauseAbout(ctx, wait) {
			return say(what, err)
		}
		got := &v1alpha1.VolumeRecord{}
		err = s.call(ctx, func(ctx context.Context) error { return s.opt.API.Get(ctx, key(o), got) })
		switch {
		case err != nil:
			return say(what+": it took too long, and was given up", err)
		case got.UID != uid:
			return fmt.Errorf("%s: another record took its place: %w", what, base.ErrConflict)
		case !making(got):
			return nil // written, and the answer was lost
		}
		o = got
	}
}
