package apply_test

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"mynetwork.io/mynetwork/controllers/apply"
)

var errInjected = errors.New("injected")

func applier(t *testing.T, fail *error, objects ...client.Object) apply.Applier {
	t.Helper()
	s := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(s).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			if fail != nil && *fail != nil {
				return *fail
			}
			return c.Apply(ctx, o, opts...)
		}}).Build()
	return apply.Applier{Client: c, Network: "main", UID: "u-1"}
}

func config(data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "n"}, Data: data}
}

func must(t *testing.T, a apply.Applier, o client.Object, want bool) {
	t.Helper()
	changed, err := a.Apply(t.Context(), o)
	if err != nil || changed != want {
		t.Fatalf("changed %v, %v; want %v", changed, err, want)
	}
}

func live(t *testing.T, a apply.Applier) *corev1.ConfigMap {
	t.Helper()
	c := &corev1.ConfigMap{}
	if err := a.Client.Get(t.Context(), client.ObjectKey{Namespace: "n", Name: "c"}, c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSecondApplyWritesNothing(t *testing.T) {
	a := applier(t, nil)
	must(t, a, config(map[string]string{"k": "v"}), true)
	version := live(t, a).ResourceVersion
	must(t, a, config(map[string]string{"k": "v"}), false)
	if live(t, a).ResourceVersion != version {
		t.Error("it was written")
	}
}

func TestDriftIsSetBack(t *testing.T) {
	a := applier(t, nil)
	must(t, a, config(map[string]string{"k": "v"}), true)
	c := live(t, a)
	c.Data["k"], c.Data["theirs"] = "changed", "stays"
	if err := a.Client.Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	must(t, a, config(map[string]string{"k": "v"}), true)
	if got := live(t, a).Data; got["k"] != "v" || got["theirs"] != "stays" {
		t.Errorf("%v", got)
	}
	must(t, a, config(map[string]string{"k": "v"}), false)
}

func TestDroppedFieldIsTakenBack(t *testing.T) {
	a := applier(t, nil)
	must(t, a, config(map[string]string{"k": "v", "old": "x"}), true)
	must(t, a, config(map[string]string{"k": "v"}), true)
	if got := live(t, a).Data; len(got) != 1 {
		t.Errorf("%v", got)
	}
}

func TestForeignObjectIsLeft(t *testing.T) {
	theirs := config(map[string]string{"theirs": "1"})
	for name, o := range map[string]*corev1.ConfigMap{
		"unmarked":           theirs,
		"of another network": {ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "n", Labels: map[string]string{"storage.mynetwork.io/network": "other"}}},
		"of an earlier one": {ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "n", Labels: map[string]string{"storage.mynetwork.io/network": "main"},
			Annotations: map[string]string{apply.AnnotationUID: "u-0"}}},
	} {
		a := applier(t, nil, o)
		before := live(t, a).ResourceVersion
		if _, err := a.Apply(t.Context(), config(map[string]string{"k": "v"})); !errors.Is(err, apply.ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
		if gone, err := a.Delete(t.Context(), o); !gone || err != nil {
			t.Errorf("%s: a foreign object is in the way of a deletion: %v %v", name, gone, err)
		}
		if live(t, a).ResourceVersion != before {
			t.Errorf("%s: it was written", name)
		}
	}
}

func TestErrorIsReturned(t *testing.T) {
	fail := errInjected
	a := applier(t, &fail)
	if changed, err := a.Apply(t.Context(), config(nil)); changed || !errors.Is(err, errInjected) {
		t.Errorf("%v %v", changed, err)
	}
	fail = nil
	must(t, a, config(nil), true)
}

func TestDelete(t *testing.T) {
	a := applier(t, nil)
	must(t, a, config(nil), true)
	if gone, err := a.Delete(t.Context(), config(nil)); gone || err != nil {
		t.Fatalf("%v %v", gone, err)
	}
	if gone, err := a.Delete(t.Context(), config(nil)); !gone || err != nil {
		t.Fatalf("%v %v", gone, err)
	}
}
