package machine

import (
	"fmt"

	"mynetwork.io/mynetwork/hack/cluster/record"
)

// API is the name of the control plane beside those of nodes, where a partition is asked for.
const API = "api"

// PartitionFrom cuts a node off from another node, or from the API, and from nothing else. Both directions are cut.
func PartitionFrom(r *record.Record, node, other string) error {
	if other == node {
		return fmt.Errorf("node %s cannot be cut off from itself", node)
	}
	if other != API {
		if _, err := running(r, other); err != nil {
			return err
		}
	}
	return cut(r, node, other, true)
}

// cut makes or undoes (on false) the routes of PartitionFrom. A cut between two nodes is made at both, since either alone
// still lets packets through one way; that to the API at the node alone, since the node is who answers nothing.
func cut(r *record.Record, node, other string, on bool) error {
	if _, err := running(r, node); err != nil {
		return err
	}
	if other == API {
		return ip(netns(r.Processes[node]), host(APIAddress, on))
	}
	a, err := Number(r, node)
	if err != nil {
		return err
	}
	b, err := Number(r, other)
	if err != nil {
		return err
	}
	if err := ip(netns(r.Processes[node]), host(Address(b), on), pods(b, on)); err != nil {
		return err
	}
	if !r.Alive(other) {
		return nil
	}
	return ip(netns(r.Processes[other]), host(Address(a), on), pods(a, on))
}

// host is the route to one address: nowhere, or over the cable. Both replace each other.
func host(address string, nowhere bool) string {
	if nowhere {
		return "route replace blackhole " + address + "/32"
	}
	return "route replace " + address + "/32 dev eth0"
}

func pods(number int, nowhere bool) string {
	if nowhere {
		return "route replace blackhole " + PodSubnet(number)
	}
	return fmt.Sprintf("route replace %s via %s", PodSubnet(number), Address(number))
}
