package failover

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Lasts is how long a Lease holds that does not say it.
const lasts = 40 * time.Second

// Kubelets reads the Leases of nodes from the API server itself. Nobody keeps all: each is renewed every ten seconds.
func Kubelets(ctx context.Context, live client.Reader, nodes []string) (map[string]Kubelet, error) {
	out := map[string]Kubelet{}
	for _, n := range nodes {
		l := &coordinationv1.Lease{}
		switch err := live.Get(ctx, client.ObjectKey{Namespace: corev1.NamespaceNodeLease, Name: n}, l); {
		case client.IgnoreNotFound(err) != nil:
			return nil, fmt.Errorf("lease of node %s: %w", n, err)
		case err != nil || l.Spec.RenewTime == nil:
			continue
		}
		k := Kubelet{Renewed: l.Spec.RenewTime.Time, Lasts: lasts}
		if w := written(l); !w.IsZero() {
			k.Renewed = w
		}
		if d := l.Spec.LeaseDurationSeconds; d != nil {
			k.Lasts = time.Duration(*d) * time.Second
		}
		out[n] = k
	}
	return out, nil
}

// written is when the API server last took a renewal, by its own clock, in whole seconds; zero if it does not say.
func written(l *coordinationv1.Lease) (t time.Time) {
	for _, f := range l.ManagedFields {
		if f.Operation == metav1.ManagedFieldsOperationUpdate && f.Subresource == "" && f.Time != nil && f.Time.After(t) {
			t = f.Time.Time
		}
	}
	return t
}

// Skew is how far the clock of who renews a Lease is ahead of the API server's, to a second.
func Skew(l *coordinationv1.Lease) (skew time.Duration, known bool) {
	w := written(l)
	if l.Spec.RenewTime == nil || w.IsZero() {
		return 0, false
	}
	return l.Spec.RenewTime.Sub(w).Truncate(time.Second), true
}
