// Package apitest is a Kubernetes API in memory that serves VolumeRecords, with the behaviour that agents rely on: one
// resourceVersion that rises with every write of any object, writes that fail if the object changed since it was read, names that
// are unique, status that only UpdateStatus writes, deletes with preconditions, watches, and the transition rules of the
// definition that protect the fact. And it fails as a real one does: it is away, it hangs, or it does what it was asked and its
// answer is lost.
//
// It is for tests, which run against a real API server too where there is one. Server is safe for concurrent use; a hook runs
// without its lock.
package apitest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// Server is an API. The zero value is not usable: see New.
type Server struct {
	mu      sync.Mutex
	rev     uint64
	objects map[string]*v1alpha1.VolumeRecord
	watches map[*watcher]bool
	calls   map[string]int
	down    bool
	hang    bool
	lose    int // answers of writes to lose
	hook    func(verb string, o client.Object)
	now     func() time.Time
}

// New makes an empty API.
func New() *Server {
	return &Server{rev: 100, objects: map[string]*v1alpha1.VolumeRecord{}, watches: map[*watcher]bool{}, calls: map[string]int{}, now: time.Now}
}

// SetDown makes every call fail at once, and ends watches.
func (s *Server) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
	if down {
		for w := range s.watches {
			w.end()
			delete(s.watches, w)
		}
	}
}

// SetHang makes every call wait until its context ends.
func (s *Server) SetHang(hang bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hang = hang
}

// LoseAnswers does the next n writes and says that it timed out.
func (s *Server) LoseAnswers(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lose = n
}

// SetClock sets the clock of creationTimestamp.
func (s *Server) SetClock(now func() time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = now
}

// Hook is called before each call is looked at, with get, list, create, update, delete, status or watch.
func (s *Server) Hook(f func(verb string, o client.Object)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = f
}

// Calls gives how often each verb was called.
func (s *Server) Calls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.calls)
}

// Objects gives copies of all records, by name.
func (s *Server) Objects() map[string]*v1alpha1.VolumeRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]*v1alpha1.VolumeRecord{}
	for k, o := range s.objects {
		out[k] = o.DeepCopy()
	}
	return out
}

// enter begins a call: it fails if the API is away. On success the lock is held.
func (s *Server) enter(ctx context.Context, verb string, o client.Object) error {
	s.mu.Lock()
	s.calls[verb]++
	hook, down, hang := s.hook, s.down, s.hang
	s.mu.Unlock()
	if hook != nil {
		hook(verb, o)
	}
	if hang {
		<-ctx.Done()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if down {
		return fmt.Errorf("dial tcp: connect: %w", syscall.ECONNREFUSED)
	}
	s.mu.Lock()
	return nil
}

func resource() schema.GroupResource {
	return schema.GroupResource{Group: v1alpha1.GroupName, Resource: "volumerecords"}
}

func record(o client.Object) *v1alpha1.VolumeRecord { return o.(*v1alpha1.VolumeRecord) }

// Get implements client.Reader.
func (s *Server) Get(ctx context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	if err := s.enter(ctx, "get", o); err != nil {
		return err
	}
	defer s.mu.Unlock()
	have := s.objects[key.Name]
	if have == nil {
		return apierrors.NewNotFound(resource(), key.Name)
	}
	have.DeepCopyInto(record(o))
	return nil
}

// List implements client.Reader.
func (s *Server) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if err := s.enter(ctx, "list", nil); err != nil {
		return err
	}
	defer s.mu.Unlock()
	var o client.ListOptions
	o.ApplyOptions(opts)
	out := list.(*v1alpha1.VolumeRecordList)
	out.Items, out.Continue = nil, ""
	names := slices.Sorted(maps.Keys(s.objects))
	for _, name := range names {
		have := s.objects[name]
		if name <= o.Continue || o.LabelSelector != nil && !o.LabelSelector.Matches(labels.Set(have.Labels)) {
			continue
		}
		if o.Limit > 0 && int64(len(out.Items)) == o.Limit {
			out.Continue = out.Items[len(out.Items)-1].Name
			break
		}
		out.Items = append(out.Items, *have.DeepCopy())
	}
	out.ResourceVersion = strconv.FormatUint(s.rev, 10)
	return nil
}

