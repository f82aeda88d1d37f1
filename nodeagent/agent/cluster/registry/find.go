package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/core/block"
	base "mynetwork.io/mynetwork/nodeagent/registry"
)

// decodeAll reads made records, ascending by id. With an error it returns those that could be read.
func (s *Store) decodeAll(list []*v1alpha1.VolumeRecord) (out []base.Record, err error) {
	for _, o := range list {
		if making(o) {
			continue
		}
		r, derr := s.decode(o)
		if derr != nil {
			err = errors.Join(err, derr)
			continue
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b base.Record) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return out, err
}

// List implements registry.Store.
func (s *Store) List() ([]base.Record, error) { return s.all(nil) }

// Deleted implements registry.Tombs.
func (s *Store) Deleted() ([]base.Record, error) {
	return s.all(labels.Set{v1alpha1.LabelState: v1alpha1.StateDeleted})
}

func (s *Store) all(with labels.Set) ([]base.Record, error) {
	ctx, cancel := s.begin()
	defer cancel()
	list, err := s.list(ctx, with)
	out, derr := s.decodeAll(list)
	return out, errors.Join(err, derr)
}

// Named implements registry.Namer.
func (s *Store) Named(name string) (base.Record, error) {
	ctx, cancel := s.begin()
	defer cancel()
	list, err := s.named(ctx, name)
	if err != nil {
		return base.Record{}, fmt.Errorf("volume %q: %w", name, err)
	}
	made, err := s.decodeAll(list)
	for _, r := range made {
		if r.Live() {
			return r, nil
		}
	}
	if err != nil { // it may be one of those that cannot be read
		return base.Record{}, fmt.Errorf("volume %q: %w", name, err)
	}
	return base.Record{}, fmt.Errorf("volume %q: %w", name, base.ErrNotFound)
}

// named lists the objects of a name, deleted ones and those in the making too.
func (s *Store) named(ctx context.Context, name string) ([]*v1alpha1.VolumeRecord, error) {
	list, err := s.list(ctx, labels.Set{v1alpha1.LabelVolumeName: nameHash(name)})
	return slices.DeleteFunc(list, func(o *v1alpha1.VolumeRecord) bool { return o.Spec.Name != name }), err
}

// clones lists the live clones of a volume. One that is being made counts: its maker may have passed the point where it learns of a
// deletion.
func (s *Store) clones(ctx context.Context, v block.VolumeID) (out []base.Record, err error) {
	list, err := s.list(ctx, labels.Set{v1alpha1.LabelParent: v.String()})
	if err != nil {
		return nil, err
	}
	for _, o := range list {
		if deleted(o) || s.abandoned(o) {
			continue
		}
		r, err := s.decode(o)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// Forget implements registry.Tombs.
func (s *Store) Forget(r *base.Record) error {
	ctx, cancel := s.begin()
	defer cancel()
	o, now, err := s.read(ctx, r.ID)
	switch {
	case errors.Is(err, base.ErrNotFound):
		return nil
	case err != nil:
		return err
	case now.Live():
		return fmt.Errorf("volume %q is not deleted; its record stays: %w", now.Name, base.ErrInvalid)
	case !reflect.DeepEqual(now.Deletion, r.Deletion):
		return fmt.Errorf("the record of deleted volume %q: %w", now.Name, base.ErrConflict)
	}
	if err := s.remove(ctx, o); err != nil && !errors.Is(err, base.ErrNotFound) {
		return err
	}
	return nil
}

// remove deletes exactly the object that was read.
func (s *Store) remove(ctx context.Context, o *v1alpha1.VolumeRecord) error {
	uid, rv := o.UID, o.ResourceVersion
	err := s.call(ctx, func(ctx context.Context) error {
		return s.opt.API.Delete(ctx, o, client.Preconditions{UID: &uid, ResourceVersion: &rv})
	})
	return say("remove the record of volume "+o.Spec.VolumeID, err)
}
