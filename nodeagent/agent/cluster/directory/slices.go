package directory

import (
	"net"
	"strconv"

	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// addresses gives host:port of the agent on each node. Where a node has two, as while a pod is replaced, the one that stays counts.
func addresses(set map[client.ObjectKey]client.Object, port int) map[string]string {
	type found struct {
		address string
		rank    int
	}
	best := map[string]found{}
	for _, o := range set {
		s := o.(*discoveryv1.EndpointSlice)
		if s.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if e.NodeName == nil || len(e.Addresses) == 0 {
				continue
			}
			f := found{net.JoinHostPort(e.Addresses[0], strconv.Itoa(port)), rank(e.Conditions)}
			if b, ok := best[*e.NodeName]; !ok || f.rank > b.rank || f.rank == b.rank && f.address < b.address {
				best[*e.NodeName] = f
			}
		}
	}
	out := map[string]string{}
	for node, f := range best {
		out[node] = f.address
	}
	return out
}

func rank(c discoveryv1.EndpointConditions) (r int) {
	if c.Terminating == nil || !*c.Terminating {
		r += 2
	}
	if c.Serving == nil || *c.Serving {
		r++
	}
	return r
}
