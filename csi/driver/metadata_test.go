package driver_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	agentv1 "mynetwork.io/mynetwork/api/agent/v1"
)

// metadata is a client of the service.
func (c *client) metadata() csi.SnapshotMetadataClient {
	c.t.Helper()
	conn, err := grpc.NewClient("unix://"+c.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	c.must(err)
	c.t.Cleanup(func() { _ = conn.Close() })
	return csi.NewSnapshotMetadataClient(conn)
}

// told gathers a stream, and checks what the specification says of each message and between them.
func told[M interface {
	GetBlockMetadataType() csi.BlockMetadataType
	GetVolumeCapacityBytes() int64
	GetBlockMetadata() []*csi.BlockMetadata
}](c *client, from int64, most int, recv func() (M, error), err error) (out []string, messages int, _ error) {
	c.t.Helper()
	c.must(err)
	end := int64(0)
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return out, messages, nil
		}
		if err != nil {
			return out, messages, err
		}
		messages++
		if m.GetBlockMetadataType() != csi.BlockMetadataType_VARIABLE_LENGTH || m.GetVolumeCapacityBytes() != 64<<20 || most > 0 && len(m.GetBlockMetadata()) > most {
			c.t.Errorf("message %v", m)
		}
		for _, b := range m.GetBlockMetadata() {
			if b.ByteOffset < end || b.ByteOffset+b.SizeBytes <= from {
				c.t.Errorf("range %v after byte %d, from %d", b, end, from)
			}
			end = b.ByteOffset + b.SizeBytes
			out = append(out, fmt.Sprint(b.ByteOffset, "+", b.SizeBytes))
		}
	}
}

// TestMetadata: what agents tell of snapshots is passed on whole, in messages of the size wanted; what cannot be asked is refused with the
// specification's codes. That what agents tell is right is TestBlocks of nodeagent/agent.
func TestMetadata(t *testing.T) {
	c := dial(t, nil)
	id := c.create("v")
	c.attach("n2", id)
	var s []string
	for _, name := range []string{"one", "two"} {
		r, err := c.CreateSnapshot(c.ctx, &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: id})
		c.must(err)
		s = append(s, r.Snapshot.SnapshotId)
	}
	other := c.create("w")
	r, err := c.CreateSnapshot(c.ctx, &csi.CreateSnapshotRequest{Name: "of another", SourceVolumeId: other})
	c.must(err)
	foreign := r.Snapshot.SnapshotId
	last := func(h string) string { return h[strings.LastIndexByte(h, '.')+1:] }
	c.net.Ranges(last(s[0]), "", &agentv1.BlockRange{Offset: 4096, Length: 8192}, &agentv1.BlockRange{Offset: 1 << 20, Length: 4096}, &agentv1.BlockRange{Offset: 2 << 20, Length: 4096})
	c.net.Ranges(last(s[1]), last(s[0]), &agentv1.BlockRange{Offset: 8192, Length: 4096})
	m := c.metadata()
	allocated := func(q *csi.GetMetadataAllocatedRequest) ([]string, int, error) {
		stream, err := m.GetMetadataAllocated(c.ctx, q)
		return told(c, q.StartingOffset, int(q.MaxResults), stream.Recv, err)
	}
	delta := func(q *csi.GetMetadataDeltaRequest) ([]string, int, error) {
		stream, err := m.GetMetadataDelta(c.ctx, q)
		return told(c, q.StartingOffset, int(q.MaxResults), stream.Recv, err)
	}
	got, messages, err := allocated(&csi.GetMetadataAllocatedRequest{SnapshotId: s[0], MaxResults: 2})
	c.must(err)
	if !slices.Equal(got, []string{"4096+8192", "1048576+4096", "2097152+4096"}) || messages != 2 {
		t.Errorf("allocated: %v in %d messages", got, messages)
	}
	if got, _, err = allocated(&csi.GetMetadataAllocatedRequest{SnapshotId: s[0], StartingOffset: 1 << 20}); err != nil || len(got) != 2 {
		t.Errorf("allocated from 1 MiB: %v, %v", got, err)
	}
	if got, messages, err = allocated(&csi.GetMetadataAllocatedRequest{SnapshotId: foreign}); err != nil || len(got) != 0 || messages != 1 {
		t.Errorf("of nothing: %v in %d messages, %v", got, messages, err)
	}
	if got, _, err = delta(&csi.GetMetadataDeltaRequest{BaseSnapshotId: s[0], TargetSnapshotId: s[1]}); err != nil || !slices.Equal(got, []string{"8192+4096"}) {
		t.Errorf("delta: %v, %v", got, err)
	}
	gone := s[0][:len(s[0])-4] + "0000"
	for _, bad := range []struct {
		code codes.Code
		says string
		q    *csi.GetMetadataAllocatedRequest
	}{
		{codes.InvalidArgument, "no snapshot id", &csi.GetMetadataAllocatedRequest{}},
		{codes.NotFound, "not an id", &csi.GetMetadataAllocatedRequest{SnapshotId: "../x"}},
		{codes.NotFound, "not found", &csi.GetMetadataAllocatedRequest{SnapshotId: gone}},
		{codes.OutOfRange, "byte -1", &csi.GetMetadataAllocatedRequest{SnapshotId: s[0], StartingOffset: -1}},
		{codes.OutOfRange, "byte", &csi.GetMetadataAllocatedRequest{SnapshotId: s[0], StartingOffset: 64<<20 + 1}},
		{codes.InvalidArgument, "at most -1", &csi.GetMetadataAllocatedRequest{SnapshotId: s[0], MaxResults: -1}},
	} {
		_, _, err := allocated(bad.q)
		c.want(bad.code, bad.says, err)
	}
	for _, bad := range []struct {
		code codes.Code
		says string
		q    *csi.GetMetadataDeltaRequest
	}{
		{codes.InvalidArgument, "between two", &csi.GetMetadataDeltaRequest{TargetSnapshotId: s[0]}},
		{codes.InvalidArgument, "between two", &csi.GetMetadataDeltaRequest{BaseSnapshotId: s[0]}},
		{codes.InvalidArgument, "another volume", &csi.GetMetadataDeltaRequest{BaseSnapshotId: foreign, TargetSnapshotId: s[0]}},
		{codes.NotFound, "not found", &csi.GetMetadataDeltaRequest{BaseSnapshotId: gone, TargetSnapshotId: s[1]}},
		{codes.NotFound, "not an id", &csi.GetMetadataDeltaRequest{BaseSnapshotId: "x", TargetSnapshotId: s[1]}},
		{codes.OutOfRange, "byte", &csi.GetMetadataDeltaRequest{BaseSnapshotId: s[0], TargetSnapshotId: s[1], StartingOffset: 1 << 40}},
	} {
		_, _, err := delta(bad.q)
		c.want(bad.code, bad.says, err)
	}
}
