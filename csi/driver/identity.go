package driver

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// GetPluginInfo implements csi.IdentityServer.
func (d *Driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	version := d.cfg.Version
	if version == "" {
		version = "unknown"
	}
	return &csi.GetPluginInfoResponse{Name: Name, VendorVersion: version}, nil
}

// GetPluginCapabilities implements csi.IdentityServer.
func (d *Driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	out := &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{{Type: &csi.PluginCapability_VolumeExpansion_{
		VolumeExpansion: &csi.PluginCapability_VolumeExpansion{Type: csi.PluginCapability_VolumeExpansion_ONLINE}}}}}
	service := func(t csi.PluginCapability_Service_Type) {
		out.Capabilities = append(out.Capabilities, &csi.PluginCapability{Type: &csi.PluginCapability_Service_{
			Service: &csi.PluginCapability_Service{Type: t}}})
	}
	if d.cfg.Controller {
		service(csi.PluginCapability_Service_CONTROLLER_SERVICE)
		service(csi.PluginCapability_Service_SNAPSHOT_METADATA_SERVICE)
	}
	if d.cfg.Topology {
		service(csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS)
	}
	if d.cfg.Controller && d.cfg.Barrier != nil {
		service(csi.PluginCapability_Service_GROUP_CONTROLLER_SERVICE)
	}
	return out, nil
}

// Probe implements csi.IdentityServer. The driver is well when it answers: an agent that is away is waited for in the
// calls that need it, and is no reason to start the driver again.
func (d *Driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}
