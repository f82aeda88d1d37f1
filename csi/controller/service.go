package controller

import (
	"log/slog"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"mynetwork.io/mynetwork/csi/request"
)

// Config is what a Controller works with.
type Config struct {
	Agents   request.Agents   // required
	Barrier  request.Barrier  // nil: no group snapshots
	Modifier request.Modifier // nil: no VolumeAttributesClass
	Topology bool             // volumes tell by their network's key where they can be used, if that is asked for
	Log      *slog.Logger     // required
}

// Controller implements the services. Make one with New.
type Controller struct {
	csi.UnimplementedControllerServer
	csi.UnimplementedGroupControllerServer
	csi.UnimplementedSnapshotMetadataServer
	cfg    Config
	flight request.Flight
}

var (
	_ csi.ControllerServer       = (*Controller)(nil)
	_ csi.GroupControllerServer  = (*Controller)(nil)
	_ csi.SnapshotMetadataServer = (*Controller)(nil)
)

// New makes a Controller.
func New(c Config) *Controller { return &Controller{cfg: c} }
