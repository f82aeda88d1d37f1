package mailbox

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/nodeagent/agent/grants"
	"mynetwork.io/mynetwork/nodeagent/registry"
	"mynetwork.io/mynetwork/nodeagent/task"
)

// call makes one request to the API.
func (b *Box) call(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, b.opt.CallLimit)
	defer cancel()
	return f(ctx)
}

// final tells that an error of the API stays one, however often it is tried.
func final(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsUnauthorized(err)
}

// said is the error of an API call that nobody tries again.
func said(name string, err error) error {
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("record %s: %w", name, registry.ErrNotFound)
	}
	return fmt.Errorf("record %s: %w", name, err)
}

// post writes a request into a record.
func (b *Box) post(ctx context.Context, name string, r v1alpha1.VolumeRequest) error {
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		o := &v1alpha1.VolumeRecord{}
		err := b.call(ctx, func(ctx context.Context) error { return b.opt.API.Get(ctx, client.ObjectKey{Name: name}, o) })
		if err == nil && asked(o, &r) {
			return nil // written, and the answer was lost
		}
		if err == nil {
			r.At = metav1.NewTime(b.opt.Now())
			o.Requests = put(o.Requests, r)
			err = b.call(ctx, func(ctx context.Context) error { return b.opt.API.Update(ctx, o) })
		}
		switch {
		case err == nil:
			return nil
		case final(err):
			return said(name, err)
		case !task.PauseAbout(ctx, wait):
			return fmt.Errorf("record %s: %w: %w", name, grants.ErrNoAnswer, err)
		}
	}
}

// await watches a record until a request is answered.
func (b *Box) await(ctx context.Context, name, id string) (v1alpha1.VolumeAnswer, error) {
	var last error
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		a, ok, err := b.follow(ctx, name, id)
		switch {
		case ok:
			return a, nil
		case err != nil && final(err):
			return a, said(name, err)
		case err != nil:
			last = err
		}
		if !task.PauseAbout(ctx, wait) {
			if last == nil {
				last = ctx.Err()
			}
			return a, fmt.Errorf("record %s: %w: %w", name, grants.ErrNoAnswer, last)
		}
	}
}

// follow watches a record until a request is answered or the watch ends. What is there comes as the first event.
func (b *Box) follow(ctx context.Context, name, id string) (a v1alpha1.VolumeAnswer, ok bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begun := time.AfterFunc(b.opt.CallLimit, cancel) // bounds the beginning alone
	w, err := b.opt.API.Watch(ctx, &v1alpha1.VolumeRecordList{}, client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", name)})
	begun.Stop()
	if err != nil {
		return a, false, err
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return a, false, ctx.Err()
		case e, open := <-w.ResultChan():
			if !open {
				return a, false, nil
			}
			if e.Type == watch.Error {
				return a, false, apierrors.FromObject(e.Object)
			}
			o, is := e.Object.(*v1alpha1.VolumeRecord)
			if !is || o.Name != name {
				continue
			}
			if e.Type == watch.Deleted {
				return a, false, apierrors.NewNotFound(v1alpha1.GroupVersion().WithResource("volumerecords").GroupResource(), name)
			}
			if a, ok = answerTo(o, b.opt.Node, id); ok {
				return a, true, nil
			}
		}
	}
}
