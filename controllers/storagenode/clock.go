package storagenode

import (
	"context"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mynetwork.io/mynetwork/api/v1alpha1"
	"mynetwork.io/mynetwork/controllers/failover"
	"mynetwork.io/mynetwork/controllers/status"
)

// clockPeriod is how often the nodes' clocks are looked at: one list of small objects.
const clockPeriod = 10 * time.Minute

// maxSkew is how far a node's clock may be from the API server's. Certificates and grants bear an hour; people who compare logs do not.
const maxSkew = 10 * time.Second

// clocks remembers how far nodes' clocks are from the API server's. The zero value has not looked yet.
type clocks struct {
	mu     sync.Mutex
	looked time.Time
	skews  map[string]time.Duration
}

// look tells how far each node's clock is from the API server's: the kubelet writes the one into its Lease, the API server the other
// beside it, in whole seconds. It is what was last seen, if Leases can not be read now. The caller does not change it.
func (c *clocks) look(ctx context.Context, live client.Reader, now time.Time) map[string]time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.looked.IsZero() && now.Sub(c.looked) < clockPeriod {
		return c.skews
	}
	c.looked = now
	var leases coordinationv1.LeaseList
	if err := live.List(ctx, &leases, client.InNamespace(corev1.NamespaceNodeLease)); err != nil {
		return c.skews
	}
	c.skews = map[string]time.Duration{}
	for i := range leases.Items {
		if skew, ok := failover.Skew(&leases.Items[i]); ok {
			c.skews[leases.Items[i].Name] = skew
		}
	}
	return c.skews
}

// clock writes the condition of a node's clock, if something is known of it.
func (r *report) clock(st *v1alpha1.StorageNodeStatus) {
	skew, known := r.state.Skews[r.node.Spec.NodeName]
	if !known {
		return
	}
	put := func(is bool, reason, why string) {
		status.Bool(&st.Conditions, r.node.Generation, v1alpha1.ConditionClockSkewed, is, reason, why, r.state.Now)
	}
	switch {
	case skew >= maxSkew:
		put(true, v1alpha1.ReasonClockAhead, fmt.Sprintf("the node's clock is %s ahead of the API server's: have it set by NTP, as with chrony or systemd-timesyncd", skew))
	case -skew >= maxSkew:
		put(true, v1alpha1.ReasonClockBehind, fmt.Sprintf("the node's clock is %s behind the API server's: have it set by NTP, as with chrony or systemd-timesyncd", -skew))
	default:
		put(false, v1alpha1.ReasonHealthy, "the node's clock is that of the API server")
	}
}
