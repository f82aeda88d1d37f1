package plane

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"mynetwork.io/mynetwork/hack/cluster/record"
)

// NodeState is what the API says of a node.
type NodeState struct {
	Ready     string // "True", "False", "Unknown", or "" of a node that never registered
	Reason    string
	Heartbeat time.Time // when the kubelet said so, in whole seconds
}

type condition struct {
	Type, Status, Reason string
	LastHeartbeatTime    time.Time
}

// Nodes asks the API server for the nodes.
func Nodes(r *record.Record) (map[string]NodeState, error) {
	client, url, err := Client(r)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	resp, err := client.Get(url + "/api/v1/nodes")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("list nodes: %s", resp.Status)
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct{ Conditions []condition }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	out := map[string]NodeState{}
	for _, n := range list.Items {
		state := NodeState{}
		for _, c := range n.Status.Conditions {
			if c.Type == "Ready" {
				state = NodeState{c.Status, c.Reason, c.LastHeartbeatTime}
			}
		}
		out[n.Metadata.Name] = state
	}
	return out, nil
}
