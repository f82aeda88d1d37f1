// Package follow follows a few objects of Kubernetes by list and watch: without a cache, for programs that need the newest state of
// a handful of objects and nothing else.
//
// A follower hands on the whole set after each change, and never an older state after a newer one. While the API is away it
// waits, with a pause that grows to Pause; what it handed on last stays true for whoever took it.
//
// Concurrency: Run is a Runnable; it calls from its own goroutine alone.
package follow

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Pause is the longest wait between two attempts while the API is away, about.
const Pause = 5 * time.Second

// API is what a follower needs of Kubernetes; a controller-runtime client with watch, and without a cache, is one.
type API interface {
	List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error
	Watch(ctx context.Context, list client.ObjectList, opts ...client.ListOption) (watch.Interface, error)
}

// Follower follows the objects of one kind that some options select.
type Follower struct {
	API API
	// What names them in the log, as "endpoint slices".
	What string
	// New makes an empty list of the kind.
	New func() client.ObjectList
	// Options select the objects, as a namespace, labels or fields.
	Options []client.ListOption
	// Keep may select further; nil keeps all.
	Keep func(client.Object) bool
	// Changed takes the set after each change, and once at the beginning. The objects are the receiver's.
	Changed func(map[client.ObjectKey]client.Object)
	Log     *slog.Logger
}

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) error {
	wait := time.Duration(0)
	for ctx.Err() == nil {
		began := time.Now()
		err := f.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil || time.Since(began) > Pause {
			wait = 0
		}
		if err != nil {
			f.Log.Info("the Kubernetes API does not tell of "+f.What+"; what is known stays in use", "err", err)
		}
		wait = min(max(2*wait, Pause/16), Pause)
		t := time.NewTimer(wait/2 + rand.N(wait/2+1))
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
	return nil
}

// once lists, and watches from there until the watch can not be continued.
func (f *Follower) once(ctx context.Context) error {
	list := f.New()
	c, cancel := context.WithTimeout(ctx, Pause)
	err := f.API.List(c, list, f.Options...)
	cancel()
	if err != nil {
		return fmt.Errorf("list %s: %w", f.What, err)
	}
	set := map[client.ObjectKey]client.Object{}
	items, err := meta.ExtractList(list)
	if err != nil {
		return fmt.Errorf("list %s: %w", f.What, err)
	}
	for _, i := range items {
		if o, ok := i.(client.Object); ok && f.keep(o) {
			set[client.ObjectKeyFromObject(o)] = o
		}
	}
	f.tell(set)
	for version := list.GetResourceVersion(); ctx.Err() == nil; {
		if version, err = f.watch(ctx, set, version); err != nil {
			return err
		}
	}
	return nil
}

func (f *Follower) keep(o client.Object) bool { return f.Keep == nil || f.Keep(o) }

func (f *Follower) tell(set map[client.ObjectKey]client.Object) {
	out := map[client.ObjectKey]client.Object{}
	for k, o := range set {
		out[k] = o.DeepCopyObject().(client.Object)
	}
	f.Changed(out)
}

// watch applies the events after a version until the server ends the watch, and gives the version to go on from.
func (f *Follower) watch(ctx context.Context, set map[client.ObjectKey]client.Object, version string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seconds := int64(300 + rand.N(300)) // servers end watches by themselves too; not all at once
	opts := append([]client.ListOption{}, f.Options...)
	opts = append(opts, rawOptions{version: version, seconds: seconds})
	w, err := f.API.Watch(ctx, f.New(), opts...)
	if err != nil {
		return "", fmt.Errorf("watch %s: %w", f.What, err)
	}
	defer w.Stop()
	heard := false
	for e := range w.ResultChan() {
		heard = true
		o, ok := e.Object.(client.Object)
		switch {
		case e.Type == watch.Error:
			return "", fmt.Errorf("watch %s: %w", f.What, apierrors.FromObject(e.Object))
		case !ok:
			return "", fmt.Errorf("watch %s: an event of type %s with %T", f.What, e.Type, e.Object)
		case e.Type == watch.Bookmark:
			version = o.GetResourceVersion()
			continue
		}
		version = o.GetResourceVersion()
		key := client.ObjectKeyFromObject(o)
		_, had := set[key]
		if e.Type == watch.Deleted || !f.keep(o) {
			delete(set, key)
			if !had {
				continue
			}
		} else {
			set[key] = o
		}
		f.tell(set)
	}
	if !heard && ctx.Err() == nil {
		return "", fmt.Errorf("watch %s: it ended at once", f.What) // list again, after a pause
	}
	return version, nil
}

// rawOptions make a watch go on from a version.
type rawOptions struct {
	version string
	seconds int64
}

// ApplyToList implements client.ListOption.
func (r rawOptions) ApplyToList(o *client.ListOptions) {
	o.Raw = &metav1.ListOptions{ResourceVersion: r.version, TimeoutSeconds: &r.seconds, AllowWatchBookmarks: true}
}
