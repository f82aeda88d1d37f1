package controller

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/request"
)

const (
	defaultCopies = 3
	surveyors     = 16 // agents asked at once
	// usable is the part of a store that users may fill, in percent: stores stop them there.
	usable = 92
)

// survey asks every agent of a network for its state. Those that do not answer are missing.
func (d *Controller) survey(ctx context.Context, network string) (states []*agentv1.StatusResponse, missing []string, err error) {
	a, err := request.Any(ctx, d.cfg.Agents, network)
	if err != nil {
		return nil, nil, err
	}
	first, err := a.Status(ctx, &agentv1.StatusRequest{})
	if err != nil {
		return nil, nil, fmt.Errorf("state of network %q: %w", network, err)
	}
	states = append(states, first)
	var mu sync.Mutex
	var wg sync.WaitGroup
	turn := make(chan struct{}, surveyors)
	for _, p := range first.Peers {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			s, err := request.Status(ctx, d.cfg.Agents, network, p.Node)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing = append(missing, p.Node)
			} else {
				states = append(states, s)
			}
		})
	}
	wg.Wait()
	slices.Sort(missing)
	return states, missing, ctx.Err()
}

// placeable is the largest volume, in bytes, of which nodes with that much free space can take a number of copies, each
// on another node. A volume of size v puts at most v on one node, so it fits exactly if the sum of min(free, v) over all
// nodes is at least copies times v. That holds for all v up to the largest: sorted by free space, let the k nodes with the
// most take v each; the others together must take (copies-k) v.
func placeable(free []int64, copies int) int64 {
	if copies < 1 || len(free) < copies {
		return 0
	}
	sorted := slices.Sorted(slices.Values(free))
	slices.Reverse(sorted)
	var rest int64
	for _, f := range sorted {
		rest += max(f, 0)
	}
	for k := 0; k < copies; k++ {
		// If the largest of the rest does not exceed its share, the rest is shared evenly.
		share := rest / int64(copies-k)
		if sorted[k] <= share {
			return share
		}
		rest -= max(sorted[k], 0)
	}
	return 0
}

// coarse rounds a capacity down, by less than a hundredth of it: the provisioner writes one object per StorageClass when it is told another
// number, and every write to a volume changes the last digits.
func coarse(capacity int64) int64 {
	step := int64(request.Page)
	for step <= capacity/256 {
		step *= 2
	}
	return capacity / step * step
}

// room is the free space of each node of a network that has stores, in bytes.
func room(states []*agentv1.StatusResponse) (free []int64) {
	for _, s := range states {
		n := int64(0)
		if len(s.Stores) == 0 {
			continue
		}
		for _, st := range s.Stores {
			if st.Quarantined == "" {
				n += max(0, st.Capacity/100*usable-st.Used)
			}
		}
		free = append(free, n)
	}
	return free
}

// GetCapacity implements csi.ControllerServer. It gives the largest volume of its number of copies that can be placed;
// without a network, the largest in any. Nodes that do not answer count as full.
func (d *Controller) GetCapacity(ctx context.Context, r *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	p, err := request.ReadParameters(r.Parameters)
	if err != nil {
		return nil, err
	}
	var uses []request.Access
	for _, c := range r.VolumeCapabilities {
		use, err := request.ReadCapability(c)
		if err != nil {
			return nil, err
		}
		uses = append(uses, use)
	}
	networks, err := d.cfg.Agents.Networks(ctx)
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	if p.Network != "" || p.NetworkUID != "" {
		n, err := p.Choose(networks)
		if err != nil {
			return nil, err
		}
		networks = []request.Network{n}
	}
	copies := defaultCopies
	if p.Copies != nil {
		copies = int(*p.Copies)
	}
	var most int64
	for _, n := range networks {
		if t := r.AccessibleTopology; t != nil && t.Segments[request.TopologyPrefix+n.Name] != request.TopologyValue {
			continue
		}
		states, missing, err := d.survey(ctx, n.ID)
		if err != nil {
			return nil, err
		}
		free := room(states)
		if len(free) < copies {
			// Not an answer of 0, which would stand until the next survey: the network may be starting.
			return nil, fmt.Errorf("network %s: %d nodes with stores answer, of %d copies each needs one; away: %q: %w", n.Name, len(free), copies, missing, request.ErrAway)
		}
		most = max(most, placeable(free, copies))
	}
	most = coarse(most)
	return &csi.GetCapacityResponse{AvailableCapacity: most, MaximumVolumeSize: wrapperspb.Int64(most), MinimumVolumeSize: wrapperspb.Int64(request.Least(uses))}, nil
}
