package driver_test

import (
	"context"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mynetwork.io/mynetwork/csi/request"
)

// TestDeletionIsFinal: once a volume is deleted it is reported so, also while agents cannot free its space everywhere; before,
// it is not.
func TestDeletionIsFinal(t *testing.T) {
	c := dial(t, nil)
	id := c.create("v")
	after := true
	c.net.Fault = func(_ context.Context, _, method, _ string, now bool) error {
		if method == "DeleteVolume" && now == after {
			return status.Error(codes.FailedPrecondition, "no grant")
		}
		return nil
	}
	remove := func() error {
		_, err := c.DeleteVolume(c.ctx, &csi.DeleteVolumeRequest{VolumeId: id})
		return err
	}
	after = false // the control: it is refused and not deleted
	c.want(codes.FailedPrecondition, "no grant", remove())
	after = true
	c.want(codes.FailedPrecondition, "no grant", remove()) // deleted, but nobody said so yet
	after = false
	c.must(remove())
}

// TestCapacityOfYoungNetwork: a network that is starting has no capacity to report; 0 would stand until the next question.
func TestCapacityOfYoungNetwork(t *testing.T) {
	c := dial(t, nil)
	ask := func(copies string) (*csi.GetCapacityResponse, error) {
		return c.GetCapacity(c.ctx, &csi.GetCapacityRequest{Parameters: map[string]string{request.ParamNetwork: named, request.ParamCopies: copies}})
	}
	_, err := ask("4")
	c.want(codes.Unavailable, "3 nodes", err)
	r, err := ask("3")
	c.must(err)
	if r.AvailableCapacity <= 0 {
		t.Errorf("three nodes have %d bytes", r.AvailableCapacity)
	}
}
