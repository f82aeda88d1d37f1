package failover

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
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
		if d := l.Spec.LeaseDurationSeconds; d != nil {
			k.Lasts = time.Duration(*d) * time.Second
		}
		out[n] = k
	}
	return out, nil
}
