package apply

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// ErrForeign tells that an object of the wanted name exists and belongs to somebody else.
var ErrForeign = errors.New("exists and was not made for this network")

// AnnotationUID has the uid of the network that an object was made for.
const AnnotationUID = "storage.mynetwork.io/network-uid"

// FieldOwner is the operator's name in managed fields.
const FieldOwner = client.FieldOwner("mynetwork-operator")

// Applier applies objects for one network.
type Applier struct {
	Client  client.Client
	Network string
	UID     types.UID
}

// Apply makes the live object have everything that want has. It tells whether it had to write. It returns ErrForeign, and
// the API's errors as they are. want is not changed.
func (a Applier) Apply(ctx context.Context, want client.Object) (changed bool, err error) {
	gvk, err := apiutil.GVKForObject(want, a.Client.Scheme())
	if err != nil {
		return false, err
	}
	name := fmt.Sprintf("%s %s", gvk.Kind, client.ObjectKeyFromObject(want))
	u, err := a.wanted(want)
	if err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	u.SetGroupVersionKind(gvk)
	live := want.DeepCopyObject().(client.Object)
	switch err := a.Client.Get(ctx, client.ObjectKeyFromObject(want), live); {
	case apierrors.IsNotFound(err):
	case err != nil:
		return false, fmt.Errorf("get %s: %w", name, err)
	case !a.Owns(live):
		return false, fmt.Errorf("%s %w: delete or rename it", name, ErrForeign)
	default:
		have, err := runtime.DefaultUnstructuredConverter.ToUnstructured(live)
		if err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
		if within(withoutKind(u.Object), have) {
			return false, nil
		}
	}
	if err := a.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.ForceOwnership, FieldOwner); err != nil {
		return false, fmt.Errorf("apply %s: %w", name, err)
	}
	return true, nil
}

// Owns tells whether an object was made for this network.
func (a Applier) Owns(o client.Object) bool {
	return o.GetLabels()[v1alpha1.LabelNetwork] == a.Network && o.GetAnnotations()[AnnotationUID] == string(a.UID)
}

// Delete deletes an object if it exists and was made for this network. It tells whether the object is gone.
func (a Applier) Delete(ctx context.Context, o client.Object) (gone bool, err error) {
	live := o.DeepCopyObject().(client.Object)
	if err := a.Client.Get(ctx, client.ObjectKeyFromObject(o), live); err != nil {
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	}
	if !a.Owns(live) {
		return true, nil
	}
	if live.GetDeletionTimestamp() != nil {
		return false, nil
	}
	uid := live.GetUID()
	err = a.Client.Delete(ctx, live, client.Preconditions{UID: &uid}, client.PropagationPolicy("Background"))
	return false, client.IgnoreNotFound(err)
}

// wanted is the object with marks, without what only the API server writes.
func (a Applier) wanted(want client.Object) (*unstructured.Unstructured, error) {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(want)
	if err != nil {
		return nil, err
	}
	delete(m, "status")
	prune(m)
	u := &unstructured.Unstructured{Object: m}
	u.SetLabels(with(u.GetLabels(), v1alpha1.LabelNetwork, a.Network))
	u.SetAnnotations(with(u.GetAnnotations(), AnnotationUID, string(a.UID)))
	b, err := json.Marshal(u.Object)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	u.SetAnnotations(with(u.GetAnnotations(), v1alpha1.AnnotationApplied, hex.EncodeToString(sum[:16])))
	return u, nil
}

func with(m map[string]string, k, v string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[k] = v
	return m
}

// prune drops nulls and the empty creation times that typed objects are written with.
func prune(m map[string]any) {
	for k, v := range m {
		switch v := v.(type) {
		case nil:
			delete(m, k)
		case map[string]any:
			prune(v)
		case []any:
			for _, e := range v {
				if e, ok := e.(map[string]any); ok {
					prune(e)
				}
			}
		}
	}
	if meta, ok := m["metadata"].(map[string]any); ok {
		for _, k := range []string{"creationTimestamp", "resourceVersion", "uid", "generation", "managedFields"} {
			delete(meta, k)
		}
	}
}

func withoutKind(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		if k != "kind" && k != "apiVersion" {
			out[k] = v
		}
	}
	return out
}

// within tells whether have says all that want says. Lists have to be as long as wanted, and in order: the API server adds defaults
// to their elements and no elements.
func within(want, have any) bool {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			return len(w) == 0 && have == nil
		}
		for k, v := range w {
			if !within(v, h[k]) {
				return false
			}
		}
		return true
	case []any:
		h, _ := have.([]any)
		if len(w) != len(h) {
			return false
		}
		for i := range w {
			if !within(w[i], h[i]) {
				return false
			}
		}
		return true
	default:
		return equality.Semantic.DeepEqual(want, have)
	}
}
