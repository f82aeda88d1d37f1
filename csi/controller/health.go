package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"mynetwork.io/mynetwork/csi/handle"
	"mynetwork.io/mynetwork/csi/request"
)

// ControllerGetVolumeHealth implements csi.ControllerServer.
func (d *Controller) ControllerGetVolumeHealth(ctx context.Context, r *csi.ControllerGetVolumeHealthRequest) (*csi.ControllerGetVolumeHealthResponse, error) {
	if r.VolumeId == "" {
		return nil, request.Invalid("no volume id")
	}
	h, err := handle.ParseVolume(r.VolumeId)
	if err != nil {
		return nil, err
	}
	_, v, err := request.Find(ctx, d.cfg.Agents, h)
	if err != nil {
		return nil, err
	}
	return &csi.ControllerGetVolumeHealthResponse{VolumeHealth: &csi.VolumeHealth{VolumeId: h.String(), HealthStatuses: request.HealthOf(v)}}, nil
}

// ControllerListVolumeHealth implements csi.ControllerServer. It lists volumes with something against their health.
func (d *Controller) ControllerListVolumeHealth(ctx context.Context, r *csi.ControllerListVolumeHealthRequest) (*csi.ControllerListVolumeHealthResponse, error) {
	if r.StartingToken != "" {
		if _, err := handle.ParseVolume(r.StartingToken); err != nil {
			return nil, fmt.Errorf("starting token %q: %w", r.StartingToken, request.ErrToken)
		}
	}
	networks, err := d.cfg.Agents.Networks(ctx)
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	var all []*csi.VolumeHealth
	for _, n := range networks {
		states, _, err := d.survey(ctx, n.ID)
		if err != nil {
			return nil, err
		}
		for _, s := range states {
			for _, v := range s.Volumes {
				if bad := request.HealthOf(v); len(bad) > 0 {
					all = append(all, &csi.VolumeHealth{VolumeId: handle.Volume{Network: n.ID, ID: v.Id}.String(), HealthStatuses: bad})
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b *csi.VolumeHealth) int { return strings.Compare(a.VolumeId, b.VolumeId) })
	// Two nodes may both have had it open: the first, which is enough to look closer.
	all = slices.CompactFunc(all, func(a, b *csi.VolumeHealth) bool { return a.VolumeId == b.VolumeId })
	part, next, err := paged(all, (*csi.VolumeHealth).GetVolumeId, r.MaxEntries, r.StartingToken)
	if err != nil {
		return nil, err
	}
	return &csi.ControllerListVolumeHealthResponse{Entries: part, NextToken: next}, nil
}
