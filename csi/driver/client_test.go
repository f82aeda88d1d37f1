package driver_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
	"mynetwork.io/mynetwork/csi/driver"
)

// client speaks to a served driver.
type client struct {
	*world
	csi.ControllerClient
	csi.GroupControllerClient
	csi.NodeClient
	ctx    context.Context
	socket string
}

func dial(t *testing.T, change func(c *driver.Config)) *client {
	t.Helper()
	w := newWorld(t, change)
	socket := w.serve()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &client{w, csi.NewControllerClient(conn), csi.NewGroupControllerClient(conn), csi.NewNodeClient(conn), context.Background(), socket}
}

// must ends the test on an error.
func (c *client) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// want checks the code of an error, and that it says something.
func (c *client) want(code codes.Code, says string, err error) {
	c.t.Helper()
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), says) {
		c.t.Errorf("got %v, want %s with %q", err, code, says)
	}
}

func (c *client) create(name string) string {
	c.t.Helper()
	r, err := c.CreateVolume(c.ctx, creation(name, false))
	c.must(err)
	return r.Volume.VolumeId
}

func (c *client) agent(node string) agentv1.AgentClient {
	c.t.Helper()
	a, err := c.cfg.Agents.Agent(c.ctx, network, node)
	c.must(err)
	return a
}

func own(handle string) string { return handle[strings.IndexByte(handle, '.')+1:] }

func (c *client) attach(node, id string) {
	c.t.Helper()
	_, err := c.agent(node).AttachVolume(c.ctx, &agentv1.AttachVolumeRequest{Volume: own(id)})
	c.must(err)
}

func (c *client) inspect(id string) *agentv1.Volume {
	c.t.Helper()
	v, err := c.agent("n1").InspectVolume(c.ctx, &agentv1.InspectVolumeRequest{Volume: own(id)})
	c.must(err)
	return v
}

func (c *client) path(name string) string { return filepath.Join(c.root, name) }

func (c *client) stage(ctx context.Context, id string) error {
	c.t.Helper()
	c.mkdir("stage")
	_, err := c.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: c.path("stage"), VolumeCapability: writer(false)})
	return err
}
