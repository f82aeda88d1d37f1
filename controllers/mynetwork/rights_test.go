package mynetwork_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"mynetwork.io/mynetwork/api/v1alpha1"
)

// rules reads the operator's rights.
func rules(t *testing.T) (out []rbacv1.PolicyRule) {
	t.Helper()
	b, err := os.ReadFile("../../config/operator/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for doc := range strings.SplitSeq(string(b), "\n---\n") {
		var role struct {
			Kind  string
			Rules []rbacv1.PolicyRule
		}
		if err := yaml.Unmarshal([]byte(doc), &role); err != nil {
			t.Fatal(err)
		}
		out = append(out, role.Rules...)
	}
	return out
}

func allowed(rules []rbacv1.PolicyRule, verb, group, resource string) bool {
	return slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool {
		return slices.Contains(r.Verbs, verb) && slices.Contains(r.APIGroups, group) && slices.Contains(r.Resources, resource)
	})
}

// What a network's life needs is what the chart grants: every call of a round from creation to deletion is held against the rules.
func TestRightsAreEnough(t *testing.T) {
	granted := rules(t)
	used := map[string]bool{}
	w := newWorld(t, three("main")...)
	ask := func(verb, sub string, gvk schema.GroupVersionKind) {
		kind, list := strings.CutSuffix(gvk.Kind, "List")
		resource := strings.ToLower(kind) + "s"
		if strings.HasSuffix(kind, "Class") {
			resource = strings.ToLower(kind) + "es"
		}
		if list {
			verb = "list"
		}
		used[verb] = true
		if !allowed(granted, verb, gvk.Group, resource+sub) {
			t.Errorf("the operator may not %s %s%s of group %q", verb, resource, sub, gvk.Group)
		}
	}
	of := func(o runtime.Object) schema.GroupVersionKind {
		gvk, err := apiutil.GVKForObject(o, w.client.Scheme())
		if err != nil {
			t.Fatal(err)
		}
		return gvk
	}
	w.r.Client = watched(w.client.(client.WithWatch), ask, of)
	w.settle("main")
	w.agents("main")
	w.settle("main")
	if err := w.client.Delete(t.Context(), w.network("main")); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, err := w.reconcile("main"); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"main.a", "main.b", "main.c"} {
			n := &v1alpha1.StorageNode{}
			if w.exists("", name, n) && n.DeletionTimestamp != nil {
				n.Finalizers = nil
				if err := w.client.Update(t.Context(), n); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, verb := range []string{"get", "list", "create", "patch", "delete"} {
		if !used[verb] {
			t.Errorf("no %s was seen", verb)
		}
	}
	// Negative control: what is not granted is found.
	if allowed(granted, "delete", "", "nodes") || allowed(granted, "update", "storage.mynetwork.io", "volumerecords") {
		t.Error("the operator may delete nodes, or write records")
	}
}

func watched(inner client.WithWatch, ask func(verb, sub string, gvk schema.GroupVersionKind), of func(runtime.Object) schema.GroupVersionKind) client.Client {
	return interceptor.NewClient(inner, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, k client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			ask("get", "", of(o))
			return c.Get(ctx, k, o, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, o client.ObjectList, opts ...client.ListOption) error {
			ask("list", "", of(o))
			return c.List(ctx, o, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			ask("create", "", of(o))
			return c.Create(ctx, o, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			ask("delete", "", of(o))
			return c.Delete(ctx, o, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			ask("patch", "", of(o))
			return c.Patch(ctx, o, p, opts...)
		},
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			u, ok := o.(interface {
				GroupVersionKind() schema.GroupVersionKind
			})
			if ok {
				ask("patch", "", u.GroupVersionKind())
				ask("create", "", u.GroupVersionKind()) // an apply of what is not there
			}
			return c.Apply(ctx, o, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			ask("patch", "/"+sub, of(o))
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	})
}