// Create implements client.Writer.
func (s *Server) Create(ctx context.Context, o client.Object, _ ...client.CreateOption) error {
	if err := s.enter(ctx, "create", o); err != nil {
		return err
	}
	defer s.mu.Unlock()
	in := record(o)
	if s.objects[in.Name] != nil {
		return apierrors.NewAlreadyExists(resource(), in.Name)
	}
	made := in.DeepCopy()
	made.UID = types.UID(fmt.Sprintf("uid-%d", s.rev))
	made.CreationTimestamp = metav1.NewTime(s.now().Truncate(time.Second))
	made.Generation = 1
	made.Status = v1alpha1.VolumeRecordStatus{}
	s.store(made, watch.Added)
	return s.answer(made, in)
}

// answer gives a write's result, or loses it.
func (s *Server) answer(made, out *v1alpha1.VolumeRecord) error {
	if s.lose > 0 {
		s.lose--
		return errors.Join(errors.New("the answer is lost"), context.DeadlineExceeded)
	}
	made.DeepCopyInto(out)
	return nil
}

func (s *Server) store(o *v1alpha1.VolumeRecord, t watch.EventType) {
	s.rev++
	o.ResourceVersion = strconv.FormatUint(s.rev, 10)
	s.objects[o.Name] = o
	s.tell(t, o)
}

// find gives what is stored of an object that is to be written.
func (s *Server) find(in *v1alpha1.VolumeRecord) (*v1alpha1.VolumeRecord, error) {
	have := s.objects[in.Name]
	switch {
	case have == nil || in.UID != "" && in.UID != have.UID:
		return nil, apierrors.NewNotFound(resource(), in.Name)
	case in.ResourceVersion == "":
		return nil, apierrors.NewBadRequest("metadata.resourceVersion: must be specified for an update")
	case in.ResourceVersion != have.ResourceVersion:
		return nil, apierrors.NewConflict(resource(), in.Name, errors.New("the object has been modified"))
	}
	return have, nil
}

// Update implements client.Writer: all but status.
func (s *Server) Update(ctx context.Context, o client.Object, _ ...client.UpdateOption) error {
	if err := s.enter(ctx, "update", o); err != nil {
		return err
	}
	defer s.mu.Unlock()
	in := record(o)
	have, err := s.find(in)
	if err != nil {
		return err
	}
	if err := transition(have, in); err != nil {
		return err
	}
	next := in.DeepCopy()
	next.Status = *have.Status.DeepCopy()
	next.UID, next.CreationTimestamp, next.Generation = have.UID, have.CreationTimestamp, have.Generation+1
	s.store(next, watch.Modified)
	return s.answer(next, in)
}

// transition is the part of the definition's rules that a data path leans on.
func transition(was, is *v1alpha1.VolumeRecord) error {
	var why string
	switch {
	case is.Fact.Epoch < was.Fact.Epoch:
		why = "an epoch never falls"
	case is.Fact.Epoch == was.Fact.Epoch && is.Fact.Token != was.Fact.Token:
		why = "one epoch has one writer"
	case was.State.Deletion != nil && is.State.Deletion == nil:
		why = "a deleted volume does not come back"
	case is.Spec.Name != was.Spec.Name || is.Spec.VolumeID != was.Spec.VolumeID || is.Spec.NetworkUID != was.Spec.NetworkUID:
		why = "name, id and network are fixed"
	default:
		return nil
	}
	list := field.ErrorList{field.Invalid(field.NewPath("fact"), is.Fact.Epoch, why)}
	return apierrors.NewInvalid(v1alpha1.GroupVersion().WithKind("VolumeRecord").GroupKind(), is.Name, list)
}

// UpdateStatus lets the operator change the status of a record.
func (s *Server) UpdateStatus(name string, change func(o *v1alpha1.VolumeRecord)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.objects[name]
	if have == nil {
		return apierrors.NewNotFound(resource(), name)
	}
	next := have.DeepCopy()
	change(next)
	keep := have.DeepCopy()
	keep.Status = next.Status
	s.store(keep, watch.Modified)
	return nil
}

// Delete implements client.Writer.
func (s *Server) Delete(ctx context.Context, o client.Object, opts ...client.DeleteOption) error {
	if err := s.enter(ctx, "delete", o); err != nil {
		return err
	}
	defer s.mu.Unlock()
	have := s.objects[o.GetName()]
	if have == nil {
		return apierrors.NewNotFound(resource(), o.GetName())
	}
	var d client.DeleteOptions
	d.ApplyOptions(opts)
	if p := d.Preconditions; p != nil && (p.UID != nil && *p.UID != have.UID || p.ResourceVersion != nil && *p.ResourceVersion != have.ResourceVersion) {
		return apierrors.NewConflict(resource(), o.GetName(), errors.New("a precondition fails"))
	}
	s.rev++
	delete(s.objects, have.Name)
	s.tell(watch.Deleted, have)
	return nil
}
