package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"mynetwork.io/mynetwork/api/v1alpha1"
	kube "mynetwork.io/mynetwork/nodeagent/agent/cluster"
)

// The API takes no addresses of the loopback device for pods: agents are told of them instead of these.
const (
	podNet  = "10.99.0."
	loopNet = "127.0.0."
)

// local has endpoints of pods at the loopback device.
func local(o runtime.Object) {
	if s, ok := o.(*discoveryv1.EndpointSlice); ok {
		for i := range s.Endpoints {
			for j, a := range s.Endpoints[i].Addresses {
				s.Endpoints[i].Addresses[j] = strings.Replace(a, podNet, loopNet, 1)
			}
		}
	}
}

// apiWatch is a watch that begins with what there was, and whose endpoints are at the loopback device.
type apiWatch struct {
	watch.Interface
	out chan watch.Event
}

func newAPIWatch(ctx context.Context, w watch.Interface, first []runtime.Object) *apiWatch {
	l := &apiWatch{w, make(chan watch.Event)}
	send := func(e watch.Event) bool {
		local(e.Object)
		select {
		case l.out <- e:
			return true
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer close(l.out)
		for _, o := range first {
			if !send(watch.Event{Type: watch.Added, Object: o}) {
				return
			}
		}
		for e := range w.ResultChan() {
			if !send(e) {
				return
			}
		}
	}()
	return l
}

// ResultChan implements watch.Interface.
func (l *apiWatch) ResultChan() <-chan watch.Event { return l.out }

// realAPI starts a kube-apiserver with the definitions of config/crd.
func (k *kubeTest) realAPI() client.WithWatch {
	k.real = true
	env := &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join("..", "..", "config", "crd")}, ErrorIfCRDPathMissing: true,
		ControlPlaneStartTimeout: 2 * time.Minute, ControlPlaneStopTimeout: time.Minute}
	cfg, err := env.Start()
	check(k.tb, err)
	k.tb.Cleanup(func() { check(k.tb, env.Stop()) })
	c, err := kube.NewClient(cfg)
	check(k.tb, err)
	return c
}

// startAPI makes the API; while it is down every call fails, and watches end.
func (k *kubeTest) startAPI() {
	base := client.WithWatch(nil)
	switch {
	case os.Getenv("KUBEBUILDER_ASSETS") != "":
		base = k.realAPI()
	case os.Getenv("MYNETWORK_REAL_API") != "":
		k.tb.Fatal("MYNETWORK_REAL_API is set, and KUBEBUILDER_ASSETS names no programs")
	default:
		base = k.fakeAPI()
	}
	k.api = interceptor.NewClient(base, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			return errors.Join(k.away(ctx), c.Get(ctx, key, o, opts...))
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			err := errors.Join(k.away(ctx), c.List(ctx, list, opts...))
			if s, ok := list.(*discoveryv1.EndpointSliceList); ok {
				for i := range s.Items {
					local(&s.Items[i])
				}
			}
			return err
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			if err := k.away(ctx); err != nil {
				return err
			}
			return c.Update(ctx, o, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if err := k.away(ctx); err != nil {
				return err
			}
			return c.Create(ctx, o, opts...)
		},
		SubResourceApply: func(ctx context.Context, c client.Client, sub string, o runtime.ApplyConfiguration, opts ...client.SubResourceApplyOption) error {
			if err := k.away(ctx); err != nil {
				return err
			}
			return c.SubResource(sub).Apply(ctx, o, opts...)
		},
		Watch: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) (watch.Interface, error) {
			if err := k.away(ctx); err != nil {
				return nil, err
			}
			w, err := c.Watch(ctx, list, opts...)
			if err != nil {
				return nil, err
			}
			context.AfterFunc(ctx, w.Stop)
			first, err := k.first(ctx, c, list, opts)
			return newAPIWatch(ctx, w, first), err
		},
	})
}

// first is what a real API begins a watch with that names no version. The fake has a watch begin with what changes after it.
func (k *kubeTest) first(ctx context.Context, c client.WithWatch, list client.ObjectList, opts []client.ListOption) ([]runtime.Object, error) {
	var o client.ListOptions
	o.ApplyOptions(opts)
	if k.real || o.Raw != nil && o.Raw.ResourceVersion != "" {
		return nil, nil
	}
	// The fake knows no field selectors without an index, and a watch's reader looks at the name.
	have := list.DeepCopyObject().(client.ObjectList)
	if err := c.List(ctx, have); err != nil {
		return nil, err
	}
	return meta.ExtractList(have)
}

func (k *kubeTest) fakeAPI() client.WithWatch {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, certv1.AddToScheme, discoveryv1.AddToScheme} {
		check(k.tb, add(scheme))
	}
	index := func(f func(*v1alpha1.StorageNode) string) client.IndexerFunc {
		return func(o client.Object) []string { return []string{f(o.(*v1alpha1.StorageNode))} }
	}
	return fake.NewClientBuilder().WithScheme(scheme).
		WithStatusSubresource(&v1alpha1.MyNetwork{}, &v1alpha1.StorageNode{}, &v1alpha1.VolumeRecord{}, &certv1.CertificateSigningRequest{}).
		WithIndex(&v1alpha1.MyNetwork{}, "metadata.name", func(o client.Object) []string { return []string{o.GetName()} }).
		WithIndex(&v1alpha1.StorageNode{}, "spec.network", index(func(n *v1alpha1.StorageNode) string { return n.Spec.Network })).
		WithIndex(&v1alpha1.StorageNode{}, "spec.nodeName", index(func(n *v1alpha1.StorageNode) string { return n.Spec.NodeName })).Build()
}
